/** What counts as a moment ago. */
const RECENT_MS = 2_000;
/** Of more, some are forgotten early. */
const RECENT_MAX = 10_000;

/** Index numbers to which something happened a moment ago. */
export class Recent {
  readonly #untilMs = new Map<number, number>();

  add(ino: number, nowMs: number): void {
    if (this.#untilMs.size >= RECENT_MAX) this.#untilMs.clear();
    this.#untilMs.set(ino, nowMs + RECENT_MS);
  }

  has(ino: number, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(ino);
    if (untilMs === undefined || untilMs > nowMs) return untilMs !== undefined;
    this.#untilMs.delete(ino);
    return false;
  }
}
