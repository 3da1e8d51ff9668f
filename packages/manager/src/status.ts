import type { Manager } from "./manager.ts";
import type { WaitingSlots } from "./moving/slot-table.ts";

/** A manager's state, for people and for the dashboard: plain data. */
export interface ManagerStatus {
  readonly log: number;
  readonly state: string;
  readonly slots: number;
  /** Those that come, or stay after a move that failed, and are not served yet. */
  readonly slotsWaiting: readonly WaitingSlots[];
  readonly mounts: ReadonlyArray<{
    readonly log: number;
    readonly state: string;
    readonly connected: boolean;
    /** Since it was last heard of. */
    readonly silentMs: number;
    readonly applied: number;
    readonly stable: number;
    readonly trimmedTo: number;
    readonly counters: Readonly<Record<string, number>>;
  }>;
  readonly imap: {
    readonly memoryBytes: number;
    readonly cacheBytes: number;
    readonly cacheHits: number;
    readonly cacheMisses: number;
    readonly runs: number;
    readonly runEntries: number;
    readonly orphans: number;
  };
  readonly journal: { readonly stable: number; readonly trimmedTo: number; readonly appendedBytes: number };
  readonly counters: {
    readonly transactions: number;
    readonly waiting: number;
    readonly checkpoints: number;
    readonly merges: number;
    readonly tokens: number;
    readonly revokes: number;
    readonly locks: number;
    readonly lockWaits: number;
    readonly lockRecalls: number;
    readonly recovered: number;
    /** Slots that went to other managers. */
    readonly slotsGiven: number;
    readonly failovers: number;
    readonly deletedSegments: number;
    readonly deletionsWaiting: number;
  };
}

const NO_IMAP = { memoryBytes: 0, cacheBytes: 0, cacheHits: 0, cacheMisses: 0, runs: 0, runEntries: 0, orphans: 0 };

export function managerStatus(manager: Manager, nowMs: number): ManagerStatus {
  const { parts, journal, log, state } = manager;
  const base = {
    log,
    state,
    journal: { stable: journal.stableSequence, trimmedTo: journal.trimmedTo, appendedBytes: journal.appendedBytes },
  };
  const { host, table, mounts, cache, checkpointer, tokens, grants, locks, liveness } = parts;
  const imap = { ...NO_IMAP, cacheBytes: cache.bytes, cacheHits: cache.hits, cacheMisses: cache.misses };
  let slots = 0;
  for (const shard of host.shards) {
    slots++;
    imap.memoryBytes += shard.imap.memoryBytes;
    imap.orphans += shard.orphans.size;
    imap.runs += shard.imap.runs.length;
    for (const run of shard.imap.runs) for (const table of run.tables) imap.runEntries += table.entries;
  }
  return {
    ...base,
    slots,
    slotsWaiting: table.waiting,
    mounts: [...mounts.sessions].map((session) => {
      const { applied, stable, trimmedTo } = host.progress(session.log);
      const { counters, connected, state: sessionState } = session;
      return { log: session.log, state: sessionState, connected, silentMs: nowMs - session.heardMs, applied, stable, trimmedTo, counters };
    }),
    imap,
    counters: {
      transactions: host.transactions,
      waiting: host.waiting,
      checkpoints: checkpointer.checkpoints,
      merges: checkpointer.merges,
      tokens: tokens.size,
      revokes: grants.revokes,
      locks: locks.counts.held,
      lockWaits: locks.counts.waiting,
      lockRecalls: locks.recalls,
      recovered: mounts.recovered,
      slotsGiven: parts.yielder.moved,
      failovers: parts.others.failovers,
      deletedSegments: liveness.deleter.deleted,
      deletionsWaiting: liveness.deleter.waiting,
    },
  };
}
