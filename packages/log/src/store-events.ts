import type { DazzleError, GroupVersionRow } from "@dazzle/core";
import type { PendingSegment } from "./pending-segment.ts";

/** Counted since the writer was made. */
export interface WriterCounters {
  /** Sealed. */
  segments: number;
  /** Of their payloads. */
  bytes: number;
  /** Fragments that servers accepted. */
  stores: number;
  syncs: number;
  /** Segments stored as equal copies. */
  mirrored: number;
  /** Segments written again, under another group version or in another group. */
  rewritten: number;
  /** Those of them that were written in another group. */
  moved: number;
  /** Servers that this writer left out of its group. */
  regroups: number;
}

/** What the queue tells its writer. */
export interface StoreQueueEvents {
  /** In sequence order, once each. */
  stable(segment: PendingSegment): void;
  /** Nothing refers to the segment's buffer any more. */
  released(segment: PendingSegment): void;
  /** A set of fragments under an older version, or in another group, was given up, maybe stored in part. */
  superseded(sequence: number, group: number, row: GroupVersionRow): void;
  /** Nothing can ever be stored again. */
  failed(error: DazzleError): void;
}
