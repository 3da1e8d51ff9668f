import {
  type Clock,
  type ClusterMap,
  DazzleError,
  findLog,
  isDazzleError,
  type Logger,
  type MapCache,
  type MemberId,
  sleep,
} from "@dazzle/core";
import type { SegmentBytes } from "../imap/run-table.ts";
import { handedTo } from "../incarnation.ts";
import type { Journal } from "../journal.ts";
import type { MountSession } from "../mounts/mount-session.ts";
import type { Mounts } from "../mounts/mounts.ts";
import type { RunSegments } from "../run-segments.ts";
import type { Checkpointer } from "../shard/checkpointer.ts";
import type { Shard } from "../shard/shard.ts";
import type { ShardHost } from "../shard/shard-host.ts";
import type { SlotTable } from "./slot-table.ts";

const RETRY_MS = 200;

/** A slot that went on from this log, and still has it in its chain. */
interface Departed {
  readonly slot: number;
  readonly term: number;
  /** The first segment of this log that its next owners may have to read. */
  readonly from: number;
  /** Run bytes that the checkpoint which they find names. */
  readonly segments: readonly SegmentBytes[];
}

/** Slots that did not go to another manager. */
interface StayedSlots {
  readonly shards: readonly Shard[];
  /** Of mounts, when the slots were about to leave. */
  readonly sessions: readonly MountSession[];
  readonly reason: unknown;
}

export interface SlotYielderOptions {
  readonly map: MapCache;
  /** This incarnation's log. */
  readonly log: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly table: SlotTable;
  readonly host: ShardHost;
  readonly journal: Journal;
  readonly segments: RunSegments;
  readonly mounts: Mounts;
  /** Slots left: nobody is told anything of them here any more. */
  readonly onLeft: (slots: readonly number[]) => void;
}

/** Hands slots to another manager while they are used (rule 15): what is logged of them here is made stable, and the map then says at once who goes
 * on, under which term, and where this log ends for them. What the next owners may read of this log is kept until its link has left the chains. */
export class SlotYielder {
  readonly #options: SlotYielderOptions;
  #departed: Departed[] = [];
  #closed = false;
  moved = 0;

  constructor(options: SlotYielderOptions) {
    this.#options = options;
  }

  /** The first segment of the log that other managers may have to read. */
  get heldFrom(): number {
    return Math.min(Number.MAX_SAFE_INTEGER, ...this.#departed.map(({ from }) => from));
  }

  /** Resolves when the map has the slots with `member`, whose incarnation has `log`. Waits for those that are being opened. Rejects `staleMap` where one is not here, `notReady` where one
   * does not open in time or the other manager is not there. */
  async yield(
    slots: readonly number[],
    to: { readonly member: MemberId; readonly log: number },
    checkpointer: Checkpointer,
  ): Promise<void> {
    const due = slots.filter((slot) => !this.#went(slot, to.log));
    if (due.length === 0) return;
    for (const slot of due) await this.#options.table.whenOpen(slot);
    this.#check(due, to.log);
    // The next owner reads what is logged from here on, and while this is written everything is served.
    await checkpointer.run();
    const stayed = await checkpointer.whileIdle(() => this.#handOver(due, to, checkpointer));
    if (stayed !== undefined) await this.#goOn(due, stayed);
  }

  #went(slot: number, log: number): boolean {
    return this.#options.map.current.slots[slot]?.chain.at(-1)?.log === log;
  }

  #check(slots: readonly number[], to: number): void {
    const { table, map, log } = this.#options;
    if (to === log) throw new DazzleError("invalid", "a slot moves to another manager");
    for (const slot of slots) {
      const state = table.stateOf(slot);
      if (state === undefined) throw new DazzleError("staleMap", `slot ${slot} is not at this manager`);
      if (state !== "open") throw new DazzleError("notReady", `slot ${slot} is ${state} at this manager`);
    }
    if (findLog(map.current, to)?.state !== "live") throw new DazzleError("notReady", `the manager with log ${to} is not live in the map`);
  }

  /** Answers what is here still where the slots did not go. */
  async #handOver(
    slots: readonly number[],
    to: { member: MemberId; log: number },
    checkpointer: Checkpointer,
  ): Promise<StayedSlots | undefined> {
    const { table, host, journal, mounts, logger, onLeft } = this.#options;
    this.#check(slots, to.log);
    const sessions = [...mounts.sessions];
    for (const slot of slots) table.leaves(slot);
    let shards: Shard[] = [];
    try {
      shards = await host.between(() => slots.map((slot) => host.remove(slot)));
      await journal.settle();
      const end = journal.stableSequence;
      if (!(await this.#swap(shards, to, end))) throw new DazzleError("notReady", `the manager with log ${to.log} is not there any more`);
    } catch (reason) {
      // Nothing was written of them since.
      await host.putBack(shards);
      return { shards, sessions, reason };
    }
    for (const shard of shards) this.#departed.push({ slot: shard.slot, term: shard.term, ...checkpointer.left(shard) });
    for (const slot of slots) table.gone(slot);
    this.moved += slots.length;
    onLeft(slots);
    logger("info", "slots went to another manager", { slots: slots.join(","), member: to.member });
    return undefined;
  }

  /** Slots that did not go are served on. Throws why they did not. */
  async #goOn(slots: readonly number[], { shards, sessions, reason }: StayedSlots): Promise<never> {
    const { table, mounts } = this.#options;
    await this.#heldByAll(slots);
    await mounts.settled(shards, sessions);
    for (const slot of slots) table.opened(slot);
    throw reason;
  }

  /** Mounts that opened while slots were leaving may hold something there as well. Tried until it is stable, or nothing more is logged here. */
  async #heldByAll(slots: readonly number[]): Promise<void> {
    const { table, mounts, journal, log, clock, logger } = this.#options;
    for (;;) {
      try {
        await mounts.holdAll();
        return;
      } catch (error) {
        if (!isDazzleError(error) || this.#closed || journal.failure !== null) throw error;
        logger("warning", "slots that did not go to another manager open later", { log, reason: error.message });
        for (const slot of slots) table.waits(slot, error.message);
        await sleep(clock, RETRY_MS);
      }
    }
  }

  /** Answers whether the map has them there now. A swap of which the outcome is not known is tried until it is: whoever serves a slot on must know
   * that nobody else does. */
  async #swap(shards: readonly Shard[], to: { member: MemberId; log: number }, end: number): Promise<boolean> {
    const { map, log, clock, logger, table } = this.#options;
    for (;;) {
      try {
        await map.change((now) => this.#handed(now, shards, to, end));
        await map.refresh();
        const rows = shards.map(({ slot }) => map.current.slots[slot]);
        return rows.every((row, index) => row !== undefined && row.term > (shards[index] as Shard).term);
      } catch (error) {
        const isDecided = !isDazzleError(error) || error.code === "badMessage";
        if (isDecided || this.#closed || findLog(map.current, log)?.state !== "live") throw error;
        logger("warning", "it is not known yet whether slots went to another manager", { log, reason: error.message });
        for (const { slot } of shards) table.waits(slot, `it is not known yet whether they went to another manager: ${error.message}`);
        await sleep(clock, RETRY_MS);
      }
    }
  }

  #handed(now: ClusterMap, shards: readonly Shard[], to: { member: MemberId; log: number }, end: number): ClusterMap | undefined {
    const { log } = this.#options;
    if (findLog(now, log)?.state !== "live" || findLog(now, to.log)?.state !== "live") return undefined;
    const bySlot = new Map(shards.map((shard) => [shard.slot, shard]));
    const isHere = (slot: number) => now.slots[slot]?.term === bySlot.get(slot)?.term && now.slots[slot]?.chain.at(-1)?.log === log;
    if (!shards.every(({ slot }) => isHere(slot))) return undefined;
    return { ...now, slots: now.slots.map((row, slot) => (bySlot.has(slot) ? handedTo(row, to.member, to.log, end) : row)) };
  }

  /** Slots whose chain is without this log need nothing of it any more. Answers whether there are such. */
  look(map: ClusterMap): boolean {
    const { log, segments } = this.#options;
    const isNeeded = ({ slot, term }: Departed) => map.slots[slot]?.chain.some((link) => link.log === log && link.term === term) ?? false;
    const over = this.#departed.filter((row) => !isNeeded(row));
    if (over.length === 0) return false;
    this.#departed = this.#departed.filter(isNeeded);
    for (const row of over) for (const segment of row.segments) segments.remove(segment);
    return true;
  }

  close(): void {
    this.#closed = true;
  }
}
