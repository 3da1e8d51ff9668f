/** Random numbers that a seed decides. `DAZZLE_SEED=N` replays one seed of the tests that take several. */
export class Seeded {
  readonly seed: number;
  #state: number;

  constructor(seed: number) {
    this.seed = seed;
    this.#state = seed >>> 0;
  }

  /** 0 <= n < `bound`, a whole number (mulberry32). */
  below(bound: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = this.#state;
    mixed = Math.imul(mixed ^ (mixed >>> 15), mixed | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32) * bound);
  }

  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  chance(outOf: number): boolean {
    return this.below(outOf) === 0;
  }

  /** Up to the largest safe integer, small ones as likely as large ones. */
  safe(): number {
    return Math.floor((2 ** this.below(54) - 1) * (this.below(1000) / 999));
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.allocUnsafe(length);
    for (let at = 0; at < length; at++) bytes[at] = this.below(256);
    return bytes;
  }

  /** A latin1 string of any bytes. */
  name(bytesMax: number): string {
    return this.bytes(this.between(1, bytesMax)).toString("latin1");
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }
}

/** The seeds a test runs: 1 … `count`, or the one that the environment names. */
export function seeds(count: number): Seeded[] {
  const asked = process.env.DAZZLE_SEED;
  if (asked !== undefined) return [new Seeded(Number(asked))];
  return Array.from({ length: count }, (_, index) => new Seeded(index + 1));
}
