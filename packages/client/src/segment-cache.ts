import { totalBytes } from "@dazzle/core";

interface Chunk {
  readonly log: number;
  readonly sequence: number;
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly Buffer[];
}

/** Network buffers are larger than a small read: such bytes are copied, so that they don't keep the whole buffer alive. */
const COPY_BYTES_MAX = 32 * 1024;

/** Clean bytes of segments, least recently used ones dropped first. Segments never change, so nothing here is ever
 * invalidated: a block that was rewritten has another address. */
export class SegmentCache {
  readonly #budgetBytes: number;
  #bytes = 0;
  // Chunks of a segment by offset. INVARIANT: sorted, none starts where another does.
  readonly #segments = new Map<number, Map<number, Chunk[]>>();
  /** All chunks, least recently used first. */
  readonly #order = new Set<Chunk>();
  hits = 0;
  misses = 0;

  constructor(budgetBytes: number) {
    this.#budgetBytes = budgetBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Appends to `pieces` what is cached from `offset` on, up to `length` bytes; answers how many bytes that is. */
  gather(log: number, sequence: number, offset: number, length: number, pieces: Uint8Array[]): number {
    const found = this.#find(log, sequence, offset, length, pieces);
    if (found < length) this.misses++;
    else this.hits++;
    return found;
  }

  /** The bytes, where all of them are cached: for another mount. */
  whole(log: number, sequence: number, offset: number, length: number): readonly Uint8Array[] | undefined {
    const pieces: Uint8Array[] = [];
    return this.#find(log, sequence, offset, length, pieces) === length ? pieces : undefined;
  }

  #find(log: number, sequence: number, offset: number, length: number, pieces: Uint8Array[]): number {
    const chunks = this.#segments.get(log)?.get(sequence);
    if (chunks === undefined) return 0;
    let at = offset;
    const end = offset + length;
    while (at < end) {
      const chunk = findChunk(chunks, at);
      if (chunk === undefined) break;
      this.#order.delete(chunk);
      this.#order.add(chunk);
      at += slicePieces(chunk.pieces, at - chunk.offset, Math.min(end, chunk.offset + chunk.length) - at, pieces);
    }
    return at - offset;
  }

  has(log: number, sequence: number, offset: number): boolean {
    const chunks = this.#segments.get(log)?.get(sequence);
    return chunks !== undefined && findChunk(chunks, offset) !== undefined;
  }

  /** Keeps the pieces (their memory becomes the cache's) as the bytes at `offset` of a segment. */
  put(log: number, sequence: number, offset: number, pieces: readonly Buffer[]): void {
    const length = totalBytes(pieces);
    const kept = length <= COPY_BYTES_MAX ? [Buffer.concat(pieces)] : pieces;
    const chunk: Chunk = { log, sequence, offset, length, pieces: kept };
    let segments = this.#segments.get(log);
    if (segments === undefined) {
      segments = new Map();
      this.#segments.set(log, segments);
    }
    const chunks = segments.get(sequence);
    if (chunks === undefined) segments.set(sequence, [chunk]);
    else {
      const index = lowerBound(chunks, offset);
      const same = chunks[index];
      if (same !== undefined && same.offset === offset) {
        if (same.length >= length) return;
        this.#order.delete(same);
        this.#bytes -= same.length;
        chunks[index] = chunk;
      } else chunks.splice(index, 0, chunk);
      this.#dropCovered(chunks, chunks.indexOf(chunk), chunk);
    }
    this.#order.add(chunk);
    this.#bytes += length;
    for (const oldest of this.#order) {
      if (this.#bytes <= this.#budgetBytes) break;
      this.#drop(oldest);
    }
  }

  /** Small chunks inside a larger one would only stand in its way. */
  #dropCovered(chunks: Chunk[], index: number, chunk: Chunk): void {
    let end = index + 1;
    while (end < chunks.length && (chunks[end] as Chunk).offset + (chunks[end] as Chunk).length <= chunk.offset + chunk.length) end++;
    for (const covered of chunks.splice(index + 1, end - index - 1)) {
      this.#order.delete(covered);
      this.#bytes -= covered.length;
    }
  }

  #drop(chunk: Chunk): void {
    this.#order.delete(chunk);
    this.#bytes -= chunk.length;
    const segments = this.#segments.get(chunk.log) as Map<number, Chunk[]>;
    const chunks = segments.get(chunk.sequence) as Chunk[];
    chunks.splice(chunks.indexOf(chunk), 1);
    if (chunks.length > 0) return;
    segments.delete(chunk.sequence);
    if (segments.size === 0) this.#segments.delete(chunk.log);
  }
}

/** Index of the first chunk that starts at `offset` or later. */
function lowerBound(chunks: readonly Chunk[], offset: number): number {
  let low = 0;
  let high = chunks.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((chunks[middle] as Chunk).offset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** A chunk that holds the byte at `offset`. Chunks may overlap; two before the place are enough to look at, as reads overlap by a request at most. */
function findChunk(chunks: readonly Chunk[], offset: number): Chunk | undefined {
  let index = lowerBound(chunks, offset + 1) - 1;
  for (let tries = 0; tries < 2 && index >= 0; tries++, index--) {
    const chunk = chunks[index] as Chunk;
    if (offset < chunk.offset + chunk.length) return chunk;
  }
  return undefined;
}

/** Appends bytes `from … from + length` of the pieces to `target`, without copying. */
function slicePieces(pieces: readonly Buffer[], from: number, length: number, target: Uint8Array[]): number {
  let skip = from;
  let left = length;
  for (const piece of pieces) {
    if (skip >= piece.length) {
      skip -= piece.length;
      continue;
    }
    const part = piece.subarray(skip, Math.min(piece.length, skip + left));
    target.push(part);
    left -= part.length;
    skip = 0;
    if (left === 0) break;
  }
  return length - left;
}
