import { asBuffer, DazzleError, type Frame } from "@dazzle/core";

/** A tail up to this goes into the first piece: copying it costs less than one more WebSocket frame. */
const COPIED_TAIL_BYTES_MAX = 8 * 1024;
const LENGTH_BYTES = 4;

/** A frame as the pieces of one WebSocket message: `[u32 header length][header]`, then the tail by reference. */
export function cutFrame(frame: Frame): readonly Buffer[] {
  const { header, tail } = frame;
  let tailBytes = 0;
  for (const piece of tail) tailBytes += piece.byteLength;
  const copied = tailBytes <= COPIED_TAIL_BYTES_MAX;
  const first = Buffer.allocUnsafe(LENGTH_BYTES + header.byteLength + (copied ? tailBytes : 0));
  first.writeUInt32LE(header.byteLength, 0);
  first.set(header, LENGTH_BYTES);
  if (!copied) return [first, ...tail.filter((piece) => piece.byteLength > 0).map(asBuffer)];
  let at = LENGTH_BYTES + header.byteLength;
  for (const piece of tail) {
    first.set(piece, at);
    at += piece.byteLength;
  }
  return [first];
}

/** The frame in the pieces of one message, however they are cut. Only a header that is cut is copied. Throws `badMessage`. */
export function joinFrame(pieces: readonly Buffer[]): Frame {
  const whole = startsWhole(pieces) ? pieces : [Buffer.concat(pieces)];
  const first = whole[0] as Buffer;
  const headerEnd = first.byteLength < LENGTH_BYTES ? Infinity : LENGTH_BYTES + first.readUInt32LE(0);
  if (headerEnd > first.byteLength)
    throw new DazzleError("badMessage", `a message of ${first.byteLength} bytes is shorter than its header`);
  const rest = whole.slice(1);
  return {
    header: first.subarray(LENGTH_BYTES, headerEnd),
    tail: headerEnd === first.byteLength ? rest : [first.subarray(headerEnd), ...rest],
  };
}

function startsWhole(pieces: readonly Buffer[]): boolean {
  const first = pieces[0];
  return first !== undefined && first.byteLength >= LENGTH_BYTES && first.byteLength >= LENGTH_BYTES + first.readUInt32LE(0);
}
