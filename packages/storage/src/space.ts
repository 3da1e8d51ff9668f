import { assert, type Clock, DazzleError, type Disk, type Logger, SegmentClass, watermarkBytes } from "@dazzle/core";

/** The disk is asked when its answer is older than this, or after so many bytes: other programs fill it, too. */
const ANSWER_AGE_MS = 1_000;
const ANSWER_BYTES = 32 * 1024 * 1024;
/** Where a log is promised less than it asked for, and less than this share of the disk, space is short. On a small disk, less than what a mount has under way: it asks for
 * more than it needs at once. */
const SHORT = { share: 1 / 128, leastBytes: 16 * 1024 * 1024 } as const;

/** What is free, and to whom it is promised. */
export class Space {
  readonly #disk: Disk;
  readonly #clock: Clock;
  readonly #logger: Logger;
  #totalBytes = 0;
  #answerBytes = 0;
  #answerMs = 0;
  /** Taken since the answer was asked for, with what was being written then: it may not be in the answer. */
  #takenBytes = 0;
  #writingBytes = 0;
  #begunBytes = 0;
  #stale = true;
  #asking: Promise<void> | null = null;
  // INVARIANT: `#creditBytes` is the sum of `#credits`, which holds no zeros.
  readonly #credits = new Map<number, number>();
  #creditBytes = 0;

  /** Called whenever somebody is promised so little that a cleaner should make room. */
  onShort: () => void = () => {};

  constructor(disk: Disk, clock: Clock, logger: Logger) {
    this.#disk = disk;
    this.#clock = clock;
    this.#logger = logger;
  }

  get totalBytes(): number {
    return this.#totalBytes;
  }

  get freeBytes(): number {
    return Math.max(0, this.#answerBytes - this.#takenBytes);
  }

  /** Free for data, promised bytes included. */
  get dataBytes(): number {
    return Math.max(0, this.freeBytes - watermarkBytes("data", this.#totalBytes));
  }

  get creditBytes(): number {
    return this.#creditBytes;
  }

  get #outdated(): boolean {
    return this.#stale || this.#clock.nowMs() - this.#answerMs >= ANSWER_AGE_MS || this.#begunBytes >= ANSWER_BYTES;
  }

  /** Resolves once the disk's answer is recent: nothing is refused on an old one. */
  async recent(): Promise<void> {
    if (this.#asking !== null || this.#outdated) await this.ask();
  }

  /** Asks the disk. Those who ask at one time share the answer. */
  ask(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async #ask(): Promise<void> {
    this.#stale = false;
    this.#begunBytes = 0;
    this.#answerMs = this.#clock.nowMs();
    const before = this.#takenBytes;
    const writing = this.#writingBytes;
    try {
      const { totalBytes, freeBytes } = await this.#disk.space();
      this.#totalBytes = totalBytes;
      this.#answerBytes = freeBytes;
      this.#takenBytes += writing - before;
    } catch (error) {
      this.#logger("warning", "the disk does not tell its free space", { reason: (error as Error).message });
    }
  }

  /** Asks the disk in the background where its answer is old. */
  keepFresh(): void {
    if (this.#asking === null && this.#outdated) void this.ask();
  }

  /** Something was deleted: the next answer is better than what is known. */
  freed(): void {
    this.#stale = true;
  }

  /** The disk itself refused a write: nothing is free until it says otherwise. */
  exhausted(): void {
    this.#takenBytes = Math.max(this.#takenBytes, this.#answerBytes);
  }

  /** Whether a record of this class may be stored: `bytes` on disk, `creditBytes` counted against the log's credits; null: not against them. */
  admits(segmentClass: SegmentClass, log: number, bytes: number, creditBytes: number | null): boolean {
    const left = this.freeBytes - bytes;
    switch (segmentClass) {
      case SegmentClass.data:
        if (creditBytes !== null && this.creditsOf(log) >= creditBytes) return left >= watermarkBytes("promised", this.#totalBytes);
        return left - this.#creditBytes >= watermarkBytes("data", this.#totalBytes);
      case SegmentClass.metadata:
        return left >= watermarkBytes("metadata", this.#totalBytes);
      case SegmentClass.cleaner:
        return left >= watermarkBytes("cleaner", this.#totalBytes);
      default:
        return left >= watermarkBytes("system", this.#totalBytes);
    }
  }

  /** What is answered where it does not. */
  get refusal(): DazzleError {
    return new DazzleError("noSpace", `${this.freeBytes} bytes are free, ${this.#creditBytes} of them promised`);
  }

  beginWrite(bytes: number): void {
    this.#takenBytes += bytes;
    this.#writingBytes += bytes;
    this.#begunBytes += bytes;
  }

  endWrite(bytes: number): void {
    this.#writingBytes -= bytes;
  }

  creditsOf(log: number): number {
    return this.#credits.get(log) ?? 0;
  }

  /** Promises `log` up to `bytes`, and answers what it holds now. What was promised is taken back only where less is asked for. */
  reserve(log: number, bytes: number): number {
    const held = this.creditsOf(log);
    const available = this.freeBytes - watermarkBytes("data", this.#totalBytes) - (this.#creditBytes - held);
    const granted = Math.min(bytes, Math.max(held, available));
    this.#setCredits(log, granted);
    if (granted < Math.min(bytes, Math.max(SHORT.leastBytes, SHORT.share * this.#totalBytes))) this.onShort();
    return granted;
  }

  /** A store of class data uses up credits of its log. */
  spend(log: number, bytes: number): void {
    const held = this.creditsOf(log);
    if (held > 0) this.#setCredits(log, Math.max(0, held - bytes));
  }

  /** Takes back what logs hold that are not `live`. */
  dropCredits(live: (log: number) => boolean): void {
    for (const log of [...this.#credits.keys()]) if (!live(log)) this.#setCredits(log, 0);
  }

  #setCredits(log: number, bytes: number): void {
    assert(bytes >= 0, "credits are not negative");
    this.#creditBytes += bytes - this.creditsOf(log);
    if (bytes === 0) this.#credits.delete(log);
    else this.#credits.set(log, bytes);
  }

  checkInvariants(): void {
    let sum = 0;
    for (const bytes of this.#credits.values()) sum += bytes;
    assert(sum === this.#creditBytes, "the credits add up");
    assert(this.#writingBytes >= 0, "no more writes end than begin");
  }
}
