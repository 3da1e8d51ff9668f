import {
  type Clock,
  currentVersion,
  DazzleError,
  isDazzleError,
  type Limits,
  type LogAddress,
  type Logger,
  type MapCache,
  RecordKind,
  type Timer,
} from "@dazzle/core";
import { RunBuilder, type RunSink } from "../imap/run-builder.ts";
import { bytesOf, type Run, type RunTable, runBytes, type SegmentBytes } from "../imap/run-table.ts";
import type { Journal } from "../journal.ts";
import type { LogAccess } from "../log-access.ts";
import { Pacer } from "../pacer.ts";
import type { RunSegments } from "../run-segments.ts";
import { encodeRoot, type SlotCheckpoint } from "./checkpoint-root.ts";
import { MergeLimit, MergeRoom } from "./merge-room.ts";
import type { Shard } from "./shard.ts";
import type { ShardHost } from "./shard-host.ts";
import { type ThinRun, thinRuns } from "./thin-runs.ts";

const RETRY_MS = 1_000;

/** Writes the shards' memtables out as runs, and merges runs. A checkpoint is stable with its root; what the root before it
 * needed and this one does not is then given up. */
export class Checkpointer {
  readonly #map: MapCache;
  readonly #host: ShardHost;
  readonly #journal: Journal;
  readonly #segments: RunSegments;
  readonly #logs: Pick<LogAccess, "room">;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: Limits;
  readonly #heldFrom: () => number;
  readonly #onStable: (terms: ReadonlyMap<number, number>) => Promise<void>;
  readonly #sink: RunSink;
  /** Tables that the present runs don't have any more, and the last stable root may have. */
  #retired: Retired[] = [];
  /** As of the last checkpoint: to be written anew, if they are still there. */
  #thin: ThinRun[] = [];
  /** By slot: the first segment of the log that whoever opens the slot anew must read. */
  readonly #neededFrom = new Map<number, number>();
  #running: Promise<void> | null = null;
  /** While slots leave: nothing of them may be under way. */
  #leaving: Promise<unknown> | null = null;
  /** While frozen memtables are being written. */
  #writing: Promise<void> | null = null;
  #merging: Promise<void> | null = null;
  readonly #mergeLimit = new MergeLimit();
  /** A merge under way gives up. */
  #interrupted = false;
  #timer: Timer | null = null;
  /** One failed: another one follows. */
  #retry: Timer | null = null;
  #checkpointedRecords = 0;
  /** The last segment of the log that holds something of a run that was given up: of no use, and deleted once it is trimmed. */
  #givenUpTo = 0;
  /** The first segment that the last stable root needs, by the log alone. */
  #replayFrom: number;
  /** As of `placementsOf`, when the last one began. */
  #checkpointedPlacements = "";
  #closed = false;
  checkpoints = 0;
  merges = 0;

  /** `heldFrom`: the first segment of the log that is needed for slots which were here before. `onStable`: called after each checkpoint that became
   * stable, with its slots and their terms. */
  constructor(options: {
    map: MapCache;
    host: ShardHost;
    journal: Journal;
    segments: RunSegments;
    logs: Pick<LogAccess, "room">;
    clock: Clock;
    logger: Logger;
    limits: Limits;
    heldFrom: () => number;
    onStable: (terms: ReadonlyMap<number, number>) => Promise<void>;
  }) {
    this.#map = options.map;
    this.#host = options.host;
    this.#journal = options.journal;
    this.#segments = options.segments;
    this.#logs = options.logs;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#limits = options.limits;
    this.#heldFrom = options.heldFrom;
    this.#onStable = options.onStable;
    this.#sink = {
      place: (slot, length, fill) => this.#placeRun(slot, length, fill),
      discard: (segments) => {
        for (const segment of segments) {
          this.#segments.remove(segment);
          this.#givenUpTo = Math.max(this.#givenUpTo, segment.sequence);
        }
      },
    };
    this.#replayFrom = options.journal.openSequence;
    options.journal.onStable(() => this.#startIfLong());
    this.#schedule();
  }

  /** Whoever opens the slots next reads the tail of the log, however little each of its segments holds. */
  #startIfLong(): void {
    const isLong = this.#journal.openSequence - this.#replayFrom > this.#limits.tailSegments;
    if (isLong && this.#running === null && this.#retry === null && this.#leaving === null && this.#isDue) this.start();
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
      if (this.#isDue) this.start();
      else this.#mergeSoon();
      this.#schedule();
    });
  }

  /** What an idle log still needs under an older version of a group would keep that in the map. */
  get #isDue(): boolean {
    const placements = placementsOf(this.#map.current);
    const isOld = placements !== "" && placements !== this.#checkpointedPlacements;
    const keepsUseless = this.#retired.length > 0 || this.#givenUpTo >= this.#replayFrom;
    return this.#journal.appliedRecords !== this.#checkpointedRecords || isOld || keepsUseless;
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
      // However many have asked for it, or do until then, one comes.
      if (this.#closed || this.#retry !== null) return;
      this.#logger("warning", "a checkpoint failed: trying again", { log: this.#journal.log, reason: error.message });
      this.#retry = this.#clock.after(RETRY_MS, () => {
        this.#retry = null;
        this.start();
      });
    });
  }

  /** Resolves when a checkpoint is stable that has everything applied before the call or is already under way. */
  run(): Promise<void> {
    if (this.#leaving !== null) return this.#leaving.then(() => this.run());
    this.#running ??= this.#checkpoint().finally(() => {
      this.#running = null;
      this.#mergeSoon();
    });
    return this.#running;
  }

  /** A slot came: nothing of it is in the log yet. */
  came(slot: number): void {
    this.#neededFrom.set(slot, this.#journal.openSequence);
  }

  /** Runs `task`, by which slots leave, while no checkpoint and no merge is under way. */
  async whileIdle<T>(task: () => Promise<T>): Promise<T> {
    while (this.#leaving !== null || this.#running !== null || this.#merging !== null) {
      this.#interrupted = true;
      await Promise.allSettled([this.#leaving, this.#running, this.#merging]);
    }
    this.#interrupted = false;
    const done = task();
    // A task that fails is its caller's to answer for.
    this.#leaving = done.then(
      () => {},
      () => {},
    );
    try {
      return await done;
    } finally {
      this.#leaving = null;
      this.#mergeSoon();
    }
  }

  /** A slot left. Answers what stays needed of this log until its chain is without it. */
  left({ slot, imap }: Shard): { readonly from: number; readonly segments: readonly SegmentBytes[] } {
    const from = this.#neededFrom.get(slot) ?? 1;
    this.#neededFrom.delete(slot);
    const tables = imap.runs.flatMap((run) => run.tables);
    for (const retired of this.#retired) if (retired.slot === slot) tables.push(retired.table);
    this.#retired = this.#retired.filter((retired) => retired.slot !== slot);
    return { from, segments: tables.flatMap((table) => table.segments) };
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
    this.#replayFrom = frozen.replayFrom;
    for (const { slot } of frozen.slots) this.#neededFrom.set(slot, frozen.replayFrom);
    this.#journal.trimmedTo = Math.min(frozen.replayFrom, this.#heldFrom()) - 1;
    for (const { table } of retiring) for (const segment of table.segments) this.#segments.remove(segment);
    this.checkpoints++;
    const { log, trimmedTo } = this.#journal;
    this.#thin = thinRuns(this.#host.shards, this.#limits.fragmentBytes, (of, sequence) => of === log && sequence > trimmedTo);
    await this.#onStable(new Map(frozen.slots.map(({ slot, term }) => [slot, term])));
  }

  /** A checkpoint's state but for its runs, of one moment between two transactions. */
  #freeze(): FrozenState {
    this.#checkpointedRecords = this.#journal.appliedRecords;
    this.#checkpointedPlacements = placementsOf(this.#map.current);
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
    for (const { imap, slot } of this.#host.shards) if (imap.frozen) await imap.writeFrozen(this.#builder(slot, this.#sink), pacer.pause);
  }

  #builder(slot: number, sink: RunSink): RunBuilder {
    return new RunBuilder({ slot, sink, blockBytes: this.#limits.runBlockBytes });
  }

  async #writeRoot(frozen: FrozenState): Promise<void> {
    const slots = frozen.slots.map((slot): SlotCheckpoint => ({ ...slot, runs: this.#host.shard(slot.slot).imap.runs }));
    const root = encodeRoot({ replayFrom: frozen.replayFrom, slots });
    const [first] = slots;
    if (first !== undefined) {
      const record = { kind: RecordKind.checkpoint, owner: first.slot, position: frozen.replayFrom, term: first.term, length: root.length };
      await this.#journal.append([record], (bytes) => {
        root.copy(bytes);
      });
    }
    await this.#journal.settle();
  }

  // Merging, in the background, one shard after the other, while there is room. A merge that is not in a root yet is lost with a crash: its sources are still there.

  #mergeSoon(): void {
    if (this.#merging !== null || this.#leaving !== null || this.#interrupted || this.#closed) return;
    if (this.#nextMerge(Number.POSITIVE_INFINITY) === undefined) return;
    this.#merging = this.#mergeAll().finally(() => {
      this.#merging = null;
    });
    this.#merging.catch((error: unknown) => {
      if (this.#closed) return;
      if (!isDazzleError(error)) throw error;
      this.#logger("warning", "merging runs failed: it is tried again later", { log: this.#journal.log, reason: error.message });
    });
  }

  /** Everything that fits. */
  async #mergeAll(): Promise<void> {
    const room = new MergeRoom(this.#journal, this.#logs);
    await room.ask();
    for (let next = this.#nextMerge(room.mergeBytes); next !== undefined; next = this.#nextMerge(room.mergeBytes)) {
      this.#checkGoesOn();
      const { shard, runs } = next;
      // One that fails is found again by the next checkpoint.
      this.#thin = this.#thin.filter(({ run }) => run !== runs[0]);
      const bytes = bytesOf(runs);
      room.begin(bytes);
      try {
        await this.#merge(shard, runs, room);
      } catch (error) {
        if (isDazzleError(error, "noSpace")) this.#mergeLimit.givenUp(bytes, this.#clock.nowMs());
        throw error;
      }
      this.#mergeLimit.done(bytes);
    }
  }

  /** Of what fits: where the largest runs don't, smaller ones are merged. */
  #nextMerge(freeBytes: number): { readonly shard: Shard; readonly runs: readonly Run[] } | undefined {
    const roomBytes = Math.min(freeBytes, this.#mergeLimit.bytes(this.#clock.nowMs()));
    for (const shard of this.#host.shards) {
      const runs = shard.imap.mergeable(roomBytes);
      if (runs !== undefined) return { shard, runs };
    }
    const isThere = ({ slot, run }: ThinRun) => this.#host.has(slot) && this.#host.shard(slot).imap.runs.includes(run);
    this.#thin = this.#thin.filter(isThere);
    const thin = this.#thin.findLast(({ run }) => runBytes(run) <= roomBytes);
    return thin && { shard: this.#host.shard(thin.slot), runs: [thin.run] };
  }

  async #merge({ imap, slot }: Shard, runs: readonly Run[], room: MergeRoom): Promise<void> {
    const pacer = new Pacer(this.#clock, () => this.#checkGoesOn());
    const place: RunSink["place"] = (of, length, fill) =>
      room.take(length)?.then(() => this.#placeRun(of, length, fill)) ?? this.#placeRun(of, length, fill);
    await imap.merge(runs, this.#builder(slot, { ...this.#sink, place }), pacer.pause);
    for (const run of runs) for (const table of run.tables) this.#retired.push({ slot, table });
    this.merges++;
  }

  #checkGoesOn(): void {
    if (this.#closed) throw new DazzleError("cancelled", "the manager is stopping");
    if (this.#interrupted) throw new DazzleError("cancelled", "a slot is about to leave");
  }

  /** Resolves when no merge is under way. */
  async idle(): Promise<void> {
    while (this.#merging !== null) await this.#merging;
  }

  /** Ends checkpoints and merges; those under way are given up. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#retry?.cancel();
    await Promise.allSettled([this.#running, this.#merging]);
  }
}

interface Retired {
  readonly slot: number;
  readonly table: RunTable;
}

interface FrozenState {
  readonly replayFrom: number;
  readonly slots: ReadonlyArray<Omit<SlotCheckpoint, "runs">>;
}

/** The current versions of groups that have older ones. */
function placementsOf({ groups }: MapCache["current"]): string {
  return groups.flatMap((group) => (group.versions.length > 1 ? [`${group.id}:${currentVersion(group).version}`] : [])).join(" ");
}
