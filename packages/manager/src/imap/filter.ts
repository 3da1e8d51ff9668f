/** A Bloom filter over key prefixes (see `filterLength`): part of the on-disk format, so neither the hashes nor the figures change. */
export const FILTER_BITS_PER_KEY = 10;
export const FILTER_PROBES = 6;

/** Two hashes of `bytes[0 … length)`; the second is odd, so that probes differ. Reused: read it before the next call. */
export interface KeyHash {
  first: number;
  second: number;
}

const SHARED: KeyHash = { first: 0, second: 0 };

export function keyHash(bytes: Buffer, length: number): KeyHash {
  let first = 0x811c9dc5;
  let second = 0x9e3779b1;
  for (let at = 0; at < length; at++) {
    const byte = bytes[at] as number;
    first = Math.imul(first ^ byte, 0x01000193);
    second = Math.imul(second ^ byte, 0x85ebca6b);
    second ^= second >>> 15;
  }
  first = Math.imul(first ^ (first >>> 16), 0xc2b2ae35);
  SHARED.first = (first ^ (first >>> 13)) >>> 0;
  SHARED.second = (second | 1) >>> 0;
  return SHARED;
}

export class FilterBuilder {
  #hashes: number[] = [];

  add(bytes: Buffer, length: number): void {
    const { first, second } = keyHash(bytes, length);
    this.#hashes.push(first, second);
  }

  finish(): Buffer {
    const bits = Math.max(64, (this.#hashes.length / 2) * FILTER_BITS_PER_KEY);
    const filter = Buffer.alloc(Math.ceil(bits / 8));
    for (let at = 0; at < this.#hashes.length; at += 2) {
      let probe = this.#hashes[at] as number;
      for (let i = 0; i < FILTER_PROBES; i++) {
        const bit = probe % (filter.length * 8);
        filter[bit >> 3] = (filter[bit >> 3] as number) | (1 << (bit & 7));
        probe = (probe + (this.#hashes[at + 1] as number)) >>> 0;
      }
    }
    this.#hashes = [];
    return filter;
  }
}

/** False: the key is certainly not there. */
export function filterMayHold(filter: Buffer, hash: KeyHash): boolean {
  const bits = filter.length * 8;
  let probe = hash.first;
  for (let i = 0; i < FILTER_PROBES; i++) {
    const bit = probe % bits;
    if (((filter[bit >> 3] as number) & (1 << (bit & 7))) === 0) return false;
    probe = (probe + hash.second) >>> 0;
  }
  return true;
}
