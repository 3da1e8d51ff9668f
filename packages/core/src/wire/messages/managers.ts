import { type Empty, message } from "./row.ts";

/** What managers answer to mounts. `mount` is the mount's log. Tails are named beside the rows that have one. */
export const ManagerMessage = {
  /** A mount says that it is there, before it asks for anything. Tells of every slot that is served here how far its log is applied
   * and stable there. */
  openMount: message<{ mount: number }, { leaseMs: number } & SlotsProgress>({
    id: 42,
    since: 1,
    request: ["mount"],
    reply: ["leaseMs", "slots", "applied", "stable", "terms"],
    idempotent: true,
  }),
  /** Takes a token. `grant` is the manager's count of revokes when it granted it (see `revoke`); `open`: another mount has the
   * file open, so that it outlives its last name. Tail of the reply: the index node. Rejects `notFound`. */
  acquire: message<{ mount: number; ino: number; exclusive: boolean }, { exclusive: boolean; grant: number; open: boolean }>({
    id: 93,
    since: 1,
    request: ["mount", "ino", "exclusive"],
    reply: ["exclusive", "grant", "open"],
    idempotent: true,
  }),
  /** Takes a token of a part of a file, for a mount that writes regions `from <= region < to` of it: a range around those, as wide as nobody else
   * has any of. All of the file (0 to WHOLE_FILE's end) is the exclusive token. Whatever range the mount had before is
   * taken back first. Tail, `grant`, `open` and errors as for `acquire`. */
  acquireRange: message<
    { mount: number; ino: number; from: number; to: number },
    { readonly from: number; readonly to: number; readonly grant: number; readonly open: boolean }
  >({
    id: 20,
    since: 1,
    request: ["mount", "ino", "from", "to"],
    reply: ["from", "to", "grant", "open"],
    idempotent: true,
  }),
  /** The mount has closed these files, of which it had said that they were open, or which have no name any more. */
  closed: message<{ mount: number; inos: readonly number[] }, Empty>({
    id: 48,
    since: 1,
    request: ["mount", "inos"],
    reply: [],
    idempotent: true,
  }),
  release: message<{ mount: number; inos: readonly number[] }, Empty>({
    id: 32,
    since: 1,
    request: ["mount", "inos"],
    reply: [],
    idempotent: true,
  }),
  /** A look at attributes, by a mount that has no token of the object, or one of a part of it. Where other mounts are changing it, those are asked, and keep
   * their tokens: `granted` is false, and the tail begins with the index node as it is there at that time. Else a token comes with it, as for `acquire`. Behind it come
   * index nodes that are likely to be looked at next, with shared tokens. */
  peek: message<
    { mount: number; ino: number },
    { readonly granted: boolean; readonly exclusive: boolean; readonly grant: number; readonly open: boolean }
  >({
    id: 59,
    since: 1,
    request: ["mount", "ino"],
    reply: ["granted", "exclusive", "grant", "open"],
    idempotent: true,
  }),
  /** A name of a directory, under the directory's token: `tokenLost` where the mount has none. Answers `child` 0 where there is
   * none. Where the child's shard is at the same manager and no other mount is in the way, a token on the child comes
   * with it, and the tail is its index node. */
  lookup: message<{ mount: number; ino: number; name: string }, { child: number; type: number; exclusive: boolean; grant: number }>({
    id: 94,
    since: 1,
    request: ["mount", "ino", "name"],
    reply: ["child", "type", "exclusive", "grant"],
    idempotent: true,
  }),
  /** A directory's entries by name, after `after` (""), at most `limit`, under the directory's token as for `lookup`. Tail: `packEntries`, with
   * index nodes and tokens (exclusive for all of them or shared for all) where `inodes` is asked, the child's shard is at the
   * same manager and no other mount is in the way. */
  entries: message<
    { mount: number; ino: number; after: string; limit: number; inodes: boolean },
    { more: boolean; exclusive: boolean; grant: number }
  >({
    id: 95,
    since: 1,
    request: ["mount", "ino", "after", "limit", "inodes"],
    reply: ["more", "exclusive", "grant"],
    idempotent: true,
  }),
  /** What changed in a directory since the revoke of count `since`, by which the mount gave it back last, under its token as for `lookup`.
   * `known`: false where the manager can't tell. Tail: `packEntries`, the last change of each name, with child 0 where it is gone. */
  nameChanges: message<{ mount: number; ino: number; since: number }, { known: boolean }>({
    id: 96,
    since: 1,
    request: ["mount", "ino", "since"],
    reply: ["known"],
    idempotent: true,
  }),
  /** Extents of blocks `from <= block < to`. Tail: `packExtents`, ascending. `caches`: where other mounts answer `peerRead` that hold a token of the
   * file, and so may have its bytes in memory. */
  extents: message<{ mount: number; ino: number; from: number; to: number }, { caches: readonly string[] }>({
    id: 92,
    since: 1,
    request: ["mount", "ino", "from", "to"],
    reply: ["caches"],
    idempotent: true,
  }),
  /** Where the mount answers `peerRead`. */
  answersAt: message<{ mount: number; address: string }, Empty>({
    id: 70,
    since: 1,
    request: ["mount", "address"],
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
  /** Renews the mount's lease, tells how far its log is trimmed, learns what is stable, of every slot that is served here. `settle`: wait until all
   * applied is stable. */
  renew: message<{ mount: number; trimmedTo: number; settle: boolean }, { leaseMs: number } & SlotsProgress>({
    id: 43,
    since: 1,
    request: ["mount", "trimmedTo", "settle"],
    reply: ["leaseMs", "slots", "applied", "stable", "terms"],
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
  /** What a mount holds in a slot that this manager opens under `term` (see `slotOpening`): index numbers that it has exclusively, and shared; ranges
   * of files, as an index number and the regions from and to; files that it has open without a token; and leased numbers that it has not used, as pairs of the first and how many. In pages: `page` 0
   * begins anew, and after the last one (`more` is false) the mount is not waited for any more. Before that one, everything it did in the slot
   * under tokens that are gone is applied here. Rejects `staleMap` under another term. */
  claims: message<
    {
      mount: number;
      slot: number;
      term: number;
      page: number;
      more: boolean;
      exclusive: readonly number[];
      shared: readonly number[];
      ranges: readonly number[];
      opens: readonly number[];
      numbers: readonly number[];
    },
    Empty
  >({
    id: 21,
    since: 1,
    request: ["mount", "slot", "term", "page", "more", "exclusive", "shared", "ranges", "opens", "numbers"],
    reply: [],
    idempotent: true,
  }),

  // Between managers, and from tools.

  /** Which segments of a log the asked manager's slots need; `low` and `high`: by sequence, the slots whose shards may have live bytes of it, a bit
   * each. It speaks for `slots`, under these `terms`, and with the map of that version; what it does not need is emptied stably, for ever.
   * `trimmedTo`: up to where the log is trimmed, as far as it knows. */
  liveAmong: message<
    { log: number; sequences: readonly number[]; low: readonly number[]; high: readonly number[] },
    { version: number; trimmedTo: number; live: readonly number[]; slots: readonly number[]; terms: readonly number[] }
  >({
    id: 80,
    since: 1,
    request: ["log", "sequences", "low", "high"],
    reply: ["version", "trimmedTo", "live", "slots", "terms"],
    idempotent: true,
  }),
  /** Which slots of the asked manager, under which terms, have everything of a mount's log durably that ended at `end`; of a cleaner's log, into which slots nothing is moved any more. */
  settled: message<{ log: number; end: number }, { version: number; slots: readonly number[]; terms: readonly number[] }>({
    id: 81,
    since: 1,
    request: ["log", "end"],
    reply: ["version", "slots", "terms"],
    idempotent: true,
  }),

  /** Moves a slot to another manager while it is used: any member forwards it. Answered when the slot is open there. */
  moveSlot: message<{ slot: number; member: number }, Empty>({
    id: 82,
    since: 1,
    request: ["slot", "member"],
    reply: [],
    idempotent: true,
  }),
  /** The new owner asks the old one: stop serving these slots, and hand them over in the map to the member whose incarnation has `log`,
   * with the stable end of what is logged of them. Answered when the map says so. Rejects `staleMap` where a slot is not there. */
  yieldSlots: message<{ slots: readonly number[]; member: number; log: number }, Empty>({
    id: 83,
    since: 1,
    request: ["slots", "member", "log"],
    reply: [],
    idempotent: true,
  }),
  /** Whether the incarnation that has `log` goes on; answers the log of the one that is there. */
  managerAlive: message<{ log: number }, { log: number }>({ id: 84, since: 1, request: ["log"], reply: ["log"], idempotent: true }),
  /** Asks the target of a move to fetch these slots from whoever has them. Answered when they are open there. */
  takeSlots: message<{ slots: readonly number[] }, Empty>({ id: 85, since: 1, request: ["slots"], reply: [], idempotent: true }),
  /** Of a stable segment's transaction the sections of `slots`, which lie one behind the other in the tail. `previous` is, by slot of `slots`, the
   * sequence that was shipped to that slot before (0: none), so that none is left out: `outOfOrder` where it is not applied there. `touchedLow` and
   * `touchedHigh`: all slots that the transaction concerns, at whatever manager, a bit each. Answers by slot of `slots` how far the log is
   * applied, and how far that is in the manager's stable log. Nothing is applied where it rejects: `staleMap` where a slot is not here. */
  ship: message<
    {
      mount: number;
      sequence: number;
      slots: readonly number[];
      previous: readonly number[];
      touchedLow: number;
      touchedHigh: number;
      group: number;
      groupVersion: number;
      trimmedTo: number;
    },
    { applied: readonly number[]; stable: readonly number[] }
  >({
    id: 90,
    since: 1,
    request: ["mount", "sequence", "slots", "previous", "touchedLow", "touchedHigh", "group", "groupVersion", "trimmedTo"],
    reply: ["applied", "stable"],
    idempotent: true,
  }),
} as const;

/** How far a log is, by slot of `slots`: applied, in the manager's stable log, and the term under which the slot is served. */
export interface SlotsProgress {
  readonly slots: readonly number[];
  readonly applied: readonly number[];
  readonly stable: readonly number[];
  readonly terms: readonly number[];
}
