import { assert, type Random } from "@dazzle/core";

const WORD = 2 ** 32;

/** Four words out of a text, each bit depending on all of it (MurmurHash3's finish). */
function seedWords(text: string): [number, number, number, number] {
  let hash = 1779033703 ^ text.length;
  for (let index = 0; index < text.length; index++) {
    hash = Math.imul(hash ^ text.charCodeAt(index), 3432918353);
    hash = (hash << 13) | (hash >>> 19);
  }
  const word = () => {
    hash = Math.imul(hash ^ (hash >>> 16), 2246822507);
    hash = Math.imul(hash ^ (hash >>> 13), 3266489909);
    hash ^= hash >>> 16;
    return hash | 0;
  };
  return [word(), word(), word(), word()];
}

/** What a crash asks of whoever decides what survives it. */
export type CrashChoices = Pick<SeededRandom, "pick" | "chance" | "below">;

/** Randomness that a seed decides (sfc32). */
export class SeededRandom implements Random {
  readonly #seed: string;
  #a: number;
  #b: number;
  #c: number;
  #counter: number;

  constructor(seed: number | string) {
    this.#seed = String(seed);
    [this.#a, this.#b, this.#c, this.#counter] = seedWords(this.#seed);
    for (let round = 0; round < 12; round++) this.word();
  }

  /** A stream of its own for `label`: what one part of a simulation draws does not move the others. */
  fork(label: string): SeededRandom {
    return new SeededRandom(`${this.#seed}/${label}`);
  }

  /** A whole number, 0 <= n < 2^32. */
  word(): number {
    const sum = (((this.#a + this.#b) | 0) + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (this.#c << 21) | (this.#c >>> 11);
    this.#c = (this.#c + sum) | 0;
    return sum >>> 0;
  }

  /** 0 <= x < 1. */
  fraction(): number {
    return this.word() / WORD;
  }

  below(bound: number): number {
    assert(Number.isSafeInteger(bound) && bound > 0, `a bound is a positive safe integer, not ${bound}`);
    if (bound <= WORD) return Math.floor(this.fraction() * bound);
    return ((this.word() % 2 ** 21) * WORD + this.word()) % bound;
  }

  /** `minimum` <= x < `maximum`, not whole. */
  between(minimum: number, maximum: number): number {
    return minimum + this.fraction() * (maximum - minimum);
  }

  bytes(length: number): Uint8Array {
    const bytes = Buffer.alloc(length);
    let offset = 0;
    for (; offset + 4 <= length; offset += 4) bytes.writeUInt32LE(this.word(), offset);
    for (; offset < length; offset++) bytes[offset] = this.word();
    return bytes;
  }

  /** True with this probability. Draws nothing where it is 0 or 1, so that a fault that is off changes no other. */
  chance(probability: number): boolean {
    if (probability <= 0) return false;
    if (probability >= 1) return true;
    return this.fraction() < probability;
  }

  pick<T>(items: readonly T[]): T {
    assert(items.length > 0, "something is there to pick from");
    return items[this.below(items.length)] as T;
  }

  /** Shuffles in place and answers the same array. */
  shuffle<T>(items: T[]): T[] {
    for (let last = items.length - 1; last > 0; last--) {
      const other = this.below(last + 1);
      [items[last], items[other]] = [items[other] as T, items[last] as T];
    }
    return items;
  }
}
