import { DazzleError, type DecodedFragmentHeader, type FragmentHeader, type FragmentKey, type ListedFragment } from "@dazzle/core";
import { RECORD_HEADER, recordSpace } from "./record-header.ts";

/** A stored fragment as the index has it: its key, its place, its stripe. */
export interface Entry extends FragmentKey {
  readonly volume: number;
  readonly offset: number;
  /** Of the fragment's header, with its block checksums. */
  readonly headerBytes: number;
  readonly dataBytes: number;
  readonly dataFragments: number;
  readonly parityFragments: number;
  readonly fragmentBytes: number;
  readonly payloadBytes: number;
  readonly summaryOffset: number;
}

export function makeEntry(decoded: DecodedFragmentHeader, volume: number, offset: number): Entry {
  const { header } = decoded;
  return {
    log: header.log,
    sequence: header.sequence,
    group: header.group,
    groupVersion: header.groupVersion,
    index: header.index,
    volume,
    offset,
    headerBytes: decoded.headerBytes,
    dataBytes: decoded.dataBytes,
    dataFragments: header.dataFragments,
    parityFragments: header.parityFragments,
    fragmentBytes: header.fragmentBytes,
    payloadBytes: header.payloadBytes,
    summaryOffset: header.summaryOffset,
  };
}

/** As the message `list` has it. */
export function listed(entry: Entry, bytesSince: number): ListedFragment {
  const { log, sequence, group, groupVersion, index, dataFragments, parityFragments, payloadBytes, dataBytes, summaryOffset } = entry;
  return { log, sequence, group, groupVersion, index, dataFragments, parityFragments, payloadBytes, dataBytes, bytesSince, summaryOffset };
}

/** Bytes of a volume that the entry's record takes. */
export function spaceOf(entry: Entry): number {
  return recordSpace(RECORD_HEADER.end + entry.headerBytes + entry.dataBytes);
}

/** Bytes of a volume, whole records. */
export function rangeOfRecord(entry: Entry): { readonly volume: number; readonly offset: number; readonly bytes: number } {
  return { volume: entry.volume, offset: entry.offset, bytes: spaceOf(entry) };
}

export function samePlace(one: Entry, other: Entry): boolean {
  return one.volume === other.volume && one.offset === other.offset;
}

/** Whether a header is of this fragment, under whichever group version it was stored: what is carried over to another one keeps its record. */
export function isHeaderOf(header: FragmentHeader, entry: Entry): boolean {
  return (
    sameKey({ ...header, groupVersion: entry.groupVersion }, entry) &&
    header.dataFragments === entry.dataFragments &&
    header.parityFragments === entry.parityFragments &&
    header.fragmentBytes === entry.fragmentBytes &&
    header.payloadBytes === entry.payloadBytes
  );
}

export function keyOf({ log, sequence, group, groupVersion, index }: FragmentKey): FragmentKey {
  return { log, sequence, group, groupVersion, index };
}

export function sameKey(one: FragmentKey, other: FragmentKey): boolean {
  return (
    one.log === other.log &&
    one.sequence === other.sequence &&
    one.group === other.group &&
    one.groupVersion === other.groupVersion &&
    one.index === other.index
  );
}

export function nameOf(key: FragmentKey): string {
  return `fragment ${key.log}/${key.sequence}/${key.index} of group ${key.group} version ${key.groupVersion}`;
}

export function fragmentMissing(key: FragmentKey): DazzleError {
  return new DazzleError("fragmentMissing", `${nameOf(key)} is not here`);
}
