import {
  assert,
  BLOCK_BYTES,
  type Clock,
  DazzleError,
  type Extent,
  FILE_BYTES_MAX,
  isDazzleError,
  joined,
  type Limits,
  type LogAddress,
  REGION_BLOCKS,
  regionsOf,
  sleep,
  unpackExtents,
} from "@dazzle/core";
import type { LogReader, LogWriter } from "@dazzle/log";
import type { Journal } from "./journal.ts";
import type { Node } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";
import type { PeerCaches } from "./peer-caches.ts";
import type { SegmentCache } from "./segment-cache.ts";
import type { SlotLink } from "./slot-link.ts";

const ZEROS = Buffer.alloc(1024 * 1024);
/** Regions asked for at once: 64 MiB of a file. */
const REGIONS_ASKED = 64;
/** Addresses fetched at once by one read or read-ahead. */
const FETCHES_MAX = 64;

const READ_AHEAD_PIECE = 512 * 1024;
const READ_RETRY_MS = 100;

interface Fetch {
  readonly offset: number;
  readonly length: number;
  readonly done: Promise<void>;
}

/** What stops a write or a read from being done at once. */
export type Obstacle =
  | { readonly kind: "room" }
  | { readonly kind: "extents"; readonly block: number }
  | { readonly kind: "bytes"; readonly addresses: readonly LogAddress[] };

/** Reading and writing a file's blocks. Each operation has a part that is done at once, on memory alone, and answers the
 * obstacle where there is one; `overcome` waits for it, and the caller tries again. */
export class FileData {
  readonly #mount: number;
  readonly #journal: Journal;
  readonly #writer: LogWriter;
  readonly #reader: LogReader;
  readonly #cache: SegmentCache;
  readonly #peerCaches: PeerCaches;
  readonly #objects: ObjectTable;
  readonly #links: (ino: number) => SlotLink;
  readonly #fetching = new Map<string, Fetch[]>();
  #fetches = 0;
  readonly #readAheadBytes: number;
  readonly #clock: Clock;
  readonly #readDeadlineMs: number;

  constructor(options: {
    mount: number;
    journal: Journal;
    reader: LogReader;
    cache: SegmentCache;
    peerCaches: PeerCaches;
    objects: ObjectTable;
    links: (ino: number) => SlotLink;
    clock: Clock;
    limits: Limits;
  }) {
    this.#mount = options.mount;
    this.#journal = options.journal;
    this.#writer = options.journal.writer;
    this.#reader = options.reader;
    this.#cache = options.cache;
    this.#peerCaches = options.peerCaches;
    this.#objects = options.objects;
    this.#links = options.links;
    this.#clock = options.clock;
    this.#readDeadlineMs = options.limits.writeDeadlineMs;
    this.#readAheadBytes = Math.min(8 * 1024 * 1024, Math.floor(options.limits.cacheBytes / 4));
  }

  /** Places `data` at `offset`; answers the bytes placed before the obstacle, if any. The index node's size follows. */
  write(node: Node, offset: number, data: Uint8Array): { written: number; obstacle: Obstacle | null } {
    if (offset + data.byteLength > FILE_BYTES_MAX) throw new DazzleError("fileTooLarge", `${offset + data.byteLength} bytes`);
    let at = 0;
    while (at < data.byteLength) {
      if (!this.#journal.admits()) return { written: at, obstacle: { kind: "room" } };
      const position = offset + at;
      const within = position % BLOCK_BYTES;
      const left = data.byteLength - at;
      const outcome =
        within === 0 && left >= BLOCK_BYTES
          ? this.#writeBlocks(node, position / BLOCK_BYTES, data.subarray(at, at + left - (left % BLOCK_BYTES)))
          : this.#writePart(node, Math.floor(position / BLOCK_BYTES), within, data.subarray(at, at + Math.min(left, BLOCK_BYTES - within)));
      if (typeof outcome !== "number") return { written: at, obstacle: outcome };
      at += outcome;
      if (outcome === 0) continue;
      node.written = { region: regionsOf(position, outcome).to - 1, atMs: this.#clock.nowMs() };
      if (offset + at <= node.inode.size && node.token !== "range") continue;
      node.inode.size = Math.max(node.inode.size, offset + at);
      // A seal before the next piece takes the size with the blocks: none may lie behind the end of a file.
      this.#journal.markInode(node);
    }
    return { written: at, obstacle: null };
  }

  /** Whole blocks: over what lies in the open segment, or into new room there. */
  #writeBlocks(node: Node, block: number, data: Uint8Array): number | Obstacle {
    const open = this.#openAt(node, block);
    if (open !== undefined) {
      const inExtent = (block - open.block) * BLOCK_BYTES;
      const length = Math.min(data.byteLength, open.length - inExtent);
      if (length >= BLOCK_BYTES) {
        const whole = length - (length % BLOCK_BYTES);
        this.#memory(open.sequence, open.offset + inExtent, whole).set(data.subarray(0, whole));
        return whole;
      }
    }
    const room = this.#writer.capacityBytes - Math.ceil(this.#writer.openBytes / BLOCK_BYTES) * BLOCK_BYTES;
    const length = Math.min(data.byteLength, room - (room % BLOCK_BYTES));
    const placed = length >= BLOCK_BYTES ? this.#writer.place(length) : undefined;
    if (placed === undefined) return this.#sealForRoom();
    placed.bytes.set(data.subarray(0, length));
    this.#put(node, block, placed.offset, length);
    return length;
  }

  #sealForRoom(): number | Obstacle {
    if (this.#writer.ready) this.#journal.seal(false);
    return this.#writer.ready ? 0 : { kind: "room" };
  }

  /** Part of one block: over it where it lies in the open segment, else the block is written anew with what it held. */
  #writePart(node: Node, block: number, within: number, data: Uint8Array): number | Obstacle {
    const end = within + data.byteLength;
    const beyond = block * BLOCK_BYTES >= node.inode.size;
    if (!beyond && !node.extents.isKnown(block) && node.extents.at(block) === undefined) return { kind: "extents", block };
    const extent = beyond ? undefined : node.extents.at(block);
    const inExtent = extent === undefined ? 0 : (block - extent.block) * BLOCK_BYTES;
    const stored = extent === undefined ? 0 : Math.min(BLOCK_BYTES, extent.length - inExtent);
    const isOpen = extent !== undefined && this.#isOpen(extent);
    if (isOpen && (end <= stored || (node.roomBlock === block && node.roomSequence === extent.sequence))) {
      const bytes = this.#memory(extent.sequence, extent.offset + inExtent, Math.max(end, stored));
      if (within > stored) bytes.fill(0, stored, within);
      bytes.set(data, within);
      if (end > stored) node.extents.setTail(block, end);
      this.#journal.markExtent(node, block, block + 1);
      return data.byteLength;
    }
    const covers = within === 0 && end >= stored;
    const old: Uint8Array[] = [];
    if (!covers && extent !== undefined && stored > 0) {
      const missing = this.#gatherExtent(extent, inExtent, stored, old);
      if (missing !== undefined) return { kind: "bytes", addresses: [missing] };
    }
    const length = Math.max(stored, end);
    // A block that grows once is likely to grow again: it gets the room of a whole block.
    const grows = stored > 0 && end > stored;
    const before = this.#writer.openSequence;
    const placed = this.#writer.place(grows ? BLOCK_BYTES : length);
    if (placed === undefined) return this.#sealForRoom();
    assert(this.#writer.openSequence === before, "placing seals nothing");
    const bytes = placed.bytes;
    bytes.fill(0, 0, length);
    let at = 0;
    for (const piece of old) {
      bytes.set(piece, at);
      at += piece.byteLength;
    }
    bytes.set(data, within);
    this.#put(node, block, placed.offset, length);
    if (grows) {
      node.roomBlock = block;
      node.roomSequence = before;
    } else if (node.roomBlock === block) node.roomBlock = -1;
    return data.byteLength;
  }

  #put(node: Node, block: number, offset: number, length: number): void {
    const writer = this.#writer;
    const extent: Extent = {
      block,
      log: writer.log,
      sequence: writer.openSequence,
      offset,
      length,
      ...writer.openPlacement,
    };
    const blocks = Math.ceil(length / BLOCK_BYTES);
    // Of blocks that are not known here, those within the file are taken to be there already.
    const beyond = Math.max(0, block + blocks - Math.max(block, Math.ceil(node.inode.size / BLOCK_BYTES)));
    const replaced = node.extents.put(extent);
    node.inode.allocatedBlocks += node.extents.isKnown(block) ? blocks - replaced : beyond;
    this.#journal.markExtent(node, block, block + Math.ceil(length / BLOCK_BYTES));
  }

  #isOpen(extent: Extent): boolean {
    return extent.log === this.#writer.log && extent.sequence === this.#writer.openSequence;
  }

  #openAt(node: Node, block: number): Extent | undefined {
    const extent = node.extents.at(block);
    return extent !== undefined && this.#isOpen(extent) ? extent : undefined;
  }

  #memory(sequence: number, offset: number, length: number): Buffer {
    const bytes = this.#writer.read(sequence, offset, length);
    assert(bytes !== undefined, "the open segment is in memory");
    return bytes;
  }

  /** Appends an extent's bytes to `pieces` from memory; answers the address of what is missing. */
  #gatherExtent(extent: Extent, from: number, length: number, pieces: Uint8Array[]): LogAddress | undefined {
    if (extent.log === this.#writer.log) {
      const bytes = this.#writer.read(extent.sequence, extent.offset + from, length);
      if (bytes !== undefined) {
        pieces.push(bytes);
        return undefined;
      }
    }
    const had = this.#cache.gather(extent.log, extent.sequence, extent.offset + from, length, pieces);
    if (had === length) return undefined;
    const { log, sequence, group, groupVersion } = extent;
    return { log, sequence, offset: extent.offset + from + had, length: length - had, group, groupVersion };
  }

  /** The file's bytes `offset … offset + length`, cut to its size, as views of memory that hold until the caller returns
   * to the event loop. */
  read(node: Node, offset: number, length: number): { pieces: Uint8Array[]; obstacle: Obstacle | null } {
    const end = Math.min(offset + length, node.inode.size);
    const pieces: Uint8Array[] = [];
    const missing: LogAddress[] = [];
    let at = offset;
    while (at < end) {
      const block = Math.floor(at / BLOCK_BYTES);
      const extent = node.extents.at(block);
      if (extent === undefined) {
        if (!node.extents.isKnown(block)) return { pieces, obstacle: { kind: "extents", block } };
        const hole = Math.min(
          end,
          node.extents.nextBlock(block) * BLOCK_BYTES,
          (Math.floor(block / REGION_BLOCKS) + 1) * REGION_BLOCKS * BLOCK_BYTES,
        );
        at += pushZeros(pieces, hole - at);
        continue;
      }
      const inExtent = at - extent.block * BLOCK_BYTES;
      const take = Math.min(end - at, extent.length - inExtent);
      if (take > 0) {
        const address = this.#gatherExtent(extent, inExtent, take, pieces);
        if (address !== undefined && missing.length < FETCHES_MAX) missing.push(address);
        at += take;
      }
      const blockEnd = Math.min(end, (extent.block + Math.ceil(extent.length / BLOCK_BYTES)) * BLOCK_BYTES);
      if (at < blockEnd && at >= extent.block * BLOCK_BYTES + extent.length) at += pushZeros(pieces, blockEnd - at);
    }
    return { pieces, obstacle: missing.length > 0 ? { kind: "bytes", addresses: missing } : null };
  }

  /** Waits until the obstacle is gone. For room, see `NeedsRoom`. */
  async overcome(node: Node, obstacle: Exclude<Obstacle, { readonly kind: "room" }>): Promise<void> {
    switch (obstacle.kind) {
      case "extents":
        return this.#loadExtents(node, obstacle.block);
      case "bytes":
        await Promise.all(obstacle.addresses.map((address) => this.#fetch(node, address)));
    }
  }

  /** Asks the manager where the blocks from `block` on lie. */
  async #loadExtents(node: Node, block: number): Promise<void> {
    await this.#objects.underToken(node, () => this.#askExtents(node, block));
  }

  async #askExtents(node: Node, block: number): Promise<void> {
    const cuts = node.extents.cuts;
    const fromRegion = Math.floor(block / REGION_BLOCKS);
    const lastRegion = Math.floor(Math.max(0, node.inode.size - 1) / BLOCK_BYTES / REGION_BLOCKS);
    const toRegion = Math.max(fromRegion + 1, Math.min(fromRegion + REGIONS_ASKED, lastRegion + 1));
    const request = { mount: this.#mount, ino: node.ino, from: fromRegion * REGION_BLOCKS, to: toRegion * REGION_BLOCKS };
    const { reply, tail } = await this.#links(node.ino).call("extents", request);
    node.caches = reply.caches;
    // A cut that came in between is not in the answer: ask again.
    if (node.extents.cuts === cuts) node.extents.learn(fromRegion, toRegion, unpackExtents(joined(tail)));
  }

  /** Brings an address into the cache; those who want bytes that are already on their way share the read. */
  #fetch(node: Node, address: LogAddress): Promise<void> {
    const key = `${address.log}.${address.sequence}`;
    const underWay = this.#fetching.get(key);
    const covering = underWay?.find((fetch) => fetch.offset <= address.offset && address.offset < fetch.offset + fetch.length);
    if (covering !== undefined) return covering.done;
    this.#fetches++;
    const done = this.#read(node, address)
      .then((pieces) => {
        if (pieces !== undefined) this.#cache.put(address.log, address.sequence, address.offset, pieces);
      })
      .finally(() => {
        this.#fetches--;
        const left = (this.#fetching.get(key) as Fetch[]).filter((fetch) => fetch.done !== done);
        if (left.length > 0) this.#fetching.set(key, left);
        else this.#fetching.delete(key);
      });
    const fetch = { offset: address.offset, length: address.length, done };
    if (underWay === undefined) this.#fetching.set(key, [fetch]);
    else underWay.push(fetch);
    return done;
  }

  /** Undefined where the address changed meanwhile. Servers that are silent may come back: they are waited for as long as by a writer. */
  async #read(node: Node, address: LogAddress): Promise<readonly Buffer[] | undefined> {
    const held = await this.#peerCaches.read(address, node.caches);
    if (held !== undefined) return held;
    const endMs = this.#clock.nowMs() + this.#readDeadlineMs;
    // A server that is silent does not say whether it had any of a segment that is gone.
    let changed: Promise<boolean> | undefined;
    for (;;) {
      try {
        return await this.#reader.read(address);
      } catch (error) {
        const isSilence = isDazzleError(error, "unreachable", "timedOut") && this.#clock.nowMs() <= endMs;
        if (!isSilence) {
          if (isDazzleError(error, "fragmentMissing", "segmentLost", "unreachable", "timedOut") && (await this.#askAnew(node, address)))
            return undefined;
          throw error;
        }
        changed ??= this.#askAnew(node, address).catch(() => false);
        const pause = sleep(this.#clock, READ_RETRY_MS).then(() => false);
        // That it has not changed ends no pause: who is silent would be asked without end.
        if (await Promise.race([changed.then((isChanged) => isChanged || pause), pause])) return undefined;
      }
    }
  }

  /** Whether the shard says that the file's bytes are elsewhere than at this address: blocks are moved, and then their segment is deleted (rule 26). */
  async #askAnew(node: Node, address: LogAddress): Promise<boolean> {
    const block = blockAt(node, address);
    if (block === undefined) return true;
    await this.#objects.settle(node);
    // What is not trimmed is here as it was written; of the rest the shard knows all.
    const { log, trimmedTo } = this.#writer;
    node.extents.forget((extent) => extent.log !== log || extent.sequence <= trimmedTo);
    await this.#loadExtents(node, block);
    return blockAt(node, address) === undefined;
  }

  /** Brings into the cache what a sequential reader will want next, in pieces that start at fixed places of the segment. */
  readAhead(node: Node, offset: number): void {
    const from = Math.floor(offset / BLOCK_BYTES);
    const to = Math.ceil(Math.min(offset + this.#readAheadBytes, node.inode.size) / BLOCK_BYTES);
    for (const extent of node.extents.between(from, to)) {
      if (extent.log === this.#writer.log && this.#writer.read(extent.sequence, extent.offset, 1) !== undefined) continue;
      const end = extent.offset + extent.length;
      for (let at = extent.offset; at < end; ) {
        const next = Math.min(end, (Math.floor(at / READ_AHEAD_PIECE) + 1) * READ_AHEAD_PIECE);
        if (this.#fetches >= FETCHES_MAX) return;
        // A read-ahead that fails is no error: the read itself meets it again.
        if (!this.#cache.has(extent.log, extent.sequence, at))
          this.#fetch(node, { ...extent, offset: at, length: next - at }).catch(() => {});
        at = next;
      }
    }
  }

  /** Drops everything from byte `size` on, or lengthens with a hole. */
  truncate(node: Node, size: number): void {
    if (size > FILE_BYTES_MAX) throw new DazzleError("fileTooLarge", `${size} bytes`);
    if (size < node.inode.size) {
      const removed = node.extents.truncate(size);
      node.inode.allocatedBlocks = Math.min(Math.max(0, node.inode.allocatedBlocks - removed), Math.ceil(size / BLOCK_BYTES));
      this.#journal.markTruncated(node, size);
      node.inode.truncateEpoch++;
    }
    node.inode.size = size;
  }

  /** Drops whole blocks; they read as zeros. */
  punch(node: Node, fromBlock: number, toBlock: number): void {
    if (fromBlock >= toBlock) return;
    node.inode.allocatedBlocks = Math.max(0, node.inode.allocatedBlocks - node.extents.punch(fromBlock, toBlock));
    this.#journal.markPunched(node, fromBlock * BLOCK_BYTES, toBlock * BLOCK_BYTES);
  }

  /** The next data or hole from `offset` on (SEEK_DATA 3, SEEK_HOLE 4); the extents must be known: see `read`. */
  seek(node: Node, offset: number, data: boolean): number | Obstacle {
    const size = node.inode.size;
    let block = Math.floor(offset / BLOCK_BYTES);
    while (block * BLOCK_BYTES < size) {
      const extent = node.extents.at(block);
      if (extent === undefined && !node.extents.isKnown(block)) return { kind: "extents", block };
      if ((extent !== undefined) === data) return Math.max(offset, block * BLOCK_BYTES);
      block = extent !== undefined ? extent.block + Math.ceil(extent.length / BLOCK_BYTES) : this.#holeEnd(node, block);
    }
    return data ? -1 : size;
  }

  #holeEnd(node: Node, block: number): number {
    return Math.min(node.extents.nextBlock(block), (Math.floor(block / REGION_BLOCKS) + 1) * REGION_BLOCKS);
  }
}

/** The first block of the file that is at the address, as far as it is known here. */
function blockAt({ extents }: Node, { log, sequence, offset, length }: LogAddress): number | undefined {
  for (const extent of extents.between(0, Number.MAX_SAFE_INTEGER)) {
    if (extent.log !== log || extent.sequence !== sequence) continue;
    const from = Math.max(extent.offset, offset);
    if (from < Math.min(extent.offset + extent.length, offset + length))
      return extent.block + Math.floor((from - extent.offset) / BLOCK_BYTES);
  }
  return undefined;
}

function pushZeros(pieces: Uint8Array[], length: number): number {
  for (let left = length; left > 0; left -= ZEROS.length) pieces.push(ZEROS.subarray(0, Math.min(left, ZEROS.length)));
  return length;
}
