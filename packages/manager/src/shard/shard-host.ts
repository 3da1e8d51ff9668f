import {
  ALL_SLOTS,
  type Clock,
  DazzleError,
  DeltaReader,
  decodeSections,
  isDazzleError,
  joined,
  type Limits,
  type Logger,
  type Move,
  NO_SLOTS,
  packMoves,
  RecordKind,
  type Section,
  SLOTS,
  type SlotMask,
  sleep,
  slotOf,
  type TransactionBuilder,
  withSlot,
} from "@dazzle/core";
import type { MoveTarget } from "../cleaning/moved-extents.ts";
import type { Journal, JournalRecord } from "../journal.ts";
import { Pacer } from "../pacer.ts";
import { SerialQueue } from "../serial-queue.ts";
import { type AmendedEntry, entryOf, same } from "./amendment.ts";
import { LogProgress } from "./log-progress.ts";
import type { Shard } from "./shard.ts";
import {
  encodeWalAmended,
  encodeWalHolds,
  encodeWalMoves,
  encodeWalNumbers,
  encodeWalSection,
  type TransactionOrigin,
  WAL,
  WAL_HOLDS_BYTES,
  WAL_NUMBERS_BYTES,
  walAmendedBytes,
} from "./wal-record.ts";

/** Transactions that may wait to be applied. */
const WAITING_MAX = 1_024;
const READ_RETRY_MS = 200;

export interface ShardHostEvents {
  /** The memtables take more than they should: a checkpoint is due. */
  full(): void;
  /** Resolves when there is room in them again; undefined where there is now. */
  room(): Promise<void> | undefined;
  /** A shard can't go on. */
  failed(error: unknown): void;
}

/** A transaction of a log, of which the sections for slots here are applied. */
export interface ShippedTransaction {
  readonly log: number;
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  /** Every slot that the transaction concerns, here and elsewhere. */
  readonly touched: SlotMask;
  /** By slot of `sections`: the sequence that was shipped to it before this one; 0: none. Null: the log itself is read, in order. */
  readonly previous: ReadonlyMap<number, number> | null;
  readonly sections: readonly Uint8Array[];
}

/** All shards of a manager: applies transactions one after the other, each logged ahead in the manager's log, whole in one
 * segment. */
export class ShardHost {
  readonly #shards = new Map<number, Shard>();
  readonly #progress = new Map<number, LogProgress>();
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: Limits;
  readonly #events: ShardHostEvents;
  readonly #queue = new SerialQueue(WAITING_MAX);
  readonly #pacer: Pacer;
  #ownSequence = 0;
  /** The segment with the last record of what a mount may hold. */
  #heldSequence = 0;
  #sweeping = false;
  #closed = false;
  /** Since the start. */
  transactions = 0;
  /** Slots that came, since the start. */
  arrivals = 0;

  constructor(options: {
    journal: Journal;
    clock: Clock;
    logger: Logger;
    limits: Limits;
    events: ShardHostEvents;
  }) {
    this.#journal = options.journal;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#limits = options.limits;
    this.#events = options.events;
    this.#pacer = new Pacer(this.#clock, () => this.#checkOpen());
    this.#journal.onStable(() => {
      for (const progress of this.#progress.values()) progress.becameStable(this.#journal.stableSequence);
    });
  }

  /** A slot comes here: called between two transactions. */
  add(shard: Shard): void {
    this.#shards.set(shard.slot, shard);
    this.arrivals++;
    for (const [log, sequence] of shard.applied) this.progress(log).slotCame(sequence);
    this.#sweepSoon();
  }

  /** A slot leaves: called between two transactions. Nothing is applied to it or logged of it any more. */
  remove(slot: number): Shard {
    const shard = this.shard(slot);
    this.#shards.delete(slot);
    return shard;
  }

  /** Slots that were to leave stay here: resolves when they are back. It is never refused. */
  putBack(shards: readonly Shard[]): Promise<void> {
    return this.#queue.runAnyway(() => {
      for (const shard of shards) this.add(shard);
    });
  }

  get shards(): Iterable<Shard> {
    return this.#shards.values();
  }

  /** Whether no slot is here. */
  get isEmpty(): boolean {
    return this.#shards.size === 0;
  }

  get waiting(): number {
    return this.#queue.length;
  }

  /** Throws `staleMap` where the slot is not here. */
  shard(slot: number): Shard {
    const shard = this.#shards.get(slot);
    if (shard === undefined) throw new DazzleError("staleMap", `slot ${slot} is not at this manager`);
    return shard;
  }

  has(slot: number): boolean {
    return this.#shards.has(slot);
  }

  shardOf(ino: number): Shard {
    return this.shard(slotOf(ino));
  }

  progress(log: number): LogProgress {
    let progress = this.#progress.get(log);
    if (progress === undefined) {
      progress = new LogProgress(log, 0);
      this.#progress.set(log, progress);
    }
    return progress;
  }

  /** Of every log that anything here was told of. */
  get progressOfLogs(): Iterable<LogProgress> {
    return this.#progress.values();
  }

  /** Up to where everything that a slot has applied of a log is in this manager's stable log. */
  stableIn({ slot, applied }: Shard, log: number): number {
    const to = applied.get(log) ?? 0;
    return this.#progress.get(log)?.stableIn(slot, to) ?? to;
  }

  /** Logs that are not in the map any more need not be told from new ones. */
  forget(logs: readonly number[]): Promise<void> {
    return this.#queue.run(() => {
      for (const log of logs) {
        this.#progress.delete(log);
        for (const shard of this.#shards.values()) {
          shard.applied.delete(log);
          shard.holds.delete(log);
        }
      }
    });
  }

  get activeBytes(): number {
    let bytes = 0;
    for (const shard of this.#shards.values()) bytes += shard.imap.activeBytes;
    return bytes;
  }

  /** Runs `task` between two transactions. */
  between<T>(task: () => T | Promise<T>): Promise<T> {
    return this.#queue.run(task);
  }

  /** Applies a transaction's sections for slots here; resolves when they are applied in memory and appended to the log: see `settle` of the journal.
   * A section that was applied before changes nothing. All of them are applied, or none: rejects `outOfOrder` where one before is missing in a
   * slot, `badMessage`, `staleMap`. */
  apply(transaction: ShippedTransaction): Promise<void> {
    return this.#queue.run(() => {
      const { log, sequence, previous } = transaction;
      const sections = this.#checked(joined(transaction.sections));
      const due = sections.filter(({ slot }) => this.shard(slot).appliedTo(log) < sequence);
      for (const { slot } of due) {
        const before = previous === null ? 0 : previous.get(slot);
        if (before === undefined) throw new DazzleError("badMessage", `a section for slot ${slot}, which was not announced`);
        const applied = this.shard(slot).appliedTo(log);
        if (before > applied) throw new DazzleError("outOfOrder", `log ${log} is applied in slot ${slot} up to ${applied}, not ${before}`);
      }
      return due.length === 0 ? undefined : this.#apply(transaction, due);
    });
  }

  /** A transaction of the manager itself: small, without extents. */
  applyOwn(builder: TransactionBuilder): Promise<void> {
    const bytes = Buffer.allocUnsafe(builder.bytes);
    builder.encode(bytes);
    return this.#queue.run(() => {
      const { log } = this.#journal;
      const sections = this.#checked(bytes);
      let touched: SlotMask = NO_SLOTS;
      for (const { slot } of sections) touched = withSlot(touched, slot);
      return this.#apply({ log, sequence: ++this.#ownSequence, group: 0, groupVersion: 0, touched }, sections);
    });
  }

  async #apply(
    transaction: Omit<ShippedTransaction, "sections" | "previous">,
    /** Checked, and not applied yet. */
    sections: readonly Section[],
  ): Promise<void> {
    const { log, sequence, group, groupVersion, touched } = transaction;
    const progress = this.progress(log);
    const origin: TransactionOrigin = { log, sequence, group, groupVersion, slots: touched };
    await this.#room();
    await this.#log(origin, sections);
    const position = this.#journal.appendedSequence;
    for (const { slot } of sections) progress.wasLogged(slot, this.shard(slot).appliedTo(log), sequence, position);
    for (const { slot, bytes } of sections) await this.#untilReadable(log, () => this.shard(slot).apply(origin, bytes, this.#pacer.pause));
    this.transactions++;
    progress.wasApplied(sequence, touched);
    // The segment may have become stable while the transaction was being applied.
    progress.becameStable(this.#journal.stableSequence);
    this.#sweepSoon();
    // Many small transactions in a row keep the event loop as long as a large one does.
    const paused = this.#pacer.pause();
    if (paused !== undefined) await paused;
  }

  async #room(): Promise<void> {
    if (this.activeBytes <= this.#limits.memtableBytes) return;
    this.#events.full();
    const room = this.#events.room();
    if (room !== undefined) await room;
  }

  /** Moves blocks of files here into a stable segment of a cleaner's log, each where it still is at its old address. Resolves, with the bytes that are at the new ones then, when that is done in
   * memory and appended to the log. `check` throws where nothing may be moved any more; else rejects `staleMap` where a file's slot is not here, and nothing is moved. */
  relocate(target: MoveTarget, moves: readonly Move[], check: () => void): Promise<number> {
    return this.#queue.run(async () => {
      check();
      const bySlot = new Map<number, Move[]>();
      for (const move of moves) {
        const { slot } = this.shardOf(move.ino);
        const ofSlot = bySlot.get(slot);
        if (ofSlot === undefined) bySlot.set(slot, [move]);
        else ofSlot.push(move);
      }
      if (bySlot.size === 0) return 0;
      await this.#room();
      const packed = [...bySlot].map(([slot, ofSlot]) => ({ shard: this.shard(slot), moves: packMoves(ofSlot) }));
      const records = packed.map(
        ({ shard, moves: { length } }): JournalRecord => ({
          kind: RecordKind.applied,
          owner: shard.slot,
          position: target.log,
          term: shard.term,
          length: WAL.moves + length,
        }),
      );
      await this.#journal.append(records, (bytes) => {
        let at = 0;
        for (const { moves: ofSlot } of packed) at += encodeWalMoves(target, ofSlot, bytes.subarray(at));
      });
      let bytes = 0;
      for (const [slot, ofSlot] of bySlot) {
        const { pause } = this.#pacer;
        const relocate = () => this.shard(slot).relocate({ ...target, slots: ALL_SLOTS }, ofSlot, pause);
        bytes += await this.#untilReadable(target.log, relocate);
      }
      return bytes;
    });
  }

  #checkOpen(): void {
    if (this.#closed) throw new DazzleError("cancelled", "the manager is stopping");
  }

  /** The sections, where all of them can be applied here. */
  #checked(bytes: Buffer): Section[] {
    try {
      const sections = [...decodeSections(bytes)];
      // Nothing would be logged, so nobody would know after a restart that it was applied.
      if (sections.length === 0) throw new DazzleError("badMessage", "a transaction without sections");
      for (const section of sections) {
        this.shard(section.slot);
        const reader = new DeltaReader(section.bytes);
        while (reader.next())
          if (slotOf(reader.ino) !== section.slot)
            throw new DazzleError("badMessage", `number ${reader.ino} is not of slot ${section.slot}`);
      }
      return sections;
    } catch (error) {
      if (isDazzleError(error, "corrupt")) throw new DazzleError("badMessage", error.message);
      throw error;
    }
  }

  async #log(origin: TransactionOrigin, sections: readonly Section[]): Promise<void> {
    const records = sections.map((section): JournalRecord => {
      const { slot, term } = this.shard(section.slot);
      return { kind: RecordKind.applied, owner: slot, position: origin.log, term, length: WAL.section + section.whole.length };
    });
    await this.#journal.append(records, (bytes) => {
      let at = 0;
      for (const section of sections) at += encodeWalSection(origin, section.whole, bytes.subarray(at));
    });
  }

  /** A run that can't be read now is waited for: what was logged must be applied before anything later. */
  async #untilReadable<T>(log: number, apply: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await apply();
      } catch (error) {
        if (this.#closed) throw error;
        if (!isDazzleError(error, "unreachable", "timedOut")) {
          this.#events.failed(error);
          throw error;
        }
        this.#logger("warning", "a transaction waits for the imap to be readable", { log, reason: error.message });
        await sleep(this.#clock, READ_RETRY_MS);
      }
    }
  }

  /** Logs that a mount may hold tokens of any slot here. Stable when it resolves. */
  async hold(mount: number): Promise<void> {
    const lacking = () => [...this.#shards.values()].filter((shard) => !shard.holds.has(mount));
    // Slots that have just come mostly know it from the logs before: nothing keeps a mount from saying what it holds there.
    if (lacking().length > 0)
      // Between two transactions, so that a checkpoint has either the record or what it says.
      await this.#queue.run(async () => {
        const shards = lacking();
        if (shards.length === 0) return;
        await this.#appendForAll(shards, mount, WAL_HOLDS_BYTES, (_shard, bytes) => encodeWalHolds(bytes));
        this.#heldSequence = this.#journal.appendedSequence;
        for (const shard of shards) shard.holds.add(mount);
      });
    if (this.#heldSequence > this.#journal.stableSequence) await this.#journal.settle();
  }

  /** Logs that slots may give out so many more index numbers than have been leased. Stable when it resolves. */
  async allowNumbers(shards: readonly Shard[], count: number): Promise<void> {
    const limits = new Map<Shard, number>();
    await this.#queue.run(async () => {
      for (const { slot } of shards) this.shard(slot);
      for (const shard of shards) limits.set(shard, Math.max(shard.nextNumber, shard.numbersLimit) + count * SLOTS);
      const write = (shard: Shard, bytes: Buffer) => encodeWalNumbers(limits.get(shard) as number, bytes);
      await this.#appendForAll(shards, 0, WAL_NUMBERS_BYTES, write);
      for (const [shard, limit] of limits) shard.numbersLimit = limit;
    });
    await this.#journal.settle();
    for (const [shard, limit] of limits) shard.numbersAllowed = Math.max(shard.numbersAllowed, limit);
  }

  /** Puts entries of a slot as `put` has them, where all of them still are as `seen` has them, which names the same keys. Answers whether they were; what was put is stable
   * then. */
  amend(slot: number, seen: readonly AmendedEntry[], put: readonly AmendedEntry[]): Promise<boolean> {
    return this.#queue.run(async () => {
      const shard = this.shard(slot);
      for (const { key, value } of seen) if (!same(await entryOf(shard, key), value)) return false;
      await this.#appendForAll([shard], 0, walAmendedBytes(put), (_shard, bytes) => encodeWalAmended(put, bytes));
      shard.amend(put);
      // It says what is, not what changes: it is replayed over nothing later only if no checkpoint begins within its segment.
      await this.#journal.settle();
      return true;
    });
  }

  async #appendForAll(
    shards: readonly Shard[],
    position: number,
    length: number,
    write: (shard: Shard, bytes: Buffer) => number,
  ): Promise<void> {
    const records = shards.map(({ slot, term }) => ({ kind: RecordKind.applied, owner: slot, position, term, length }));
    await this.#journal.append(records, (bytes) => {
      let at = 0;
      for (const shard of shards) at += write(shard, bytes.subarray(at));
    });
  }

  /** Drops what large removed files left, some between any two transactions, until nothing is left. */
  #sweepSoon(): void {
    if (this.#sweeping || this.#closed) return;
    const shard = [...this.#shards.values()].find(({ condemned }) => condemned.size > 0);
    if (shard === undefined) return;
    this.#sweeping = true;
    this.#clock.soon(() => {
      this.#queue
        .run(() => (this.#shards.get(shard.slot) === shard ? shard.sweep() : undefined))
        .then(
          () => {
            this.#sweeping = false;
            this.#sweepSoon();
          },
          (error: unknown) => this.#sweepFailed(error),
        );
    });
  }

  #sweepFailed(error: unknown): void {
    if (!isDazzleError(error, "unreachable", "timedOut", "notReady")) {
      this.#events.failed(error);
      return;
    }
    this.#logger("warning", "what a removed file left is dropped later", { reason: error.message });
    this.#clock.after(READ_RETRY_MS, () => {
      this.#sweeping = false;
      this.#sweepSoon();
    });
  }

  close(): void {
    this.#closed = true;
  }
}
