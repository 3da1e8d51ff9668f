import { REQUEST_HEADER } from "./protocol.ts";

const TWO_TO_32 = 4294967296;

/**
 * One request, read in place: a cursor that the dispatcher moves from request to request, so that decoding allocates nothing but the
 * names. What outlives the call (an answer by promise) must be copied out of it.
 */
export class Request {
  opcode = 0;
  /** Both halves of `unique`, as the answer repeats them. */
  uniqueLow = 0;
  uniqueHigh = 0;
  ino = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  #buffer: Buffer = Buffer.alloc(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #body = 0;
  #end = 0;
  /** Where `nextName` goes on. */
  #cursor = 0;

  /** False when the bytes are no request. `view` shows the same bytes as `buffer`. */
  open(buffer: Buffer, view: DataView, start: number, length: number): boolean {
    if (length < REQUEST_HEADER.end || view.getUint32(start + REQUEST_HEADER.length, true) !== length) return false;
    this.#buffer = buffer;
    this.#view = view;
    this.#body = start + REQUEST_HEADER.end;
    this.#end = start + length;
    this.opcode = view.getUint32(start + REQUEST_HEADER.opcode, true);
    this.uniqueLow = view.getUint32(start + REQUEST_HEADER.unique, true);
    this.uniqueHigh = view.getUint32(start + REQUEST_HEADER.unique + 4, true);
    this.ino = view.getUint32(start + REQUEST_HEADER.ino, true) + view.getUint32(start + REQUEST_HEADER.ino + 4, true) * TWO_TO_32;
    this.uid = view.getUint32(start + REQUEST_HEADER.uid, true);
    this.gid = view.getUint32(start + REQUEST_HEADER.gid, true);
    this.pid = view.getUint32(start + REQUEST_HEADER.pid, true);
    return true;
  }

  uint32(field: number): number {
    return this.#view.getUint32(this.#body + field, true);
  }

  /** For numbers that stay below 2^53; larger ones lose their low bits. */
  uint64(field: number): number {
    return this.#view.getUint32(this.#body + field, true) + this.#view.getUint32(this.#body + field + 4, true) * TWO_TO_32;
  }

  bigUint64(field: number): bigint {
    return this.#view.getBigUint64(this.#body + field, true);
  }

  bigInt64(field: number): bigint {
    return this.#view.getBigInt64(this.#body + field, true);
  }

  /** The zero-terminated string at `field`. */
  name(field: number): string {
    this.#cursor = this.#body + field;
    return this.nextName();
  }

  /** The string after the last one read. */
  nextName(): string {
    const buffer = this.#buffer;
    const start = this.#cursor;
    let end = start;
    while (end < this.#end && buffer[end] !== 0) end++;
    this.#cursor = end + 1;
    return buffer.toString("latin1", start, end);
  }

  /** `length` bytes at `field`, in place. */
  bytes(field: number, length: number): Uint8Array {
    const start = this.#body + field;
    return this.#buffer.subarray(start, Math.min(start + length, this.#end));
  }

  /** `length` bytes after the last string read, in place. */
  bytesAfterName(length: number): Uint8Array {
    return this.#buffer.subarray(this.#cursor, Math.min(this.#cursor + length, this.#end));
  }

  get bodyBytes(): number {
    return this.#end - this.#body;
  }
}
