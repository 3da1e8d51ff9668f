import {
  type Clock,
  type ClusterMap,
  DazzleError,
  findLog,
  isDazzleError,
  type Limits,
  type Logger,
  type MapCache,
  type SlotMask,
  sleep,
} from "@dazzle/core";
import type { NamedEntry } from "../imap/imap.ts";
import type { RunCache } from "../imap/run-cache.ts";
import type { SegmentBytes } from "../imap/run-table.ts";
import { CHAIN_LONG, shortenChains } from "../incarnation.ts";
import type { Journal } from "../journal.ts";
import type { LogAccess } from "../log-access.ts";
import { type EarlierOwners, earlierOwners } from "../mounts/earlier-leases.ts";
import type { Mounts } from "../mounts/mounts.ts";
import type { SlotClaims } from "../mounts/slot-claims.ts";
import type { Numbers } from "../numbers.ts";
import type { RunSegments } from "../run-segments.ts";
import type { Checkpointer } from "../shard/checkpointer.ts";
import { type ChainedSlot, ChainReader, type ReadFromLogs } from "../shard/recovery.ts";
import type { Shard } from "../shard/shard.ts";
import type { ShardHost } from "../shard/shard-host.ts";
import { StepTimes } from "../shard/step-times.ts";
import type { SlotTable } from "./slot-table.ts";

const RETRY_FIRST_MS = 200;
const RETRY_MAX_MS = 2_000;
/** Where trying again does not help by itself: somebody may bring back what is missing. */
const HOPELESS_MS = 10_000;

export interface SlotOpenerOptions {
  readonly map: MapCache;
  /** This incarnation's log. */
  readonly log: number;
  readonly logs: LogAccess;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: Limits;
  readonly journal: Journal;
  readonly table: SlotTable;
  readonly cache: RunCache;
  readonly segments: RunSegments;
  readonly host: ShardHost;
  readonly checkpointer: Checkpointer;
  readonly numbers: Numbers;
  readonly mounts: Mounts;
  readonly claims: SlotClaims;
  /** When the lease of the manager that wrote this log ends at the latest. */
  readonly leaseEndMs: (log: number) => Promise<number>;
  /** Resolves when it certainly serves nothing any more. */
  readonly serverEnded: (log: number) => Promise<void>;
  /** Resolves once this manager holds its lease. Rejects `notReady` where it stops before. */
  readonly leaseHeld: () => Promise<void>;
  /** Before requests are answered: what a new cluster begins with. */
  readonly prepare: (slots: readonly number[]) => Promise<void>;
  /** The last live bytes of a segment went from a shard. */
  readonly emptied: (log: number, sequence: number, slots: SlotMask) => void;
  readonly named: (ino: number, change: NamedEntry) => void;
  readonly onOpen: (slots: readonly number[]) => void;
  /** Something is wrong that trying again does not help. */
  readonly failed: (error: unknown) => void;
}

interface Taken extends ChainedSlot {
  readonly term: number;
  readonly cameMs: number;
}

interface ReadSlots {
  readonly shards: readonly Shard[];
  /** By slot. */
  readonly earlier: ReadonlyMap<number, EarlierOwners>;
  readonly readFrom: ReadFromLogs;
}

/** Opens the slots that the map gives to this incarnation, whoever decided so: at its start, after a planned move, after the failure of another manager
 * (docs/manager.md). */
export class SlotOpener {
  readonly #options: SlotOpenerOptions;
  #closed = false;

  constructor(options: SlotOpenerOptions) {
    this.#options = options;
  }

  /** Starts to open what the map gives and this incarnation has not. Resolves when all of that is open, or gone again. */
  look(map: ClusterMap): Promise<void> {
    const { log, table, clock } = this.#options;
    const taken: Taken[] = [];
    const cameMs = clock.nowMs();
    for (const [slot, { term, chain }] of map.slots.entries()) {
      if (chain.at(-1)?.log !== log || table.termOf(slot) !== undefined) continue;
      table.take(slot, term);
      taken.push({ slot, term, links: chain.slice(0, -1), cameMs });
    }
    if (taken.length === 0) return Promise.resolve();
    return this.#open(taken).catch((error: unknown) => {
      if (!this.#closed) this.#options.failed(error);
    });
  }

  async #open(taken: readonly Taken[]): Promise<void> {
    const { table, mounts, journal, clock, logger, log, onOpen } = this.#options;
    const times = new StepTimes(clock);
    const freed = this.#retried(taken, "owners before may still serve the slots", () => this.#freed(taken));
    // Nothing that is read, or that mounts say, takes that the owners before are over: only answering does.
    const [, readFrom] = await Promise.all([freed, this.#prepare(taken, freed, times)]);
    times.over("leases");
    await this.#retried(taken, "mounts can't be granted anything yet", async () => {
      await mounts.holdAll();
      // What was done under tokens that are free now: who gets them next may ship to the next owner before it is shipped there again.
      await journal.settle();
    });
    if (this.#closed) return;
    const slots = taken.map(({ slot }) => slot);
    for (const slot of slots) table.opened(slot);
    times.over("grants");
    logger("info", "slots are open", { log, slots: slots.length, first: slots[0], ...times.ms, ...readFrom });
    onOpen(slots);
  }

  /** Resolves when the slots are read, and mounts have said what they hold there. */
  async #prepare(taken: readonly Taken[], freed: Promise<void>, times: StepTimes): Promise<ReadFromLogs | undefined> {
    const { table, mounts, claims } = this.#options;
    const read = await this.#retried(taken, "the slots can't be read yet", () => this.#read(taken, freed, times));
    if (read === undefined) return undefined;
    const { shards, earlier, readFrom } = read;
    mounts.mayHold(shards, earlier);
    await this.#retried(taken, "the first records of the slots are not logged yet", () => this.#begin(shards));
    times.over("begin");
    const claimed = shards.map((shard) => claims.awaitClaims(shard.slot, shard.term, shard.holds));
    for (const { slot } of taken) table.loaded(slot);
    const heard = mounts.expect(shards);
    await Promise.all(claimed);
    heard();
    times.over("mounts");
    return readFrom;
  }

  /** What fails is tried again for as long as this incarnation lives: storage servers may start at the same time, and what can't be read keeps its own
   * slots closed, not all of them. Undefined where it ended. */
  async #retried<T>(taken: readonly Taken[], what: string, action: () => Promise<T>): Promise<T | undefined> {
    const { clock, logger, table, log } = this.#options;
    for (let delayMs = RETRY_FIRST_MS; !this.#closed; delayMs = Math.min(RETRY_MAX_MS, 2 * delayMs)) {
      try {
        return await action();
      } catch (error) {
        if (!isDazzleError(error) || this.#options.journal.failure !== null) throw error;
        if (this.#closed) return undefined;
        const helps = error.retry !== "never";
        logger(helps ? "warning" : "error", what, { log, slots: taken.length, first: taken[0]?.slot, reason: error.message });
        for (const { slot } of taken) table.waits(slot, error.message);
        await sleep(clock, helps ? delayMs : HOPELESS_MS);
      }
    }
    return undefined;
  }

  async #read(taken: readonly Taken[], freed: Promise<void>, times: StepTimes): Promise<ReadSlots> {
    const { map, log, logs, clock, host, emptied, named, leaseHeld } = this.#options;
    const events = {
      emptied: (slot: number, log: number, sequence: number, slots: SlotMask) => {
        // What a replay empties is found by looking through all there is.
        if (host.has(slot)) emptied(log, sequence, slots);
      },
      named,
    };
    const earlier = await this.#earlierOwners(taken);
    const reader = new ChainReader(logs, map, times);
    const found = await reader.find(taken.map((one) => ({ slot: one.slot, links: this.#linksOf(one) })));
    const term = (slot: number) => taken.find((one) => one.slot === slot)?.term as number;
    // Who comes next waits out those in the chains alone.
    if (taken.some(({ slot }) => this.#isLong(slot))) {
      await Promise.all([freed, leaseHeld()]);
      if (this.#closed) throw new DazzleError("cancelled", "the manager is stopping");
      await shortenChains(map, log, new Map(found.map(({ slot, needed }) => [slot, { term: term(slot), links: needed }])));
    }
    const shards = await reader.shards(found, { term, cache: this.#options.cache, events, clock });
    return { shards: [...shards.values()], earlier, readFrom: reader.read };
  }

  /** As the chain is now: an attempt before this one may have shortened it. */
  #linksOf({ slot, term, links }: Taken): Taken["links"] {
    const row = this.#options.map.current.slots[slot];
    return row?.term === term ? row.chain.slice(0, -1) : links;
  }

  /** Resolves when those that had the slots before serve nothing in them any more. */
  async #freed(taken: readonly Taken[]): Promise<void> {
    const { table, serverEnded } = this.#options;
    await Promise.all(failedOwners(taken).map((log) => serverEnded(log)));
    for (const { slot } of taken) table.freed(slot);
  }

  async #earlierOwners(taken: readonly Taken[]): Promise<Map<number, EarlierOwners>> {
    const { map, clock, limits, leaseEndMs } = this.#options;
    const ends = new Map<number, number>();
    await Promise.all(failedOwners(taken).map(async (log) => ends.set(log, await leaseEndMs(log))));
    const memberOf = (log: number) => findLog(map.current, log)?.member;
    const known = { limits, nowMs: clock.nowMs(), ends, memberOf };
    return new Map(taken.map((one) => [one.slot, earlierOwners(one, known)]));
  }

  /** From now on transactions are applied to them. */
  async #begin(shards: readonly Shard[]): Promise<void> {
    const { host, segments, checkpointer, numbers, prepare } = this.#options;
    await host.between(() => {
      for (const shard of shards) {
        if (host.has(shard.slot)) continue;
        for (const segment of segmentsOf(shard)) segments.add(segment);
        checkpointer.came(shard.slot);
        host.add(shard);
      }
    });
    // Who ends before it has written one down would add a log that holds something.
    for (let round = 0; round < 2 && shards.some(({ slot }) => this.#isLong(slot)); round++) await checkpointer.run();
    await numbers.begin(shards);
    await prepare(shards.map(({ slot }) => slot));
  }

  #isLong(slot: number): boolean {
    return (this.#options.map.current.slots[slot]?.chain.length ?? 0) > CHAIN_LONG;
  }

  close(): void {
    this.#closed = true;
  }
}

/** The logs of owners that did not give the slots away. */
function failedOwners(taken: readonly Taken[]): number[] {
  return [...new Set(taken.flatMap(({ links }) => links.filter(({ end }) => end === null).map(({ log }) => log as number)))];
}

function segmentsOf({ imap }: Shard): SegmentBytes[] {
  return imap.runs.flatMap((run) => run.tables.flatMap((table) => table.segments));
}
