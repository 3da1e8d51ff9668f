import { DazzleError } from "./errors.ts";

/** A Buffer over the same memory. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** The pieces as one run of bytes: the piece itself where there is one, else a copy. */
export function joined(pieces: readonly Uint8Array[]): Buffer {
  const only = pieces[0];
  return pieces.length === 1 && only !== undefined ? asBuffer(only) : Buffer.concat(pieces);
}

export function totalBytes(pieces: readonly Uint8Array[]): number {
  let total = 0;
  for (const piece of pieces) total += piece.byteLength;
  return total;
}

/** Safe integers are stored in 8 bytes, low half first. */
export function readSafe(buffer: Buffer, offset: number): number {
  return buffer.readUInt32LE(offset) + buffer.readUInt32LE(offset + 4) * 2 ** 32;
}

export function writeSafe(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32LE(value % 2 ** 32, offset);
  buffer.writeUInt32LE(Math.floor(value / 2 ** 32), offset + 4);
}

/** Throws `corrupt` where `bytes` end before `end`: `what` is cut off. */
export function requireBytes(bytes: Uint8Array, end: number, what: string): void {
  if (end > bytes.length) throw new DazzleError("corrupt", `${what} is cut off`);
}

export function roundUp(value: number, unit: number): number {
  return Math.ceil(value / unit) * unit;
}
