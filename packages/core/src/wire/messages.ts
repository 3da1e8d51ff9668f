import type { SegmentClass } from "../layouts/fragment-header.ts";
import type { ClusterMap } from "../map/cluster-map.ts";

/** One message, one row: its number, the first protocol version that has it, the order of its fields on the wire, whether
 * trying it again is safe. The type parameters are the shapes; the field lists must name each field once. */
export interface MessageRow<Request, Reply> {
  readonly id: number;
  readonly since: number;
  readonly request: readonly (keyof Request & string)[];
  readonly reply: readonly (keyof Reply & string)[];
  readonly idempotent: boolean;
}

function message<Request, Reply>(row: MessageRow<Request, Reply>): MessageRow<Request, Reply> {
  return row;
}

export const PROTOCOL_VERSION = 1;

type Empty = Record<never, never>;

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
}

/** Numbers are never reused. Tails are named beside the rows that have one. */
export const Message = {
  hello: message<{ clusterId: string; protocol: number; member: number; process: string }, { clusterId: string; member: number }>({
    id: 1,
    since: 1,
    request: ["clusterId", "protocol", "member", "process"],
    reply: ["clusterId", "member"],
    idempotent: true,
  }),

  // The map's keepers.
  mapRead: message<Empty, { map: ClusterMap }>({ id: 2, since: 1, request: [], reply: ["map"], idempotent: true }),
  mapWrite: message<{ expected: number; map: ClusterMap }, Empty>({
    id: 3,
    since: 1,
    request: ["expected", "map"],
    reply: [],
    idempotent: false,
  }),

  // Storage servers.
  /** Tail: the fragment's header and its data. `sync`: answer when it is on disk. `ticket` grows with every store of a boot. */
  store: message<{ class: SegmentClass; sync: boolean }, Durability & { ticket: number }>({
    id: 10,
    since: 1,
    request: ["class", "sync"],
    reply: ["boot", "durable", "ticket"],
    idempotent: true,
  }),
  /** As `store`, of a log that is not live (PROTOCOL rules 9 and 12); always on disk when it answers. */
  restore: message<Empty, Durability & { ticket: number }>({
    id: 11,
    since: 1,
    request: [],
    reply: ["boot", "durable", "ticket"],
    idempotent: true,
  }),
  /** Part of a stored fragment's data: `offset` and `length` in the fragment, cut to whole 4 KiB blocks and to its end.
   * `index` -1: whichever fragment of the segment it has, and then `offset` and `length` count in the payload.
   * `groupVersion` -1: under any version. The reply's tail is the checksums (4 bytes each) of the blocks answered, then
   * the blocks; `offset` is where they start in the fragment. Length 0: only the geometry.
   * Rejects `fragmentMissing`. */
  read: message<
    { log: number; sequence: number; group: number; groupVersion: number; index: number; offset: number; length: number },
    {
      index: number;
      offset: number;
      length: number;
      groupVersion: number;
      dataFragments: number;
      parityFragments: number;
      fragmentBytes: number;
      payloadBytes: number;
      summaryOffset: number;
    }
  >({
    id: 12,
    since: 1,
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
    idempotent: true,
  }),
  /** Deletes whole segments. `trimmedTo` is made durable first; sequences above it are refused (`invalid`). `groupVersion`: only what is stored under that version; -1: all. */
  delete: message<{ log: number; sequences: readonly number[]; trimmedTo: number; groupVersion: number }, Empty>({
    id: 13,
    since: 1,
    request: ["log", "sequences", "trimmedTo", "groupVersion"],
    reply: [],
    idempotent: true,
  }),
  /** Fragments of a log above `after`, ascending, a page of at most `limit` sequences; `more`: there is another page.
   * Everything listed is on disk. `stableSequence` and `trimmedTo` are the highest that any held header or `delete` told. */
  list: message<
    { log: number; after: number; limit: number },
    { fragments: readonly ListedFragment[]; more: boolean; stableSequence: number; trimmedTo: number; boot: string }
  >({
    id: 14,
    since: 1,
    request: ["log", "after", "limit"],
    reply: ["fragments", "more", "stableSequence", "trimmedTo", "boot"],
    idempotent: true,
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
    id: 17,
    since: 1,
    request: [],
    reply: ["store", "boot", "bytesTotal", "bytesFree", "bytesUsed", "bytesReserved", "fragments", "damaged"],
    idempotent: true,
  }),
  /** Space credits (PROTOCOL rule 8): promises `log` that it may store so many more bytes of class data. `granted` is what it holds now, at most `bytes`. */
  reserve: message<{ log: number; bytes: number }, { granted: number; boot: string }>({
    id: 18,
    since: 1,
    request: ["log", "bytes"],
    reply: ["granted", "boot"],
    idempotent: true,
  }),
  /** The logs a store holds anything of. */
  listLogs: message<Empty, { logs: readonly number[] }>({ id: 19, since: 1, request: [], reply: ["logs"], idempotent: true }),

  // Managers, from mounts. `mount` is the mount's log.
  openMount: message<{ mount: number }, { leaseMs: number; applied: number; stable: number }>({
    id: 30,
    since: 1,
    request: ["mount"],
    reply: ["leaseMs", "applied", "stable"],
    idempotent: true,
  }),
  /** Takes a token. Tail of the reply: the index node. Rejects `notFound`. */
  acquire: message<{ mount: number; ino: number; exclusive: boolean }, { exclusive: boolean }>({
    id: 31,
    since: 1,
    request: ["mount", "ino", "exclusive"],
    reply: ["exclusive"],
    idempotent: true,
  }),
  release: message<{ mount: number; inos: readonly number[] }, Empty>({
    id: 32,
    since: 1,
    request: ["mount", "inos"],
    reply: [],
    idempotent: true,
  }),
  /** A name of a directory, under the directory's token. Answers `child` 0 where there is none. Where the child's shard is
   * at the same manager, a token on the child comes with it, and the tail is its index node. */
  lookup: message<{ mount: number; ino: number; name: string }, { child: number; type: number; exclusive: boolean }>({
    id: 33,
    since: 1,
    request: ["mount", "ino", "name"],
    reply: ["child", "type", "exclusive"],
    idempotent: true,
  }),
  /** A directory's entries by name, after `after` (""), at most `limit`. Tail: `packEntries`, with index nodes and tokens
   * (exclusive for all of them or shared for all) where `inodes` is asked and the child's shard is at the same manager. */
  entries: message<{ mount: number; ino: number; after: string; limit: number; inodes: boolean }, { more: boolean; exclusive: boolean }>({
    id: 34,
    since: 1,
    request: ["mount", "ino", "after", "limit", "inodes"],
    reply: ["more", "exclusive"],
    idempotent: true,
  }),
  /** Extents of blocks `from <= block < to`. Tail: `packExtents`, ascending. */
  extents: message<{ mount: number; ino: number; from: number; to: number }, Empty>({
    id: 35,
    since: 1,
    request: ["mount", "ino", "from", "to"],
    reply: [],
    idempotent: true,
  }),
  /** Extended attributes. Tail: `packAttributes`. */
  attributes: message<{ mount: number; ino: number }, Empty>({ id: 36, since: 1, request: ["mount", "ino"], reply: [], idempotent: true }),
  /** Leases index numbers of a slot: `first`, `first + SLOTS`, … `count` of them, with their exclusive tokens. Stable before it answers. */
  numbers: message<{ mount: number; slot: number; count: number }, { first: number; count: number }>({
    id: 37,
    since: 1,
    request: ["mount", "slot", "count"],
    reply: ["first", "count"],
    idempotent: true,
  }),
  /** A stable segment's transaction: the sections of the slots that this manager holds. Tail: the sections. `stable` is
   * the sequence up to which everything shipped is in the manager's stable log; `previous` is the sequence shipped
   * before this one (0: none), so that none is left out: `outOfOrder` where the manager has not applied it. */
  ship: message<
    { mount: number; sequence: number; previous: number; group: number; groupVersion: number; trimmedTo: number },
    { applied: number; stable: number }
  >({
    id: 38,
    since: 1,
    request: ["mount", "sequence", "previous", "group", "groupVersion", "trimmedTo"],
    reply: ["applied", "stable"],
    idempotent: true,
  }),
  /** Renews the mount's lease, tells how far its log is trimmed, learns what is stable. `settle`: wait until all applied is stable. */
  renew: message<{ mount: number; trimmedTo: number; settle: boolean }, { leaseMs: number; applied: number; stable: number }>({
    id: 39,
    since: 1,
    request: ["mount", "trimmedTo", "settle"],
    reply: ["leaseMs", "applied", "stable"],
    idempotent: true,
  }),
  /** A clean unmount: everything is trimmed up to `end`; the tokens are given back and the log is closed. */
  closeMount: message<{ mount: number; end: number }, Empty>({ id: 40, since: 1, request: ["mount", "end"], reply: [], idempotent: true }),
  /** What a mount says of itself, for `status`: counters by name. */
  report: message<{ mount: number; counters: Readonly<Record<string, number>> }, Empty>({
    id: 41,
    since: 1,
    request: ["mount", "counters"],
    reply: [],
    idempotent: true,
  }),

  // Mounts, from managers.
  /** Give a token back, or down to shared: what is dirty under it is stable and applied, and the kernel has dropped it, when this is answered. */
  revoke: message<{ ino: number; keepShared: boolean }, Empty>({
    id: 50,
    since: 1,
    request: ["ino", "keepShared"],
    reply: [],
    idempotent: true,
  }),
  /** For tests and tools: make everything durable that was done before (`dazzle sync`). */
  syncMount: message<Empty, { sequence: number }>({ id: 51, since: 1, request: [], reply: ["sequence"], idempotent: true }),

  // Any member.
  /** Whether it is certain that a process of that member's machine is gone. */
  vouchGone: message<{ process: string }, { gone: boolean }>({ id: 60, since: 1, request: ["process"], reply: ["gone"], idempotent: true }),
  /** Whether the member asked reaches a storage server's store, asked by a writer that does not (PROTOCOL rule 32). */
  reaches: message<{ member: number; store: string }, { reached: boolean }>({
    id: 61,
    since: 1,
    request: ["member", "store"],
    reply: ["reached"],
    idempotent: true,
  }),
  /** One role's state, for people: a JSON document. */
  status: message<Empty, { document: unknown }>({ id: 62, since: 1, request: [], reply: ["document"], idempotent: true }),
} as const;

export interface StoreStatus {
  readonly store: string;
  readonly boot: string;
  readonly bytesTotal: number;
  readonly bytesFree: number;
  readonly bytesUsed: number;
  readonly bytesReserved: number;
  readonly fragments: number;
  readonly damaged: number;
}

export type MessageName = keyof typeof Message;
export type Request<Name extends MessageName> =
  (typeof Message)[Name] extends MessageRow<infer Shape extends object, infer _Reply> ? Shape : never;
export type Reply<Name extends MessageName> =
  (typeof Message)[Name] extends MessageRow<infer _Request, infer Shape extends object> ? Shape : never;
