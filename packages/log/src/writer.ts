import { assert, currentVersion, DazzleError, findGroup, findLog, type GroupId, type SegmentClass, type SegmentRecord } from "@dazzle/core";
import { OpenSegment, type PlacedBytes } from "./open-segment.ts";
import type { LogOptions } from "./options.ts";
import { PendingSegment, type SealedSegment } from "./pending-segment.ts";
import { Placement } from "./placement.ts";
import { type SegmentPool, SUMMARY_ROOM_BYTES } from "./segment-pool.ts";
import type { WriterCounters } from "./store-events.ts";
import { StoreQueue } from "./store-queue.ts";
import { SupersededSets } from "./superseded.ts";
import { Waiters } from "./waiters.ts";

export interface LogWriterOptions extends LogOptions {
  /** Live in the map, with `group` registered (rule 9). */
  readonly log: number;
  readonly clusterId: string;
  /** Where it begins. */
  readonly group: GroupId;
  /** Whether its segments go to all groups, in proportion to their room. Else they go to another only while the one they went to can't be written. */
  readonly spreads?: boolean;
  readonly pool: SegmentPool;
  /** 1 where nothing is said: a log is new. */
  readonly firstSequence?: number;
}

/** The one writer of a log. Bytes are placed in the open segment; sealed segments are striped over a group each and become stable
 * in order, through crashes of servers, changes of a group, and while one of several can't be written (Zebra, section 3.2: stripes are written once). */
export class LogWriter {
  readonly log: number;
  readonly #options: LogWriterOptions;
  readonly #placement: Placement;
  readonly #queue: StoreQueue;
  readonly #superseded: SupersededSets;
  readonly #waiters: Waiters;
  readonly #stableListeners: Array<(segment: SealedSegment) => void> = [];
  #open: OpenSegment;
  #pendingBytes = 0;
  #failure: DazzleError | null = null;

  constructor(options: LogWriterOptions) {
    const { log, group, clusterId, ports, limits, spreads } = options;
    const row = findLog(options.map.current, log);
    assert(row?.state === "live" && row.groups.includes(group), "a log registers its group before its first store");
    assert(options.pool.payloadBytes > limits.transactionBytes + SUMMARY_ROOM_BYTES, "a segment buffer has room for data");
    this.#options = options;
    this.log = log;
    const first = options.firstSequence ?? 1;
    this.#superseded = new SupersededSets(options, log);
    this.#placement = new Placement({ ...options, spreads: spreads ?? false }, group, (one) => this.#queue.traffic(one));
    this.#queue = new StoreQueue(
      options,
      { log, clusterId, stableSequence: first - 1, placement: this.#placement },
      {
        stable: (segment) => this.#becameStable(segment),
        // Later: a reader that took a view of it in this turn has not handed it on yet.
        released: (segment) => ports.clock.soon(() => options.pool.give(segment.buffer)),
        superseded: (sequence, ofGroup, version) => this.#superseded.add(sequence, ofGroup, version),
        failed: (error) => this.#fail(error),
      },
    );
    this.#waiters = new Waiters(
      ports.clock,
      limits.writeDeadlineMs,
      () => this.#queue.progressMs,
      () => this.#deadlineReached(),
    );
    this.#open = this.#openNext(first);
  }

  /** The open segment: where `place` puts bytes. */
  get openSequence(): number {
    return this.#open.sequence;
  }

  /** Bytes placed in the open segment so far. */
  get openBytes(): number {
    return this.#open.usedBytes;
  }

  /** Where the open segment is to go: a hint for whoever reads it then. It may end in another group. */
  get openPlacement(): { readonly group: GroupId; readonly groupVersion: number } {
    const { group } = this.#open;
    return { group, groupVersion: this.#currentVersion(group).version };
  }

  /** The data limit of the open segment: d times `fragmentBytes` of the group version that was current when it was opened. */
  get capacityBytes(): number {
    return this.#open.capacityBytes;
  }

  /** Room for `length` bytes in the open segment, aligned to 4 KiB where it is that long, else to 8. Undefined when the segment must be sealed first,
   * or has no buffer (see `whenReady`). `reserve`: also in the `transactionBytes` behind the data limit. */
  place(length: number, reserve = false): PlacedBytes | undefined {
    return this.#open.place(length, reserve);
  }

  /** Seals the open segment with these records, sorted by offset; its summary is added here. Opens the next. Everything placed must have been
   * filled. `urgent`: somebody waits for it. */
  seal(records: readonly SegmentRecord[], options: { readonly class: SegmentClass; readonly urgent: boolean }): SealedSegment {
    const open = this.#open;
    const { summaryOffset, payloadBytes } = open.close(records);
    assert(open.buffer !== undefined, "a sealed segment has a buffer");
    const segment = new PendingSegment({
      log: this.log,
      sequence: open.sequence,
      ...this.openPlacement,
      payloadBytes,
      summaryOffset,
      class: options.class,
      urgent: options.urgent,
      buffer: open.buffer,
    });
    this.#pendingBytes += payloadBytes;
    this.#placement.sealed(open.group, payloadBytes);
    this.#open = this.#openNext(open.sequence + 1);
    if (this.#failure !== null) segment.fail(this.#failure);
    else this.#queue.add(segment);
    return segment;
  }

  /** Whether the open segment has a buffer. */
  get ready(): boolean {
    return this.#open.buffer !== undefined;
  }

  /** Resolves when `ready`. Rejects when nothing became stable for `writeDeadlineMs` (`noSpace`, or `unreachable` naming
   * the servers awaited), or at once when the log can't be written any more. */
  whenReady(): Promise<void> {
    return this.#failure !== null ? Promise.reject(this.#failure) : this.#waiters.wait(() => this.ready);
  }

  /** Bytes placed or sealed, and not yet stable. */
  get unstableBytes(): number {
    return this.#pendingBytes + this.#open.usedBytes;
  }

  get stableSequence(): number {
    return this.#queue.stableSequence;
  }

  /** Told in the headers of later segments. Only grows; at most the stable sequence. */
  get trimmedTo(): number {
    return this.#queue.trimmedTo;
  }

  set trimmedTo(sequence: number) {
    assert(sequence <= this.stableSequence, "only what is stable is trimmed");
    if (sequence <= this.#queue.trimmedTo) return;
    this.#queue.trimmedTo = sequence;
    this.#superseded.trimmed(sequence);
  }

  /** Bytes of a segment that is open or not yet stable, from memory: a view, to be used before returning to the event loop. */
  read(sequence: number, offset: number, length: number): Buffer | undefined {
    const open = sequence === this.#open.sequence;
    const held = open ? this.#open.buffer : this.#queue.pending.get(sequence)?.buffer;
    return held?.payload.subarray(offset, offset + length);
  }

  /** Makes the sealed segments up to `sequence` stable now, and resolves when they are. Rejects as `whenReady`. */
  flush(sequence: number): Promise<void> {
    const last = Math.min(sequence, this.#open.sequence - 1);
    if (last <= this.stableSequence) return Promise.resolve();
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#queue.want(last);
    return this.#waiters.wait(() => this.stableSequence >= last);
  }

  /** Calls `listener` with every segment, in sequence order, as the stable prefix grows. */
  onStable(listener: (segment: SealedSegment) => void): void {
    this.#stableListeners.push(listener);
  }

  /** Set for ever when the log was sealed or the writer expelled. */
  get failure(): DazzleError | null {
    return this.#failure;
  }

  get counters(): Readonly<WriterCounters> {
    return this.#queue.counters;
  }

  /** Ends the writer. What is not stable then stays as it is: `flush` before. Its promises reject `cancelled`. */
  async close(): Promise<void> {
    if (this.#failure === null) this.#fail(new DazzleError("cancelled", `the writer of log ${this.log} was closed`));
  }

  #currentVersion(group: GroupId) {
    return currentVersion(findGroup(this.#options.map.current, group));
  }

  #openNext(sequence: number): OpenSegment {
    const { pool, limits } = this.#options;
    const roomBytes = pool.payloadBytes - limits.transactionBytes - SUMMARY_ROOM_BYTES;
    const group = this.#placement.next();
    const dataBytes = this.#currentVersion(group).dataFragments * limits.fragmentBytes;
    const open = new OpenSegment(sequence, group, Math.min(dataBytes, roomBytes), limits);
    this.#supply(open);
    return open;
  }

  #supply(open: OpenSegment): void {
    const buffer = this.#options.pool.take();
    if (buffer === undefined) {
      this.#options.pool.whenFree(() => this.#supply(open));
      return;
    }
    open.buffer = buffer;
    this.#waiters.check();
  }

  #becameStable(segment: PendingSegment): void {
    this.#pendingBytes -= segment.payloadBytes;
    this.#superseded.kept(segment.sequence, segment.group, segment.groupVersion);
    for (const listener of this.#stableListeners) listener(segment);
    this.#waiters.check();
  }

  #deadlineReached(): DazzleError {
    const error = this.#queue.awaited;
    this.#options.ports.logger("error", "nothing became stable in time", {
      log: this.log,
      deadlineMs: this.#options.limits.writeDeadlineMs,
      reason: error.message,
    });
    return error;
  }

  #fail(error: DazzleError): void {
    if (this.#failure !== null) return;
    this.#failure = error;
    this.#queue.stop();
    this.#options.ports.logger(error.code === "cancelled" ? "info" : "error", "the log is not written any more", {
      log: this.log,
      reason: error.message,
    });
    for (const segment of this.#queue.pending.values()) segment.fail(error);
    this.#waiters.rejectAll(error);
  }
}
