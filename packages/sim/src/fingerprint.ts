const PRIME = 0x01000193;

/** A checksum over all that happens (FNV-1a, a character at a time). */
export class Fingerprint {
  readonly #atMs = new Float64Array(1);
  readonly #words = new Uint32Array(this.#atMs.buffer);
  #hash = 0x811c9dc5;

  get value(): number {
    return this.#hash >>> 0;
  }

  add(atMs: number, what: string): void {
    this.#atMs[0] = atMs;
    let hash = this.#hash;
    for (const word of this.#words) hash = Math.imul(hash ^ word, PRIME);
    for (let index = 0; index < what.length; index++) hash = Math.imul(hash ^ what.charCodeAt(index), PRIME);
    this.#hash = hash;
  }
}
