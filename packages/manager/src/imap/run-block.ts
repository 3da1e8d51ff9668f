import { assert, DazzleError } from "@dazzle/core";

/** A block of a sorted run, little-endian: entries in key order, then the offset of each (4 bytes), then how many (4 bytes).
 * The offsets stand behind, so that a block is written in one pass. An entry:
 *   0 2 key bytes   2 4 value bytes and 1 more; 0 for a tombstone   6 the key, the value */
const ENTRY_HEAD = 6;
const OFFSET = 4;

export class RunBlockBuilder {
  #bytes: Buffer;
  #length = 0;
  #offsets: number[] = [];

  constructor(blockBytes: number) {
    this.#bytes = Buffer.allocUnsafeSlow(blockBytes);
  }

  get entries(): number {
    return this.#offsets.length;
  }

  /** What the block would take now. */
  get length(): number {
    return this.#length + OFFSET * (this.#offsets.length + 1);
  }

  add(key: Buffer, value: Buffer | null): void {
    const valueBytes = value?.length ?? 0;
    const end = this.#length + ENTRY_HEAD + key.length + valueBytes;
    if (end > this.#bytes.length) this.#grow(end);
    const at = this.#length;
    this.#bytes.writeUInt16LE(key.length, at);
    this.#bytes.writeUInt32LE(value === null ? 0 : valueBytes + 1, at + 2);
    key.copy(this.#bytes, at + ENTRY_HEAD);
    value?.copy(this.#bytes, at + ENTRY_HEAD + key.length);
    this.#offsets.push(at);
    this.#length = end;
  }

  #grow(bytes: number): void {
    const grown = Buffer.allocUnsafeSlow(2 * bytes);
    this.#bytes.copy(grown, 0, 0, this.#length);
    this.#bytes = grown;
  }

  /** Writes the block to `target`, which is `length` long, and starts the next one. */
  finish(target: Buffer): void {
    assert(target.length === this.length, "a block gets the room it takes");
    this.#bytes.copy(target, 0, 0, this.#length);
    let at = this.#length;
    for (const offset of this.#offsets) at = target.writeUInt32LE(offset, at);
    target.writeUInt32LE(this.#offsets.length, at);
    this.#length = 0;
    this.#offsets = [];
  }
}

/** Reads a block where it lies. */
export class RunBlock {
  readonly #bytes: Buffer;
  readonly #offsets: number;
  readonly count: number;

  /** Throws `corrupt`. */
  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    if (bytes.length < OFFSET) throw new DazzleError("corrupt", "a run's block is cut off");
    this.count = bytes.readUInt32LE(bytes.length - OFFSET);
    this.#offsets = bytes.length - OFFSET * (this.count + 1);
    if (this.#offsets < 0) throw new DazzleError("corrupt", "a run's block holds less than it says");
  }

  get byteLength(): number {
    return this.#bytes.length;
  }

  #offset(index: number): number {
    return this.#bytes.readUInt32LE(this.#offsets + OFFSET * index);
  }

  /** Aliases the block. */
  key(index: number): Buffer {
    const at = this.#offset(index);
    return this.#bytes.subarray(at + ENTRY_HEAD, at + ENTRY_HEAD + this.#bytes.readUInt16LE(at));
  }

  /** Aliases the block; null for a tombstone. */
  value(index: number): Buffer | null {
    const at = this.#offset(index);
    const length = this.#bytes.readUInt32LE(at + 2);
    if (length === 0) return null;
    const start = at + ENTRY_HEAD + this.#bytes.readUInt16LE(at);
    return this.#bytes.subarray(start, start + length - 1);
  }

  /** The first entry whose key is not below `key`; `count` where there is none. */
  lowerBound(key: Buffer): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#compare(middle, key) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Where the key is; undefined where it is not. */
  find(key: Buffer): number | undefined {
    const index = this.lowerBound(key);
    return index < this.count && this.#compare(index, key) === 0 ? index : undefined;
  }

  #compare(index: number, key: Buffer): number {
    const at = this.#offset(index);
    const start = at + ENTRY_HEAD;
    return this.#bytes.compare(key, 0, key.length, start, start + this.#bytes.readUInt16LE(at));
  }
}
