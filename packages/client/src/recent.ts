/** Index numbers to which something happened a moment ago. */
export class Recent {
  readonly #untilMs = new Map<number, number>();
  readonly #forMs: number;
  readonly #max: number;

  /** Of more than `max`, some are forgotten early. */
  constructor(forMs: number, max: number) {
    this.#forMs = forMs;
    this.#max = max;
  }

  add(ino: number, nowMs: number): void {
    if (this.#untilMs.size >= this.#max) this.#untilMs.clear();
    this.#untilMs.set(ino, nowMs + this.#forMs);
  }

  has(ino: number, nowMs: number): boolean {
    const untilMs = this.#untilMs.get(ino);
    if (untilMs === undefined || untilMs > nowMs) return untilMs !== undefined;
    this.#untilMs.delete(ino);
    return false;
  }
}
