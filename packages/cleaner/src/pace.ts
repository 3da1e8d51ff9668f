/** The share of the time that a cleaner works with space to spare and unasked, where nobody else keeps the disks busy, and where others do. */
const SHARE_IDLE = 0.05;
const SHARE_BUSY = 0.005;
/** What a segment costs, however small it is. */
const SEGMENT_BYTES = 64 * 1024;
/** A set of sets' quickest counts less and less, so that a cluster that has become slower for good is not taken for a busy one for ever. */
const FADES = 0.99;
const SLOWDOWN_MAX = 10;
/** Of what the last sets tell. */
const WEIGHT = 0.5;

export interface Work {
  readonly segments: number;
  readonly bytes: number;
  readonly tookMs: number;
}

/** How busy others keep what one cleaner works with: how much longer its work takes than at its quickest. */
export class Pace {
  /** Bytes in a millisecond. */
  #quickest = 0;
  #slowdown = 1;

  done({ segments, bytes, tookMs }: Work): void {
    // Segments that had emptied themselves take no time worth telling, and would be the quickest there ever was.
    if (bytes === 0) return;
    const rate = (bytes + segments * SEGMENT_BYTES) / Math.max(1, tookMs);
    this.#quickest = Math.max(rate, FADES * this.#quickest);
    const slowdown = Math.min(SLOWDOWN_MAX, this.#quickest / rate);
    this.#slowdown += WEIGHT * (slowdown - this.#slowdown);
  }

  /** From 1, where nothing is in its way. */
  get slowdown(): number {
    return this.#slowdown;
  }

  /** The share of the time that it works: less while others are busy, but no less than what `shortage` needs. */
  shareAt(shortage: number): number {
    const least = Math.max(SHARE_BUSY, shortage ** 2);
    return Math.max(least, Math.max(SHARE_IDLE, shortage) / this.#slowdown);
  }
}
