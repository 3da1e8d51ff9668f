import type { FragmentKey, SegmentClass } from "../../layouts/fragment-header.ts";
import type { ClusterMap } from "../../map/cluster-map.ts";
import { type Empty, message } from "./row.ts";

/** How far a server's stores are on disk: whatever was stored under `boot` with a ticket up to `durable`. */
export interface Durability {
  readonly boot: string;
  readonly durable: number;
}

export interface ListedFragment {
  readonly log: number;
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  readonly index: number;
  readonly dataFragments: number;
  readonly parityFragments: number;
  readonly payloadBytes: number;
  readonly dataBytes: number;
  /** Bytes that the server has stored since it, of whatever log: how old it is, by a clock that stands while nothing is written. */
  readonly bytesSince: number;
  /** Where the payload's summary begins. */
  readonly summaryOffset: number;
}

export interface StoreStatus {
  readonly store: string;
  readonly boot: string;
  readonly bytesTotal: number;
  readonly bytesFree: number;
  /** Free bytes that data may still take, promised ones included. */
  readonly bytesForData: number;
  readonly bytesUsed: number;
  readonly bytesReserved: number;
  readonly fragments: number;
  readonly damaged: number;
  /** For how long its disk has not done what was asked, or failed at it; 0 while it does. */
  readonly stalledMs: number;
}

export interface ReadRequest {
  readonly log: number;
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  readonly index: number;
  readonly offset: number;
  readonly length: number;
}

export interface ReadReply {
  readonly index: number;
  readonly offset: number;
  readonly length: number;
  readonly groupVersion: number;
  readonly dataFragments: number;
  readonly parityFragments: number;
  readonly fragmentBytes: number;
  readonly payloadBytes: number;
  readonly summaryOffset: number;
}

const READ_FIELDS = {
  request: ["log", "sequence", "group", "groupVersion", "index", "offset", "length"],
  reply: [
    "index",
    "offset",
    "length",
    "groupVersion",
    "dataFragments",
    "parityFragments",
    "fragmentBytes",
    "payloadBytes",
    "summaryOffset",
  ],
} as const;

/** What storage servers answer. Tails are named beside the rows that have one. */
export const StorageMessage = {
  /** Tail: the fragment's header and its data. `sync`: answer when it is on disk. `ticket` grows with every store of a boot. */
  store: message<{ class: SegmentClass; sync: boolean }, Durability & { ticket: number }>({
    id: 10,
    since: 1,
    request: ["class", "sync"],
    reply: ["boot", "durable", "ticket"],
    idempotent: true,
  }),
  /** As `store`, by another than the writer: of a log that is not live (rules 9 and 12), what of a live one is trimmed, or what a frozen version held. Always on disk when it answers. */
  restore: message<Empty, Durability & { ticket: number }>({
    id: 11,
    since: 1,
    request: [],
    reply: ["boot", "durable", "ticket"],
    idempotent: true,
  }),
  /** What the server has of these segments under version `from` of a group it has under `to`, the current one, as well from then on, without storing it again: as `restore` of the same
   * fragments, where both versions have the server at their places. Answers of which segments it has something under `to` now. On disk when it answers. */
  carry: message<
    { log: number; sequences: readonly number[]; group: number; from: number; to: number; stableSequence: number; trimmedTo: number },
    { carried: readonly number[] }
  >({
    id: 103,
    since: 1,
    request: ["log", "sequences", "group", "from", "to", "stableSequence", "trimmedTo"],
    reply: ["carried"],
    idempotent: true,
  }),
  /** Part of a stored fragment's data: `offset` and `length` in the fragment, cut to whole 4 KiB blocks and to its end.
   * `index` -1: whichever fragment of the segment it has, and then `offset` and `length` count in the payload; `offset` -1: the summary.
   * `groupVersion` -1: under any version. The reply's tail is the checksums (4 bytes each) of the blocks answered, then
   * the blocks; `offset` is where they start in the fragment. Length 0: only the geometry.
   * Rejects `fragmentMissing`, `fragmentDamaged`, and `diskFailed` where it can't be read now. */
  read: message<ReadRequest, ReadReply>({ id: 12, since: 1, ...READ_FIELDS, idempotent: true }),
  /** As `read`, by who moves segments: nobody yields to it. */
  readToMove: message<ReadRequest, ReadReply>({ id: 104, since: 1, ...READ_FIELDS, idempotent: true }),
  /** Deletes whole segments. `trimmedTo` is made durable first; sequences above it are refused (`invalid`). `group` and `groupVersion`: only what is stored under that version of that group; -1
   * for both: all. */
  delete: message<{ log: number; sequences: readonly number[]; trimmedTo: number; group: number; groupVersion: number }, Empty>({
    id: 78,
    since: 1,
    request: ["log", "sequences", "trimmedTo", "group", "groupVersion"],
    reply: [],
    idempotent: true,
  }),
  /** Fragments of a log above `after`, ascending, a page of at most `limit` sequences; `more`: there is another page.
   * Everything listed is on disk. `stableSequence` and `trimmedTo` are the highest that any held header or `delete` told. `vouched`: what is not listed is not stored; false where
   * something of the log may have rotted so that nobody can tell what it was. */
  list: message<
    { log: number; after: number; limit: number },
    { fragments: readonly ListedFragment[]; more: boolean; stableSequence: number; trimmedTo: number; vouched: boolean; boot: string }
  >({
    id: 113,
    since: 1,
    request: ["log", "after", "limit"],
    reply: ["fragments", "more", "stableSequence", "trimmedTo", "vouched", "boot"],
    idempotent: true,
    tables: {
      fragments: [
        "log",
        "sequence",
        "group",
        "groupVersion",
        "index",
        "dataFragments",
        "parityFragments",
        "payloadBytes",
        "dataBytes",
        "bytesSince",
        "summaryOffset",
      ] satisfies (keyof ListedFragment)[],
    },
  }),
  /** Makes the map durable here, syncs everything, and answers. Never goes back: an older one is answered with the newer version. */
  adopt: message<{ map: ClusterMap }, { version: number; store: string; boot: string }>({
    id: 15,
    since: 1,
    request: ["map"],
    reply: ["version", "store", "boot"],
    idempotent: true,
  }),
  /** Answers when everything stored under `boot` up to `ticket` is on disk; rejects `bootChanged`. */
  sync: message<{ boot: string; ticket: number }, Durability>({
    id: 16,
    since: 1,
    request: ["boot", "ticket"],
    reply: ["boot", "durable"],
    idempotent: true,
  }),
  stat: message<Empty, StoreStatus>({
    id: 79,
    since: 1,
    request: [],
    reply: ["store", "boot", "bytesTotal", "bytesFree", "bytesForData", "bytesUsed", "bytesReserved", "fragments", "damaged", "stalledMs"],
    idempotent: true,
  }),
  /** Space credits (rule 8): promises `log` that it may store so many more bytes of class data. `granted` is what it holds now, at most `bytes`. */
  reserve: message<{ log: number; bytes: number }, { granted: number; boot: string }>({
    id: 18,
    since: 1,
    request: ["log", "bytes"],
    reply: ["granted", "boot"],
    idempotent: true,
  }),
  /** Somebody read what does not match its checksums from this fragment: the server looks at it by itself, soon, and repairs it where it is damaged. */
  verifyFragment: message<FragmentKey, Empty>({
    id: 75,
    since: 1,
    request: ["log", "sequence", "group", "groupVersion", "index"],
    reply: [],
    idempotent: true,
  }),
  /** Begins to verify everything that is stored by now, at once and fast; `pass`: its number, as `status` tells it. */
  scrub: message<Empty, { pass: number }>({ id: 76, since: 1, request: [], reply: ["pass"], idempotent: true }),
  /** The logs a store holds anything of. */
  listLogs: message<Empty, { logs: readonly number[] }>({ id: 19, since: 1, request: [], reply: ["logs"], idempotent: true }),
} as const;
