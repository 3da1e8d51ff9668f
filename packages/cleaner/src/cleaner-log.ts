import {
  assert,
  BLOCK_BYTES,
  currentVersion,
  DazzleError,
  findGroup,
  findLog,
  isDazzleError,
  type Move,
  type Piece,
  RecordKind,
  reasonOf,
  registerLog,
  roundUp,
  SegmentClass,
  type SegmentRecord,
  sharedAbort,
  withLog,
} from "@dazzle/core";
import { LogWriter, type SealedSegment, segmentPoolFor } from "@dazzle/log";
import type { CleanerOptions } from "./options.ts";
import { SlotManagers } from "./slot-managers.ts";

/** Segments that are under way, to the servers or to the managers. */
const SEGMENTS_MAX = 8;

/** A block's place in the segment that is cleaned. */
export interface Origin {
  readonly log: number;
  readonly sequence: number;
}

interface Sealed {
  readonly segment: SealedSegment;
  readonly moves: readonly Move[];
}

/** A cleaner's own log in one group: what it moves there, and tells the managers once that is stable. */
export class CleanerLog {
  readonly group: number;
  readonly #options: CleanerOptions;
  readonly #managers: SlotManagers;
  readonly #writer: LogWriter;
  readonly #ending = sharedAbort();
  #moves: Move[] = [];
  #records: SegmentRecord[] = [];
  /** In the log's order: those that wait while others are made stable and told, and go together then. One wait for the disks, there and at the managers, serves them all. */
  #sealed: Sealed[] = [];
  #underWay = 0;
  #shipping: Promise<void> | null = null;
  #failure: DazzleError | null = null;
  bytesWritten = 0;
  /** When it was begun, or last moved something. */
  movedMs: number;

  private constructor(options: CleanerOptions, group: number, writer: LogWriter) {
    this.#options = options;
    this.#managers = new SlotManagers(options);
    this.#writer = writer;
    this.group = group;
    this.movedMs = options.ports.clock.nowMs();
  }

  /** A new log, live in the map. */
  static async begin(options: CleanerOptions, group: number): Promise<CleanerLog> {
    const { map, limits, ports, self: member } = options;
    const row = findGroup(map.current, group);
    const { id: log } = await registerLog(map, { kind: "cleaner", member, label: row.name, group: row.id, ports });
    const { dataFragments } = currentVersion(row);
    const dirtyBytes = SEGMENTS_MAX * dataFragments * limits.fragmentBytes;
    const pool = segmentPoolFor({ ...limits, segmentsInFlight: SEGMENTS_MAX, dirtyBytes }, dataFragments);
    return new CleanerLog(options, group, new LogWriter({ ...options, log, clusterId: map.current.clusterId, group: row.id, pool }));
  }

  get log(): number {
    return this.#writer.log;
  }

  /** Payload bytes of a full segment. */
  get segmentBytes(): number {
    return this.#writer.capacityBytes;
  }

  /** Why it can't be used any more: it was expelled, or a segment could not be finished in time. */
  get failure(): DazzleError | null {
    return this.#failure ?? this.#writer.failure;
  }

  /** Copies a piece of a segment that is cleaned. `bytes` are used when it resolves. Rejects with `failure`. */
  async put(origin: Origin, piece: Piece, bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < piece.length; ) {
      const left = piece.length - done;
      const placed = await this.#place(left);
      const { length } = placed.bytes;
      placed.bytes.set(bytes.subarray(done, done + length));
      const block = piece.block + done / BLOCK_BYTES;
      this.#records.push({
        ...{ kind: RecordKind.block, owner: piece.ino, position: block * BLOCK_BYTES, term: 0 },
        ...{ offset: placed.offset, length },
      });
      this.#moves.push({
        ...{ ino: piece.ino, block, offset: placed.offset, length },
        ...{ fromLog: origin.log, fromSequence: origin.sequence, fromOffset: piece.offset + done },
      });
      done += length;
    }
  }

  /** Room for as much as the open segment has, whole blocks of it at least. */
  async #place(length: number) {
    for (;;) {
      if (this.failure !== null) throw this.failure;
      if (this.#writer.ready) {
        const { capacityBytes, openBytes } = this.#writer;
        const room = Math.floor((capacityBytes - roundUp(openBytes, BLOCK_BYTES)) / BLOCK_BYTES) * BLOCK_BYTES;
        const placed = this.#writer.place(length) ?? (room > 0 && room < length ? this.#writer.place(room) : undefined);
        if (placed !== undefined) return placed;
        assert(this.#records.length > 0, "an empty segment has room for a block");
        this.#seal(false);
      }
      if (this.#sealed.length + this.#underWay >= SEGMENTS_MAX) await this.#shipping;
      await this.#orFailure(this.#writer.whenReady());
    }
  }

  #seal(urgent: boolean): void {
    const segment = this.#writer.seal(this.#records, { class: SegmentClass.cleaner, urgent });
    this.#sealed.push({ segment, moves: this.#moves });
    this.#records = [];
    this.#moves = [];
    this.bytesWritten += segment.payloadBytes;
    this.movedMs = this.#options.ports.clock.nowMs();
    if (this.#shipping === null) this.#shipSealed();
  }

  #shipSealed(): void {
    const together = this.#sealed;
    this.#sealed = [];
    this.#underWay = together.length;
    this.#shipping = this.#ship(together)
      .catch((error: unknown) => this.giveUp(error))
      .finally(() => {
        this.#underWay = 0;
        this.#shipping = null;
        if (this.#sealed.length > 0 && this.#failure === null) this.#shipSealed();
      });
  }

  async #ship(together: readonly Sealed[]): Promise<void> {
    const last = together.at(-1)?.segment.sequence ?? 0;
    await this.#writer.flush(last);
    const { trimmedTo } = this.#writer;
    const told = together.map(({ segment: { sequence, group, groupVersion }, moves }) =>
      this.#managers.relocate({ log: this.log, sequence, group, groupVersion, trimmedTo }, moves, this.#ending.signal),
    );
    await Promise.all(told);
    this.#writer.trimmedTo = last;
  }

  /** Resolves when everything that was put is where it should be, and the managers know. Rejects with `failure`. */
  async settle(): Promise<void> {
    if (this.#records.length > 0) this.#seal(true);
    while (this.#shipping !== null) await this.#shipping;
    if (this.failure !== null) throw this.failure;
    await this.tellTrimmed(this.#ending.signal);
  }

  /** Managers keep in memory how far it is trimmed: those that were started since are told anew. */
  async tellTrimmed(signal: AbortSignal): Promise<void> {
    const { trimmedTo } = this.#writer;
    if (trimmedTo > 0) await this.#managers.tellTrimmed(this.log, trimmedTo, signal);
  }

  #orFailure(promise: Promise<void>): Promise<void> {
    return promise.catch((error: unknown) => {
      this.giveUp(error);
      throw error;
    });
  }

  /** The log is given up: whoever recovers it finds its end. What is not answered was not moved, or was, and is right in either place. */
  giveUp(error: unknown): void {
    if (!isDazzleError(error)) throw error;
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#ending.abort();
    void this.#writer.close();
    const { map, ports } = this.#options;
    ports.logger("warning", "a cleaner's log is given up", { log: this.log, reason: error.message });
    map
      .change((now) => (findLog(now, this.log)?.state === "live" ? withLog(now, this.log, { state: "expelled" }) : undefined))
      .catch((reason: unknown) => ports.logger("info", "it is not expelled yet", { log: this.log, reason: reasonOf(reason) }));
  }

  /** A clean end: everything is answered, and the map has it as closed. Where that fails, the log is given up. */
  async close(): Promise<void> {
    const { log } = this;
    try {
      await this.settle();
      const end = this.#writer.stableSequence;
      await this.#options.map.change((now) =>
        findLog(now, log)?.state === "live" ? withLog(now, log, { state: "closed", end }) : undefined,
      );
      this.#failure = new DazzleError("cancelled", `log ${log} is closed`);
      await this.#writer.close();
    } catch (error) {
      this.giveUp(error);
    }
  }
}
