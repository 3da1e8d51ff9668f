import {
  assert,
  type Clock,
  DazzleError,
  isDazzleError,
  type Limits,
  type LogAddress,
  type Logger,
  RecordKind,
  type Timer,
} from "@dazzle/core";
import { RunBuilder, type RunSink } from "../imap/run-builder.ts";
import type { Run, RunTable } from "../imap/run-table.ts";
import type { Journal } from "../journal.ts";
import { Pacer } from "../pacer.ts";
import type { RunSegments } from "../run-segments.ts";
import { encodeRoot, type SlotCheckpoint } from "./checkpoint-root.ts";
import type { Shard } from "./shard.ts";
import type { ShardHost } from "./shard-host.ts";

const RETRY_MS = 1_000;

/** Writes the shards' memtables out as runs, and merges runs. A checkpoint is stable with its root; what the root before it
 * needed and this one does not is then given up. */
export class Checkpointer {
  readonly #host: ShardHost;
  readonly #journal: Journal;
  readonly #segments: RunSegments;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: Limits;
  readonly #onStable: () => Promise<void>;
  readonly #sink: RunSink;
  /** Tables that the present runs don't have any more, and the last stable root may have. */
  #retired: RunTable[] = [];
  #running: Promise<void> | null = null;
  /** While frozen memtables are being written. */
  #writing: Promise<void> | null = null;
  #merging: Promise<void> | null = null;
  #timer: Timer | null = null;
  #checkpointedRecords = 0;
  #closed = false;
  checkpoints = 0;
  merges = 0;

  /** `onStable`: called after each checkpoint that became stable. */
  constructor(options: {
    host: ShardHost;
    journal: Journal;
    segments: RunSegments;
    clock: Clock;
    logger: Logger;
    limits: Limits;
    onStable: () => Promise<void>;
  }) {
    this.#host = options.host;
    this.#journal = options.journal;
    this.#segments = options.segments;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#limits = options.limits;
    this.#onStable = options.onStable;
    this.#sink = {
      place: (slot, length, fill) => this.#placeRun(slot, length, fill),
      discard: (segments) => {
        for (const segment of segments) this.#segments.remove(segment);
      },
    };
    this.#schedule();
  }

  #placeRun(slot: number, length: number, fill: (bytes: Buffer) => void): LogAddress | Promise<LogAddress> {
    const { term } = this.#host.shard(slot);
    return this.#journal.append([{ kind: RecordKind.run, owner: slot, position: 0, term, length }], (bytes, address) => {
      fill(bytes);
      this.#segments.add({ log: address.log, sequence: address.sequence, bytes: length });
    });
  }

  #schedule(): void {
    this.#timer = this.#clock.after(this.#limits.checkpointIntervalMs, () => {
      if (this.#journal.appliedRecords !== this.#checkpointedRecords || this.#retired.length > 0) this.start();
      this.#schedule();
    });
  }

  /** Resolves when frozen memtables are written out; undefined where none are being written. */
  room(): Promise<void> | undefined {
    return this.#writing ?? undefined;
  }

  /** Starts a checkpoint where none is under way; one that fails is tried again. */
  start(): void {
    if (this.#closed) return;
    this.run().catch((error: unknown) => {
      if (!isDazzleError(error)) throw error;
      if (this.#closed) return;
      this.#logger("warning", "a checkpoint failed: trying again", { log: this.#journal.log, reason: error.message });
      this.#clock.after(RETRY_MS, () => this.start());
    });
  }

  /** Resolves when a checkpoint is stable that has everything applied before the call or is already under way. */
  run(): Promise<void> {
    this.#running ??= this.#checkpoint().finally(() => {
      this.#running = null;
      this.#mergeSoon();
    });
    return this.#running;
  }

  async #checkpoint(): Promise<void> {
    // What an attempt that failed left frozen is older than what is frozen now.
    await this.#writeFrozen();
    const frozen = await this.#host.between(() => this.#freeze());
    await this.#writeFrozen();
    const retiring = this.#retired;
    this.#retired = [];
    try {
      await this.#writeRoot(frozen);
    } catch (error) {
      this.#retired = [...retiring, ...this.#retired];
      throw error;
    }
    this.#journal.trimmedTo = frozen.replayFrom - 1;
    for (const table of retiring) for (const segment of table.segments) this.#segments.remove(segment);
    this.checkpoints++;
    await this.#onStable();
  }

  /** A checkpoint's state but for its runs, of one moment between two transactions. */
  #freeze(): FrozenState {
    this.#checkpointedRecords = this.#journal.appliedRecords;
    const slots = [...this.#host.shards].map((shard) => {
      shard.imap.freeze();
      const { slot, term, numbersLimit } = shard;
      return { slot, term, numbersLimit, applied: [...shard.applied], holds: [...shard.holds] };
    });
    // Its open segment may hold records of before and of later: those of before are found applied.
    return { replayFrom: this.#journal.openSequence, slots };
  }

  #writeFrozen(): Promise<void> {
    this.#writing = this.#writeAllFrozen().finally(() => {
      this.#writing = null;
    });
    return this.#writing;
  }

  async #writeAllFrozen(): Promise<void> {
    const pacer = new Pacer(this.#clock);
    for (const { imap, slot } of this.#host.shards) if (imap.frozen) await imap.writeFrozen(this.#builder(slot), pacer.pause);
  }

  #builder(slot: number): RunBuilder {
    return new RunBuilder({ slot, sink: this.#sink, blockBytes: this.#limits.runBlockBytes });
  }

  async #writeRoot(frozen: FrozenState): Promise<void> {
    const slots = frozen.slots.map((slot): SlotCheckpoint => ({ ...slot, runs: this.#host.shard(slot.slot).imap.runs }));
    const root = encodeRoot({ replayFrom: frozen.replayFrom, slots });
    const first = slots[0];
    assert(first !== undefined, "a manager that writes checkpoints has a slot");
    const record = { kind: RecordKind.checkpoint, owner: first.slot, position: frozen.replayFrom, term: first.term, length: root.length };
    await this.#journal.append([record], (bytes) => {
      root.copy(bytes);
    });
    await this.#journal.settle();
  }

  // Merging, in the background, one shard after the other. A merge that is not in a root yet is lost with a crash: its sources are still there.

  #mergeSoon(): void {
    if (this.#merging !== null || this.#closed) return;
    const shard = [...this.#host.shards].find(({ imap }) => imap.mergeable() !== undefined);
    if (shard === undefined) return;
    this.#merging = this.#merge(shard).finally(() => {
      this.#merging = null;
    });
    this.#merging.then(
      () => this.#mergeSoon(),
      (error: unknown) => {
        if (this.#closed) return;
        if (!isDazzleError(error)) throw error;
        this.#logger("warning", "merging runs failed: it is tried again after the next checkpoint", {
          slot: shard.slot,
          reason: error.message,
        });
      },
    );
  }

  async #merge({ imap, slot }: Shard): Promise<void> {
    const runs = imap.mergeable() as readonly Run[];
    const pacer = new Pacer(this.#clock, () => {
      if (this.#closed) throw new DazzleError("cancelled", "the manager is stopping");
    });
    await imap.merge(runs, this.#builder(slot), pacer.pause);
    for (const run of runs) this.#retired.push(...run.tables);
    this.merges++;
  }

  /** Resolves when no merge is under way. */
  async idle(): Promise<void> {
    while (this.#merging !== null) await this.#merging;
  }

  /** Ends checkpoints and merges; those under way are given up. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    await Promise.allSettled([this.#running, this.#merging]);
  }
}

interface FrozenState {
  readonly replayFrom: number;
  readonly slots: ReadonlyArray<Omit<SlotCheckpoint, "runs">>;
}
