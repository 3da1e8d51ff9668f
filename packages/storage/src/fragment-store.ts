import {
  type BootId,
  type Clock,
  DazzleError,
  type Disk,
  type Durability,
  isDazzleError,
  type Limits,
  type Logger,
  type Random,
  type Reply,
  type Request,
  SegmentClass,
  type StoreId,
  type StoreStatus,
  type Timer,
} from "@dazzle/core";
import { Carrier } from "./carrier.ts";
import { Damages } from "./damages.ts";
import { DeletedSegments } from "./deleted-segments.ts";
import { deletionOf, isPending, isRepairPending } from "./deletion.ts";
import { type Entry, listed, makeEntry, nameOf, spaceOf } from "./entry.ts";
import { Fence } from "./fence.ts";
import type { ArrivedFragment, StoreRequest } from "./fragment.ts";
import { FragmentIndex, type Repaired } from "./fragment-index.ts";
import { FreedSpace } from "./freed-space.ts";
import { newBootId, openIdentity } from "./identity.ts";
import { Pending, type PendingEntry } from "./pending.ts";
import { FragmentReader, type ReadAnswer } from "./reader.ts";
import { comparePlaces, encodeRecordHeader, type Place, RECORD_HEADER, recordSpace } from "./record-header.ts";
import { type FoundDamaged, recover } from "./recover.ts";
import { Space } from "./space.ts";
import { StallWatch } from "./stall-watch.ts";
import { newBootFailure, Tickets } from "./tickets.ts";
import { Upkeep } from "./upkeep.ts";
import { Volumes } from "./volumes.ts";

/** The index lags behind by at most about so much: what a start after a crash has to read. */
const INDEX_INTERVAL_MS = 1_000;
const INDEX_LAG_ENTRIES = 1_024;
const INDEX_LAG_BYTES = 128 * 1024 * 1024;
/** At this many times the lag, stores wait for the index. */
const INDEX_LAG_HARD = 4;
/** Sequences deleted in one commit, so that none holds up the others for long. */
const DELETE_SEQUENCES = 1_024;
const LIST_SEQUENCES_MAX = 4_096;

export interface FragmentStoreOptions {
  /** A directory of its own. */
  readonly disk: Disk;
  readonly random: Random;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: Limits;
  readonly clusterId: string;
}

/** Fragments on a disk, in append-only volumes with an index behind them. A store costs one write; its durability one
 * fdatasync that it shares with all that wait; the index follows within a second and is never waited for. */
export class FragmentStore {
  readonly storeId: StoreId;
  readonly limits: Limits;
  /** The adopted map. */
  readonly fence: Fence;
  readonly upkeep: Upkeep;
  readonly carrier: Carrier;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #logger: Logger;
  readonly #index: FragmentIndex;
  readonly #volumes: Volumes;
  readonly #space: Space;
  readonly #freed: FreedSpace;
  readonly #reader: FragmentReader;
  readonly #writes: StallWatch;
  readonly #syncs: StallWatch;
  #operations = 0;
  readonly #pending = new Pending();
  readonly #deleted = new DeletedSegments();
  #tickets: Tickets;
  #timer: Timer | null = null;
  #committing: Promise<void> | null = null;
  /** Why nothing is stored now; null while all is well. */
  #failure: DazzleError | null = null;
  #closed = false;

  /** Opens a store, makes one where the directory is empty. Rejects `wrongCluster` for the directory of another cluster or
   * of a newer format, `diskFailed` where it can't be read. */
  static async open(options: FragmentStoreOptions): Promise<FragmentStore> {
    const { disk, random, clock, logger, clusterId, limits } = options;
    const storeId = await openIdentity(disk, random, clusterId);
    const fence = await Fence.open(disk, storeId, clusterId);
    const rows = await disk.openIndex("index");
    try {
      const index = new FragmentIndex(rows);
      const { head, damaged } = await recover({ disk, index, storeId, lastLog: fence.lastLog, logger });
      const space = new Space(disk, clock, logger);
      await space.ask();
      const store = new FragmentStore(options, storeId, fence, index, new Volumes(disk, limits.volumeBytes, head), space, damaged);
      await store.#tidy(await Volumes.list(disk));
      return store;
    } catch (error) {
      await rows.close();
      throw error;
    }
  }

  private constructor(
    { clock, random, logger, limits, clusterId }: FragmentStoreOptions,
    storeId: StoreId,
    fence: Fence,
    index: FragmentIndex,
    volumes: Volumes,
    space: Space,
    damaged: FoundDamaged,
  ) {
    this.storeId = storeId;
    this.limits = limits;
    this.fence = fence;
    this.#clock = clock;
    this.#random = random;
    this.#logger = logger;
    this.#index = index;
    this.#volumes = volumes;
    this.#space = space;
    this.#freed = new FreedSpace({ index, volumes, space, logger });
    this.#writes = new StallWatch(clock);
    this.#syncs = new StallWatch(clock);
    const damages = new Damages(logger, damaged);
    this.#reader = new FragmentReader({ volumes, index, pending: this.#pending, clock, damages });
    const replace = (fragment: ArrivedFragment, replaces: Entry) => this.#replace(fragment, replaces);
    const settled = { clusterId, index, pending: this.#pending, damages, settle: () => this.#settle() };
    this.upkeep = new Upkeep({ ...settled, clock, volumes, replace });
    this.carrier = new Carrier(settled);
    this.#tickets = this.#newTickets();
    fence.onAdopt(() => space.dropCredits((log) => fence.isLive(log)));
  }

  get boot(): BootId {
    return this.#tickets.boot;
  }

  /** Stores and reads since it was opened, without what is moved. */
  get operations(): number {
    return this.#operations;
  }

  /** Whether it takes stores. A disk that failed once is used again under a new boot; an index that failed, after a restart. */
  get healthy(): boolean {
    return this.#failure === null && this.#index.failure === null && !this.#closed;
  }

  /** Stores a fragment. Its pieces are sent by reference: don't touch them until this settles. Resolves when the bytes are
   * written, or on disk where `sync` is asked. One that is here already stays as it is, and its ticket is answered (0: on disk since an
   * earlier boot). Rejects what `check` throws, `noSpace`, `invalid` for what was trimmed long ago or deleted whole, `diskFailed` after which everything not durable
   * is gone and the boot is another. */
  async store(fragment: ArrivedFragment, request: StoreRequest): Promise<Durability & { readonly ticket: number }> {
    this.#requireHealthy();
    if (!request.restore) this.#operations++;
    if (this.#lags(INDEX_LAG_HARD)) await this.#commitSoon();
    this.#space.keepFresh();
    if (!this.#admits(fragment, request)) await this.#space.recent();
    while (this.carrier.isCarrying(fragment.decoded.header)) await this.carrier.carried();
    const tickets = this.#tickets;
    const held = this.#begin(tickets, fragment, request);
    const synced = request.sync ? this.#wait(tickets, held.ticket) : undefined;
    // Awaited below, unless the write fails first.
    synced?.catch(() => {});
    if (held.writing !== null) await held.writing;
    await synced;
    return { boot: tickets.boot, durable: tickets.durable, ticket: held.ticket };
  }

  /** From the check to the ticket and the write's start nothing is awaited. */
  #begin(
    tickets: Tickets,
    fragment: ArrivedFragment,
    request: StoreRequest,
  ): { readonly ticket: number; readonly writing: Promise<void> | null } {
    this.#requireHealthy();
    const { header } = fragment.decoded;
    request.check(header);
    const pending = this.#pending.find(header);
    if (pending !== undefined) return pending;
    if (this.#index.get(header) !== undefined) return { ticket: 0, writing: null };
    if (this.#deleted.has(header) || (!request.restore && header.sequence <= this.#index.logs.marks(header.log).trimmedTo))
      throw new DazzleError("invalid", `${nameOf(header)} is trimmed: this store is late`);
    if (!this.#admits(fragment, request)) throw this.#space.refusal;
    this.#index.logs.raise(header.log, header.stableSequence, header.trimmedTo);
    if (!request.restore) this.#space.spend(header.log, fragment.bytes);
    return this.#write(tickets, fragment, null);
  }

  async #replace(fragment: ArrivedFragment, replaces: Entry): Promise<void> {
    const request = { class: SegmentClass.system, restore: true };
    this.#requireHealthy();
    if (!this.#admits(fragment, request)) await this.#space.recent();
    this.#requireHealthy();
    if (!this.#index.holds(replaces)) return;
    if (!this.#admits(fragment, request)) throw this.#space.refusal;
    const tickets = this.#tickets;
    const { ticket, writing } = this.#write(tickets, fragment, replaces);
    const synced = this.#wait(tickets, ticket);
    synced.catch(() => {});
    await writing;
    await synced;
    await this.#commit();
  }

  #write(tickets: Tickets, { decoded, pieces, bytes }: ArrivedFragment, replaces: Entry | null): PendingEntry {
    const recordBytes = RECORD_HEADER.end + bytes;
    const place = this.#volumes.reserve(recordBytes);
    const record = encodeRecordHeader({ storeId: this.storeId, place, recordBytes, durable: tickets.durablePlace });
    const entry = makeEntry(decoded, place.volume, place.offset);
    const added: PendingEntry = { entry, replaces, ticket: tickets.begin(place), writing: null };
    this.#space.beginWrite(recordSpace(recordBytes));
    this.#pending.add(added);
    added.writing = this.#written(tickets, added, place, [record, ...pieces]);
    if (this.#lags(1)) void this.#commitSoon().catch(() => {});
    else this.#schedule();
    return added;
  }

  async #written(tickets: Tickets, added: PendingEntry, place: Place, pieces: readonly Uint8Array[]): Promise<void> {
    try {
      await this.#writes.during(this.#volumes.write(place, pieces));
    } catch (error) {
      if (tickets !== this.#tickets) throw newBootFailure(error);
      // Only what could not be written is lost where the disk is full; what is left of it is skipped by the index at once.
      if (!isDazzleError(error, "noSpace")) throw this.#renew(tickets, error);
      this.#pending.remove(new Set([added]));
      this.#space.exhausted();
      void this.#commitSoon().catch(() => {});
      throw error;
    } finally {
      this.#space.endWrite(spaceOf(added.entry));
      added.writing = null;
      tickets.finish(added.ticket);
    }
    if (tickets !== this.#tickets) throw newBootFailure(new Error("another write or sync failed"));
  }

  #admits({ decoded, bytes }: ArrivedFragment, request: Pick<StoreRequest, "class" | "restore">): boolean {
    return this.#space.admits(request.class, decoded.header.log, recordSpace(RECORD_HEADER.end + bytes), request.restore ? null : bytes);
  }

  /** Resolves when everything stored under `boot` up to `ticket` is on disk. Rejects `bootChanged`, or `diskFailed` when
   * the boot ends meanwhile; never tried again for that boot. */
  async sync(boot: string, ticket: number): Promise<Durability> {
    const tickets = this.#tickets;
    if (boot !== tickets.boot) throw new DazzleError("bootChanged", `the store's boot is ${tickets.boot}, not ${boot}`);
    if (ticket > tickets.last) throw new DazzleError("invalid", `ticket ${ticket} was not given yet, ${tickets.last} is the last`);
    await this.#wait(tickets, ticket);
    return { boot: tickets.boot, durable: tickets.durable };
  }

  /** Resolves when everything stored so far is on disk. */
  async syncAll(): Promise<void> {
    this.#requireHealthy();
    await this.#wait(this.#tickets, this.#tickets.last);
  }

  #wait(tickets: Tickets, ticket: number): Promise<void> {
    const durable = tickets.wait(ticket);
    return ticket <= tickets.durable ? durable : this.#syncs.during(durable);
  }

  /** Part of a fragment's data with its block checksums, as the message `read` has it. The tail's second piece is the
   * caller's. Rejects `fragmentMissing`, `fragmentDamaged`, `diskFailed`. */
  async read(request: Request<"read">, isToMove = false): Promise<ReadAnswer> {
    if (this.#closed) throw new DazzleError("diskFailed", "the store is closed");
    if (!isToMove) this.#operations++;
    return this.#reader.read(request);
  }

  /** Deletes segments at or below `trimmedTo`, which becomes durable with it; those past `end`, a decided end, as well. Under one version of a group, or all (-1).
   * Rejects `invalid` for any other sequence. Their space is back at the disk when it resolves. */
  async delete(request: Request<"delete">, end: number | null): Promise<void> {
    this.#requireHealthy();
    const { log, sequences } = request;
    const trimmedTo = Math.max(request.trimmedTo, this.#index.logs.marks(log).trimmedTo);
    for (const sequence of sequences)
      if (sequence > trimmedTo && (end === null || sequence <= end))
        throw new DazzleError("invalid", `sequence ${sequence} of log ${log} is not trimmed, ${trimmedTo} is`);
    this.#index.logs.raise(log, 0, trimmedTo);
    if (request.group < 0) this.#deleted.add(log, sequences);
    if (isPending(this.#pending, request)) await this.#settle();
    for (let at = 0; at === 0 || at < sequences.length; at += DELETE_SEQUENCES)
      await this.#deleteSome({ ...request, sequences: sequences.slice(at, at + DELETE_SEQUENCES) });
    if (isRepairPending(this.#pending, request)) await this.#settle();
  }

  async #deleteSome(request: Request<"delete">): Promise<void> {
    let removed: readonly Entry[] = [];
    const holes = await this.#index.exclusive(() => {
      const deletion = deletionOf(this.#index, request);
      removed = deletion.removed;
      return removed.length === 0 && !this.#index.logs.isDirty ? Promise.resolve([]) : this.#index.commit(deletion);
    });
    for (const entry of removed) {
      this.#reader.forget(entry);
      this.upkeep.damages.forget(entry);
    }
    await this.#freed.giveBack(new Set(removed.map(({ volume }) => volume)), holes);
    if (removed.length > 0) this.#schedule();
  }

  /** What a crash left undone: volumes in which nothing lives, holes not punched, marks of logs that are no more. */
  async #tidy(volumes: readonly number[]): Promise<void> {
    const stale = this.#index.staleMarks((log) => this.fence.isGone(log));
    await this.#freed.tidy(volumes, stale);
    await this.#commit();
  }

  /** Fragments of a log above `after`, as the message `list` has it: everything stored before the call, all on disk. */
  async list(log: number, after: number, limit: number): Promise<Reply<"list">> {
    await this.#settle();
    const { entries, more } = this.#index.list(log, after, Math.max(1, Math.min(limit, LIST_SEQUENCES_MAX)));
    const { stableSequence, trimmedTo } = this.#index.logs.marks(log);
    return {
      fragments: entries.map((entry) => listed(entry, this.#volumes.bytesSince(entry))),
      more,
      stableSequence,
      trimmedTo,
      vouched: this.#index.hasAllOf(log),
      boot: this.boot,
    };
  }

  /** The logs that anything is stored of. */
  async listLogs(): Promise<number[]> {
    await this.#settle();
    return this.#index.logsHeld();
  }

  /** Promises space to a log for this boot; answers how much it holds now, at most `bytes`. */
  async reserve(log: number, bytes: number): Promise<Reply<"reserve">> {
    this.#requireHealthy();
    await this.#space.recent();
    return { granted: this.#space.reserve(log, bytes), boot: this.boot };
  }

  /** Calls `listener` whenever somebody is not promised all the space that was asked for. */
  onShort(listener: () => void): void {
    this.#space.onShort = listener;
  }

  /** The disk is asked for its space in the background: the figures are those of the last answer. */
  stat(): StoreStatus {
    this.#space.keepFresh();
    return {
      store: this.storeId,
      boot: this.boot,
      bytesTotal: this.#space.totalBytes,
      bytesFree: this.#space.freeBytes,
      bytesForData: this.#space.dataBytes,
      bytesUsed: this.#index.liveBytes + this.#pending.bytes,
      bytesReserved: this.#space.creditBytes,
      fragments: this.#index.fragments + this.#pending.count,
      damaged: this.upkeep.damages.count,
      // With an index that failed it takes nothing until it is started again.
      stalledMs: this.#index.failure !== null ? Number.MAX_SAFE_INTEGER : Math.max(this.#writes.stalledMs, this.#syncs.stalledMs),
    };
  }

  /** Makes durable what was stored, and ends. */
  async close(): Promise<void> {
    this.#timer?.cancel();
    try {
      if (this.healthy) await this.#settle();
    } finally {
      this.#closed = true;
      this.#timer?.cancel();
      this.#tickets.fail(new DazzleError("diskFailed", "the store is closed"));
      await this.#index.close();
      await this.#volumes.close();
    }
  }

  #requireHealthy(): void {
    if (this.#closed) throw new DazzleError("diskFailed", "the store is closed");
    if (this.#failure !== null) throw this.#failure;
    if (this.#index.failure !== null) throw new DazzleError("diskFailed", `the index failed: ${String(this.#index.failure)}`);
  }

  #newTickets(): Tickets {
    const tickets: Tickets = new Tickets(
      newBootId(this.#random),
      () => this.#volumes.head,
      () => this.#volumes.flush(),
      (error) => this.#renew(tickets, error),
    );
    return tickets;
  }

  /** A write or a sync failed: whatever is not known to be on disk is refused and forgotten, under a new boot. Nothing is stored before
   * the index has passed what was forgotten, lest a start find it in memory and take it for durable. */
  #renew(tickets: Tickets, cause: unknown): DazzleError {
    const failure = newBootFailure(cause);
    if (tickets !== this.#tickets) return failure;
    this.#logger("error", "the disk failed; the store starts anew", { reason: (cause as Error).message });
    this.#failure = failure;
    this.#volumes.abandon();
    this.#pending.restart(tickets.durable);
    this.#reader.forgetAll();
    this.#space.dropCredits(() => false);
    this.#tickets = this.#newTickets();
    tickets.fail(failure);
    this.#commit().then(
      () => {
        this.#failure = null;
      },
      (error: Error) => this.#logger("error", "the store has stopped: its index failed", { reason: error.message }),
    );
    return failure;
  }

  #lags(times: number): boolean {
    return this.#pending.count >= times * INDEX_LAG_ENTRIES || this.#pending.bytes >= times * INDEX_LAG_BYTES;
  }

  #schedule(): void {
    if (this.#closed) return;
    this.#timer ??= this.#clock.after(INDEX_INTERVAL_MS, () => {
      this.#timer = null;
      if (this.healthy) void this.#commitSoon().catch(() => {});
    });
  }

  /** Brings the index up to what is stored now. Those who ask meanwhile wait for the same. */
  #commitSoon(): Promise<void> {
    this.#committing ??= this.#settle()
      .catch((error: Error) => {
        if (!this.#closed) this.#logger("warning", "the index lags behind", { reason: error.message });
        throw error;
      })
      .finally(() => {
        this.#committing = null;
      });
    return this.#committing;
  }

  /** Everything stored so far is on disk and in the index when it resolves. */
  async #settle(): Promise<void> {
    await this.syncAll();
    await this.#commit();
  }

  /** Moves what is on disk from memory to the index. */
  async #commit(): Promise<void> {
    await this.#index.exclusive(async () => {
      const tickets = this.#tickets;
      const moved = this.#pending.through(tickets.durable);
      const position = tickets.durablePlace;
      const before = this.#index.position.volume;
      const isCurrent = comparePlaces(position, this.#index.position) === 0;
      if (moved.length === 0 && isCurrent && !this.#freed.hasForgotten && !this.#index.logs.isDirty) return;
      const added: Entry[] = [];
      const repaired: Repaired[] = [];
      for (const { entry, replaces } of moved)
        if (replaces === null) added.push(entry);
        else repaired.push({ entry, replaces });
      const holes = await this.#index.commit({ added, repaired, position, forgotten: this.#freed.takeForgotten() });
      this.#pending.remove(new Set(moved));
      const passed = new Set<number>();
      for (let volume = before; volume < position.volume; volume++) passed.add(volume);
      for (const { entry, replaces } of repaired) {
        this.#reader.forget(entry);
        passed.add(replaces.volume);
      }
      if (passed.size > 0) await this.#freed.giveBack(passed, holes);
    });
  }
}
