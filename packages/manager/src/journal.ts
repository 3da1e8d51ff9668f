import {
  type Answer,
  assert,
  type Clock,
  DazzleError,
  type GroupId,
  isDazzleError,
  type LogAddress,
  type Logger,
  RecordKind,
  SegmentClass,
  type SegmentRecord,
  SUMMARY_RECORD,
  type Timer,
} from "@dazzle/core";
import type { LogWriter } from "@dazzle/log";

/** The part of a log writer that a manager uses. */
export type JournalWriter = Pick<
  LogWriter,
  | "log"
  | "openPlacement"
  | "openSequence"
  | "openBytes"
  | "place"
  | "seal"
  | "ready"
  | "whenReady"
  | "stableSequence"
  | "trimmedTo"
  | "read"
  | "flush"
  | "onStable"
  | "failure"
  | "close"
>;

/** A record to be appended; where it lies is found by the journal. */
export interface JournalRecord {
  readonly kind: RecordKind;
  /** The slot. */
  readonly owner: number;
  readonly position: number;
  readonly term: number;
  readonly length: number;
}

/** The manager's one log: records of all its shards gathered in the open segment, sealed when it is full, when somebody
 * waits, and at least every `flushIntervalMs`. */
export class Journal {
  readonly #writer: JournalWriter;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #flushIntervalMs: number;
  readonly #recordsMax: number;
  #records: SegmentRecord[] = [];
  #lastSealed: number;
  /** The segment that the last record of what was applied is in. */
  #appliedSequence: number;
  #timer: Timer | null = null;
  #settling: Promise<void> | null = null;
  #nextSettling: Promise<void> | null = null;
  #closed = false;
  appendedBytes = 0;
  /** Records of what was applied, appended so far. */
  appliedRecords = 0;

  constructor(options: {
    writer: JournalWriter;
    clock: Clock;
    logger: Logger;
    flushIntervalMs: number;
    transactionBytes: number;
  }) {
    this.#writer = options.writer;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#flushIntervalMs = options.flushIntervalMs;
    // The summary shares the room behind the data with what is placed there.
    this.#recordsMax = Math.max(1, Math.floor(options.transactionBytes / 4 / SUMMARY_RECORD.end));
    this.#lastSealed = options.writer.openSequence - 1;
    this.#appliedSequence = this.#lastSealed;
  }

  get log(): number {
    return this.#writer.log;
  }

  /** Where the next record goes, or a later segment. */
  get openSequence(): number {
    return this.#writer.openSequence;
  }

  /** The segment that the last record is in. */
  get appendedSequence(): number {
    return this.#records.length > 0 ? this.#writer.openSequence : this.#lastSealed;
  }

  /** Where the open segment goes, if nothing comes in between. */
  get group(): GroupId {
    return this.#writer.openPlacement.group;
  }

  get stableSequence(): number {
    return this.#writer.stableSequence;
  }

  get trimmedTo(): number {
    return this.#writer.trimmedTo;
  }

  set trimmedTo(sequence: number) {
    this.#writer.trimmedTo = sequence;
  }

  get failure(): DazzleError | null {
    return this.#writer.failure;
  }

  onStable(listener: () => void): void {
    this.#writer.onStable(listener);
  }

  /** Appends records that lie together in one segment, one behind the other: all of them are found again, or none. `fill`
   * writes their bytes, at once. Answers where they start, with the length of them all: a promise where a buffer must be
   * waited for. */
  append(records: readonly JournalRecord[], fill: (bytes: Buffer, address: LogAddress) => void): Answer<LogAddress> {
    let length = 0;
    for (const record of records) length += record.length;
    const address = this.#tryAppend(records, length, fill);
    return address ?? this.#appendLater(records, length, fill);
  }

  async #appendLater(
    records: readonly JournalRecord[],
    length: number,
    fill: (bytes: Buffer, address: LogAddress) => void,
  ): Promise<LogAddress> {
    for (;;) {
      await this.#orEnded(this.#writer.whenReady());
      const address = this.#tryAppend(records, length, fill);
      if (address !== undefined) return address;
    }
  }

  /** Undefined where the log has no buffer now. */
  #tryAppend(
    records: readonly JournalRecord[],
    length: number,
    fill: (bytes: Buffer, address: LogAddress) => void,
  ): LogAddress | undefined {
    if (this.#writer.failure !== null) throw ended(this.#writer.failure);
    if (this.#closed) throw new DazzleError("cancelled", "the manager's log is closed");
    if (this.#records.length > 0 && this.#records.length + records.length > this.#recordsMax) this.#seal(false);
    if (!this.#writer.ready) return undefined;
    let placed = this.#writer.place(length);
    if (placed === undefined && this.#records.length > 0) {
      this.#seal(false);
      if (!this.#writer.ready) return undefined;
      placed = this.#writer.place(length);
    }
    placed ??= this.#writer.place(length, true);
    assert(placed !== undefined, `a segment of the manager's log has room for ${length} bytes`);
    const { openSequence: sequence, log, openPlacement } = this.#writer;
    const address = { log, sequence, offset: placed.offset, length, ...openPlacement };
    let offset = placed.offset;
    for (const record of records) {
      this.#records.push({ ...record, offset });
      offset += record.length;
      if (record.kind !== RecordKind.applied) continue;
      this.appliedRecords++;
      this.#appliedSequence = sequence;
    }
    fill(placed.bytes, address);
    this.appendedBytes += length;
    this.#timer ??= this.#clock.after(this.#flushIntervalMs, () => this.#flushDue());
    return address;
  }

  #seal(urgent: boolean): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#lastSealed = this.#writer.seal(this.#records, { class: SegmentClass.system, urgent }).sequence;
    this.#records = [];
  }

  #flushDue(): void {
    this.#timer = null;
    this.settleSoon();
  }

  /** As `settle`, for who does not wait for it. */
  settleSoon(): void {
    if (this.#closed) return;
    this.settle().catch((error: unknown) => {
      if (!isDazzleError(error)) throw error;
      this.#logger("warning", "the manager's log could not be flushed", { log: this.log, reason: error.message });
    });
  }

  /** Makes everything appended before the call stable. Those who wait together share a segment. */
  settle(): Promise<void> {
    if (this.appendedSequence <= this.stableSequence) return Promise.resolve();
    if (this.#settling === null) {
      this.#settling = this.#settleNow().finally(() => {
        this.#settling = null;
      });
      return this.#settling;
    }
    this.#nextSettling ??= this.#settling
      .catch(() => {})
      .then(() => {
        this.#nextSettling = null;
        return this.settle();
      });
    return this.#nextSettling;
  }

  /** Makes everything stable that was applied before the call: sorted runs that are being written behind it need not be. */
  settleApplied(): Promise<void> {
    const sequence = this.#appliedSequence;
    if (sequence <= this.stableSequence) return Promise.resolve();
    return sequence > this.#lastSealed ? this.settle() : this.#orEnded(this.#writer.flush(sequence));
  }

  #settleNow(): Promise<void> {
    if (this.#writer.failure !== null) return Promise.reject(ended(this.#writer.failure));
    if (this.#records.length > 0) this.#seal(true);
    return this.#orEnded(this.#writer.flush(this.#lastSealed));
  }

  #orEnded(written: Promise<void>): Promise<void> {
    return written.catch((error: unknown) => {
      const { failure } = this.#writer;
      throw failure === null ? error : ended(failure);
    });
  }

  /** Bytes of a segment of this log that is not stable yet; undefined where it is not in memory any more. A copy. */
  read(address: LogAddress): Buffer | undefined {
    if (address.log !== this.#writer.log) return undefined;
    const bytes = this.#writer.read(address.sequence, address.offset, address.length);
    return bytes === undefined ? undefined : Buffer.from(bytes);
  }

  /** Ends the log; `settle` before. */
  async close(): Promise<void> {
    this.#closed = true;
    this.#timer?.cancel();
    this.#timer = null;
    await this.#writer.close();
  }
}

/** That this log is sealed or expelled says nothing of the mount that asked: it is to ask again, of the next incarnation. */
function ended(failure: DazzleError): DazzleError {
  return new DazzleError("notReady", `the manager's log is not written any more: ${failure.message}`);
}
