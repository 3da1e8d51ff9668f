import { assert } from "@dazzle/core";
import { REQUEST_BYTES_MAX } from "./protocol.ts";

/** Requests are read one behind the other, so that a chunk of small ones stays in the processor's cache. */
const CHUNK_BYTES = 4 * 1024 * 1024;
const CHUNKS_MAX = 16;
assert(CHUNK_BYTES >= 2 * REQUEST_BYTES_MAX, "a chunk holds two requests of any size");

export class Chunk {
  readonly index: number;
  readonly buffer: Buffer = Buffer.allocUnsafeSlow(CHUNK_BYTES);
  readonly view: DataView = new DataView(this.buffer.buffer, this.buffer.byteOffset, this.buffer.byteLength);
  /** Requests whose data is still in use. */
  held = 0;

  constructor(index: number) {
    this.index = index;
  }
}

/** The memory that requests are read into. Data of a write stays in place until the filesystem is done with it. */
export class ChunkPool {
  readonly #chunks: Chunk[] = [];
  #current: Chunk;
  #used = 0;
  /** Called when memory is free again after `next` found none. */
  #wanted: (() => void) | undefined;

  constructor() {
    this.#current = this.#add();
  }

  get current(): Chunk {
    return this.#current;
  }

  /** Where the next request goes. INVARIANT: REQUEST_BYTES_MAX fit behind it, unless `next` answered false. */
  get used(): number {
    return this.#used;
  }

  /** After `bytes` were read and handled: makes room for the next request. False while all memory is held. */
  next(bytes: number, whenFree: () => void): boolean {
    this.#used = this.#current.held === 0 ? 0 : this.#used + bytes;
    if (this.#current.buffer.length - this.#used >= REQUEST_BYTES_MAX) return true;
    const free = this.#chunks.find((chunk) => chunk.held === 0) ?? (this.#chunks.length < CHUNKS_MAX ? this.#add() : undefined);
    if (free === undefined) {
      this.#wanted = whenFree;
      return false;
    }
    this.#current = free;
    this.#used = 0;
    return true;
  }

  hold(chunk: Chunk): void {
    chunk.held += 1;
  }

  release(chunk: Chunk): void {
    assert(chunk.held > 0, "what is released was held");
    chunk.held -= 1;
    if (chunk.held > 0 || this.#wanted === undefined) return;
    const wanted = this.#wanted;
    this.#wanted = undefined;
    this.#current = chunk;
    this.#used = 0;
    wanted();
  }

  #add(): Chunk {
    const chunk = new Chunk(this.#chunks.length);
    this.#chunks.push(chunk);
    return chunk;
  }
}
