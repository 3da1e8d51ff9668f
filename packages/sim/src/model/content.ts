import { BLOCK_BYTES } from "@dazzle/core";

type Block = Buffer | undefined;

/** A file's bytes; never changed, so that states share them. A block of undefined is zeros. */
export class Content {
  static readonly empty = new Content(0, []);
  readonly size: number;
  readonly #blocks: readonly Block[];

  private constructor(size: number, blocks: readonly Block[]) {
    this.size = size;
    this.#blocks = blocks;
  }

  write(offset: number, data: Uint8Array): Content {
    if (data.byteLength === 0) return this;
    const blocks = [...this.#blocks];
    for (let done = 0; done < data.byteLength; ) {
      const index = Math.floor((offset + done) / BLOCK_BYTES);
      const within = (offset + done) % BLOCK_BYTES;
      const count = Math.min(BLOCK_BYTES - within, data.byteLength - done);
      const block = copyOf(blocks[index]);
      block.set(data.subarray(done, done + count), within);
      blocks[index] = block;
      done += count;
    }
    return new Content(Math.max(this.size, offset + data.byteLength), blocks);
  }

  resize(size: number): Content {
    if (size >= this.size) return new Content(size, this.#blocks);
    return new Content(size, this.zero(size, this.size - size).#blocks.slice(0, Math.ceil(size / BLOCK_BYTES)));
  }

  /** Zeros within the file's size. */
  zero(offset: number, length: number): Content {
    const end = Math.min(offset + length, this.size);
    const blocks = [...this.#blocks];
    for (let at = offset; at < end; ) {
      const index = Math.floor(at / BLOCK_BYTES);
      const count = Math.min(BLOCK_BYTES - (at % BLOCK_BYTES), end - at);
      if (blocks[index] !== undefined) {
        const block = copyOf(blocks[index]);
        block.fill(0, at % BLOCK_BYTES, (at % BLOCK_BYTES) + count);
        blocks[index] = block;
      }
      at += count;
    }
    return new Content(this.size, blocks);
  }

  read(offset: number, length: number): Buffer {
    const bytes = Buffer.alloc(Math.max(0, Math.min(length, this.size - offset)));
    for (let done = 0; done < bytes.byteLength; ) {
      const within = (offset + done) % BLOCK_BYTES;
      const count = Math.min(BLOCK_BYTES - within, bytes.byteLength - done);
      this.#blocks[Math.floor((offset + done) / BLOCK_BYTES)]?.copy(bytes, done, within, within + count);
      done += count;
    }
    return bytes;
  }

  /** Where `bytes` first differ, undefined where they are the same. */
  difference(bytes: Buffer): number | undefined {
    const common = Math.min(bytes.byteLength, this.size);
    for (let at = 0; at < common; at += BLOCK_BYTES) {
      const end = Math.min(at + BLOCK_BYTES, common);
      const block = this.#blocks[at / BLOCK_BYTES] ?? ZEROS;
      if (bytes.compare(block, 0, end - at, at, end) === 0) continue;
      for (let byte = at; byte < end; byte++) if (bytes[byte] !== block[byte - at]) return byte;
    }
    return bytes.byteLength === this.size ? undefined : common;
  }
}

const ZEROS = Buffer.alloc(BLOCK_BYTES);

function copyOf(block: Block): Buffer {
  return block === undefined ? Buffer.alloc(BLOCK_BYTES) : Buffer.from(block);
}
