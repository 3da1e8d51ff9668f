import { asBuffer, BLOCK_BYTES, checksum, totalBytes } from "@dazzle/core";

const CHECKSUM_BYTES = 4;

/** The blocks of a `read` reply's tail (a checksum each, then `length` bytes of blocks), as pieces, not copied. Undefined where a block
 * does not match its checksum, or the tail is not of this length. */
export function verifiedBlocks(tail: readonly Uint8Array[], length: number, seed: number): readonly Buffer[] | undefined {
  const blocks = Math.ceil(length / BLOCK_BYTES);
  const sumsBytes = CHECKSUM_BYTES * blocks;
  if (totalBytes(tail) !== sumsBytes + length) return undefined;
  const only = tail.length === 1 ? (tail[0] as Uint8Array) : undefined;
  return only === undefined
    ? verifiedPieces(tail, blocks, sumsBytes, length, seed)
    : verifiedWhole(asBuffer(only), blocks, sumsBytes, seed);
}

function verifiedWhole(whole: Buffer, blocks: number, sumsBytes: number, seed: number): readonly Buffer[] | undefined {
  for (let block = 0; block < blocks; block++) {
    const start = sumsBytes + block * BLOCK_BYTES;
    if (checksum(whole.subarray(start, start + BLOCK_BYTES), seed) !== whole.readUInt32LE(CHECKSUM_BYTES * block)) return undefined;
  }
  return [whole.subarray(sumsBytes)];
}

/** Pieces may be cut anywhere: a block's checksum then goes on from piece to piece. */
function verifiedPieces(
  tail: readonly Uint8Array[],
  blocks: number,
  sumsBytes: number,
  length: number,
  seed: number,
): readonly Buffer[] | undefined {
  const sums = Buffer.concat(slicePieces(tail, 0, sumsBytes));
  const data = slicePieces(tail, sumsBytes, length);
  let piece = 0;
  let within = 0;
  for (let block = 0; block < blocks; block++) {
    let sum = seed;
    for (let missing = Math.min(BLOCK_BYTES, length - block * BLOCK_BYTES); missing > 0; ) {
      const bytes = data[piece] as Buffer;
      const take = Math.min(missing, bytes.length - within);
      sum = checksum(bytes.subarray(within, within + take), sum);
      missing -= take;
      within += take;
      if (within === bytes.length) {
        piece++;
        within = 0;
      }
    }
    if (sum !== sums.readUInt32LE(CHECKSUM_BYTES * block)) return undefined;
  }
  return data;
}

/** Bytes `offset … offset + length` of what the pieces hold together, as views; no empty ones. */
export function slicePieces(pieces: readonly Uint8Array[], offset: number, length: number): Buffer[] {
  const sliced: Buffer[] = [];
  let start = 0;
  for (const piece of pieces) {
    const from = Math.max(offset, start);
    const to = Math.min(offset + length, start + piece.byteLength);
    if (from < to) sliced.push(asBuffer(piece).subarray(from - start, to - start));
    start += piece.byteLength;
  }
  return sliced;
}
