import { areJoined, BLOCK_BYTES, blocksOf, type Extent, REGION_BLOCKS, sliceExtent } from "@dazzle/core";

/** What is known of where a file's blocks lie: extents sorted by block, and which regions have been asked for. */
export class ExtentMap {
  // INVARIANT: sorted by block, none overlap.
  #extents: Extent[] = [];
  #known = new Set<number>();
  #knownAll: boolean;
  /** Raised by every cut, and where extents are forgotten, so that an answer on the way can be told to be older. */
  cuts = 0;

  /** `complete`: nothing has to be asked for (a new file). */
  constructor(complete: boolean) {
    this.#knownAll = complete;
  }

  get length(): number {
    return this.#extents.length;
  }

  isKnown(block: number): boolean {
    return this.#knownAll || this.#known.has(Math.floor(block / REGION_BLOCKS));
  }

  /** Index of the first extent that ends after `block`. */
  #lowerBound(block: number): number {
    let low = 0;
    let high = this.#extents.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      const extent = this.#extents[middle] as Extent;
      if (extent.block + blocksOf(extent.length) <= block) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** The extent that holds `block`. */
  at(block: number): Extent | undefined {
    const extent = this.#extents[this.#lowerBound(block)];
    return extent !== undefined && extent.block <= block ? extent : undefined;
  }

  /** The first block from `block` on that an extent holds; Infinity where there is none. */
  nextBlock(block: number): number {
    const extent = this.#extents[this.#lowerBound(block)];
    return extent === undefined ? Number.POSITIVE_INFINITY : Math.max(block, extent.block);
  }

  *between(from: number, to: number): Generator<Extent> {
    for (let index = this.#lowerBound(from); index < this.#extents.length; index++) {
      const extent = this.#extents[index] as Extent;
      if (extent.block >= to) return;
      yield extent;
    }
  }

  /** Puts `added` over whatever was there; joins it to the extent before where both lie together. Answers how many blocks
   * it took the place of. */
  put(added: Extent): number {
    let replaced = 0;
    const last = this.#extents[this.#extents.length - 1];
    let index: number;
    if (last === undefined || last.block + blocksOf(last.length) <= added.block) {
      index = this.#extents.length;
      this.#extents.push(added);
    } else {
      replaced = this.#remove(added.block, added.block + blocksOf(added.length));
      index = this.#lowerBound(added.block);
      this.#extents.splice(index, 0, added);
    }
    const before = this.#extents[index - 1];
    if (before !== undefined && areJoined(before, added))
      this.#extents.splice(index - 1, 2, { ...before, length: before.length + added.length });
    return replaced;
  }

  /** Lengthens or shortens the extent that ends with `block`'s bytes: its stored bytes in that block become `bytes`. */
  setTail(block: number, bytes: number): void {
    const index = this.#lowerBound(block);
    const extent = this.#extents[index] as Extent;
    this.#extents[index] = { ...extent, length: (block - extent.block) * BLOCK_BYTES + bytes };
  }

  #remove(from: number, to: number): number {
    let removed = 0;
    const first = this.#lowerBound(from);
    let last = first;
    const kept: Extent[] = [];
    while (last < this.#extents.length && (this.#extents[last] as Extent).block < to) {
      const extent = this.#extents[last] as Extent;
      const before = sliceExtent(extent, 0, from);
      const after = sliceExtent(extent, to, Number.MAX_SAFE_INTEGER);
      if (before !== undefined) kept.push(before);
      if (after !== undefined) kept.push(after);
      removed += Math.min(to, extent.block + blocksOf(extent.length)) - Math.max(from, extent.block);
      last++;
    }
    if (last > first) this.#extents.splice(first, last - first, ...kept);
    return removed;
  }

  /** Drops bytes from `from` to the end; the block that holds `from` keeps its first bytes. Answers how many blocks went. */
  truncate(from: number): number {
    this.cuts++;
    const block = Math.floor(from / BLOCK_BYTES);
    const keep = from - block * BLOCK_BYTES;
    const tail = keep > 0 ? this.at(block) : undefined;
    const removed = this.#remove(Math.ceil(from / BLOCK_BYTES), Number.MAX_SAFE_INTEGER);
    if (tail !== undefined && tail.length > (block - tail.block) * BLOCK_BYTES + keep) this.setTail(block, keep);
    return removed;
  }

  /** Drops whole blocks. Answers how many there were. */
  punch(fromBlock: number, toBlock: number): number {
    this.cuts++;
    return this.#remove(fromBlock, toBlock);
  }

  /** Forgets extents, to be asked anew: an answer on the way may be of before they were written. */
  forget(isForgotten: (extent: Extent) => boolean): void {
    this.cuts++;
    this.#extents = this.#extents.filter((extent) => !isForgotten(extent));
    this.#known.clear();
    this.#knownAll = false;
  }

  /** Takes what a manager answered for regions `fromRegion <= region < toRegion`; what is written here since stays on top. */
  learn(fromRegion: number, toRegion: number, answered: readonly Extent[]): void {
    const from = fromRegion * REGION_BLOCKS;
    const to = toRegion * REGION_BLOCKS;
    const newer = [...this.between(from, to)].map((extent) => sliceExtent(extent, from, to) as Extent);
    this.#remove(from, to);
    for (const extent of answered) this.put(extent);
    for (const extent of newer) this.put(extent);
    for (let region = fromRegion; region < toRegion; region++) this.#known.add(region);
  }
}
