import {
  ALL_SLOTS,
  assert,
  BLOCK_BYTES,
  blocksOf,
  cutExtents,
  DeltaKind,
  DeltaReader,
  decodeInode,
  type Extent,
  FILE_END,
  INODE,
  type Move,
  mergedInode,
  overlayExtents,
  packInode,
  REGION_BLOCKS,
  readSafe,
  SLOTS,
  type SlotMask,
  sliceExtent,
  unpackExtents,
} from "@dazzle/core";
import { movedExtents } from "../cleaning/moved-extents.ts";
import type { Imap, NamedEntry } from "../imap/imap.ts";
import { EntryKind, FIRST_KEY, KEY, keyId, keyName, keyNumber } from "../imap/keys.ts";
import { miscounted } from "../imap/live-count.ts";
import { UNREAD } from "../imap/run-reader.ts";
import { unpackEntry, unpackLive } from "../imap/values.ts";
import type { AmendedEntry } from "./amendment.ts";
import type { TransactionOrigin } from "./wal-record.ts";

/** Regions dropped in one turn of the event loop. */
const REGIONS_A_STEP = 64;
const DELTAS_A_STEP = 64;
const WHOLE_FILE = Math.floor(FILE_END / BLOCK_BYTES / REGION_BLOCKS) + 1;

type SegmentName = Pick<Extent, "log" | "sequence">;

export interface ShardEvents {
  /** The last live bytes of a segment went; `slots`: whose shards may hold some. */
  emptied(slot: number, log: number, sequence: number, slots: SlotMask): void;
  /** A name of a directory was set, or, with child 0, removed. */
  named(ino: number, change: NamedEntry): void;
}

/** The metadata of one slot: what its transactions say, and how far they are applied. `apply` is called for one transaction
 * after the other; a checkpoint freezes the imap between two. */
export class Shard {
  readonly slot: number;
  readonly term: number;
  readonly imap: Imap;
  /** By log: the last sequence that was applied here (rule 18). */
  readonly applied = new Map<number, number>();
  /** Mounts that may hold tokens here (rule 16). */
  readonly holds = new Set<number>();
  /** Unlinked and still open, with the mount that said so. As the imap has them. */
  readonly orphans = new Map<number, number>();
  /** Removed files with extents left, with the region to go on with. As the imap has them. */
  readonly condemned = new Map<number, number>();
  /** Files of which the transaction that is being applied comes from a writer of a part: the blocks that it adds are counted here. */
  readonly #merged = new Set<number>();
  // INVARIANT: nextNumber <= numbersAllowed <= numbersLimit.
  /** The next index number to be leased. */
  nextNumber: number;
  /** Below which the log allows it, and the stable log. */
  numbersLimit: number;
  numbersAllowed: number;
  readonly #events: ShardEvents;

  constructor(options: { slot: number; term: number; imap: Imap; numbersLimit: number; events: ShardEvents }) {
    this.slot = options.slot;
    this.term = options.term;
    this.imap = options.imap;
    // 0 is nobody's number, 1 the root's.
    this.numbersLimit = Math.max(options.numbersLimit, options.slot + SLOTS);
    this.nextNumber = this.numbersLimit;
    this.numbersAllowed = this.numbersLimit;
    this.#events = options.events;
  }

  /** After a start: index numbers below the limit may have been given out before. */
  takeNumbersTo(limit: number): void {
    this.numbersLimit = Math.max(this.numbersLimit, limit);
    this.numbersAllowed = this.numbersLimit;
    this.nextNumber = this.numbersLimit;
  }

  /** After a start: what is kept in memory beside the imap. */
  async loadMarkers(): Promise<void> {
    for (const [ino, mount] of await this.imap.orphans()) this.orphans.set(ino, mount);
    for (const [ino, region] of await this.imap.condemned()) this.condemned.set(ino, region);
  }

  appliedTo(log: number): number {
    return this.applied.get(log) ?? 0;
  }

  /** Applies a transaction's deltas for this slot, all of them: where it rejects (a run could not be read), it must be called
   * again with the same before anything else. Older ones are already applied. */
  async apply(origin: TransactionOrigin, deltas: Uint8Array, pause: () => Promise<void> | undefined): Promise<void> {
    if (origin.sequence <= this.appliedTo(origin.log)) return;
    const reader = new DeltaReader(deltas);
    this.#merged.clear();
    for (let count = 1; reader.next(); count++) {
      this.imap.trimLoaded();
      const wait = this.#applyDelta(origin, reader);
      if (wait !== undefined) await wait;
      if (count % DELTAS_A_STEP !== 0) continue;
      const paused = pause();
      if (paused !== undefined) await paused;
    }
    this.applied.set(origin.log, origin.sequence);
  }

  #applyDelta(origin: TransactionOrigin, delta: DeltaReader): Promise<void> | undefined {
    switch (delta.kind) {
      case DeltaKind.putInode:
        this.#putInode(origin, delta);
        return undefined;
      case DeltaKind.mergeInode:
        return this.#mergeInode(delta);
      case DeltaKind.removeInode:
        return this.#removeInode(delta.ino);
      case DeltaKind.putEntry:
        this.imap.putEntry(delta.ino, delta.name, { child: delta.child, type: delta.type });
        this.#events.named(delta.ino, delta);
        return undefined;
      case DeltaKind.removeEntry:
        this.imap.putEntry(delta.ino, delta.name, null);
        this.#events.named(delta.ino, { name: delta.name, child: 0, type: 0 });
        return undefined;
      case DeltaKind.putExtents:
        return this.#putExtents(origin, delta);
      case DeltaKind.cutExtents:
        return this.#cutExtents(delta.ino, delta.from, delta.to);
      case DeltaKind.putAttribute:
        this.imap.putAttribute(delta.ino, delta.name, Buffer.from(delta.bytes.subarray(delta.valueStart, delta.valueEnd)));
        return undefined;
      case DeltaKind.removeAttribute:
        this.imap.putAttribute(delta.ino, delta.name, null);
        return undefined;
      default:
        assert(false, `the reader knows the kind ${delta.kind}`);
    }
  }

  #putInode(origin: TransactionOrigin, delta: DeltaReader): void {
    const { ino, bytes, valueStart, valueEnd } = delta;
    const value = Buffer.allocUnsafe(valueEnd - valueStart);
    bytes.copy(value, 0, valueStart, valueEnd);
    this.imap.putInode(ino, value);
    const linked = value.readUInt32LE(INODE.nlink) > 0;
    if (linked === !this.orphans.has(ino)) return;
    if (linked) this.#forgetOrphan(ino);
    else this.#orphan(ino, origin.log);
  }

  #orphan(ino: number, mount: number): void {
    this.orphans.set(ino, mount);
    this.imap.putOrphan(ino, mount);
  }

  async #mergeInode({ ino, size, mtimeNs, ctimeNs }: DeltaReader): Promise<void> {
    const inode = await this.imap.inode(ino);
    if (inode === undefined) return;
    this.imap.putInode(ino, packInode(mergedInode(decodeInode(inode), { size, mtimeNs, ctimeNs, allocatedBlocks: 0 })));
    this.#merged.add(ino);
  }

  /** In the same turn as the region changes, so that doing it again after a failure counts nothing twice. */
  #countBlocks(ino: number, added: number): void {
    if (added === 0 || !this.#merged.has(ino)) return;
    const inode = this.imap.inode(ino);
    assert(inode instanceof Uint8Array, "an index node that was merged is in memory");
    const { allocatedBlocks, ...rest } = decodeInode(inode);
    this.imap.putInode(ino, packInode({ ...rest, allocatedBlocks: Math.max(0, allocatedBlocks + added) }));
  }

  #forgetOrphan(ino: number): void {
    if (!this.orphans.delete(ino)) return;
    this.imap.putOrphan(ino, null);
  }

  // Extents. A region and the live bytes of what it named change in one turn, so that the two always agree.

  #putExtents(origin: TransactionOrigin, delta: DeltaReader): Promise<void> | undefined {
    for (let row = 0; row < delta.extentRows; row++) {
      const wait = this.#putExtent(origin, delta, row);
      if (wait !== undefined) return wait.then(() => this.#putExtentsFrom(origin, delta, row + 1));
    }
    return undefined;
  }

  async #putExtentsFrom(origin: TransactionOrigin, delta: DeltaReader, first: number): Promise<void> {
    for (let row = first; row < delta.extentRows; row++) await this.#putExtent(origin, delta, row);
  }

  #putExtent(origin: TransactionOrigin, delta: DeltaReader, row: number): Promise<void> | undefined {
    const { log, sequence, group, groupVersion } = origin;
    const block = delta.extentBlock(row);
    const extent: Extent = { block, log, sequence, offset: delta.extentOffset(row), length: delta.extentLength(row), group, groupVersion };
    const first = Math.floor(block / REGION_BLOCKS);
    const last = Math.floor((block + Math.max(1, blocksOf(extent.length)) - 1) / REGION_BLOCKS);
    if (first === last && this.#readyFor(delta.ino, first, origin)) {
      this.#overlay(delta.ino, first, extent, origin);
      return undefined;
    }
    return this.#putExtentSlowly(delta.ino, first, last, extent, origin);
  }

  async #putExtentSlowly(ino: number, first: number, last: number, extent: Extent, origin: TransactionOrigin): Promise<void> {
    for (let region = first; region <= last; region++) {
      const part = sliceExtent(extent, region * REGION_BLOCKS, (region + 1) * REGION_BLOCKS);
      if (part === undefined) continue;
      await this.imap.loadRegion(ino, region);
      await this.#loadLiveOf(this.imap.regionNow(ino, region) as readonly Extent[]);
      await this.imap.loadLive(origin.log, origin.sequence);
      this.#overlay(ino, region, part, origin);
    }
  }

  /** Whether the region, and the live bytes of what it names, can be changed at once. */
  #readyFor(ino: number, region: number, origin: TransactionOrigin): boolean {
    const extents = this.imap.regionNow(ino, region);
    if (extents === undefined || this.imap.liveNow(origin.log, origin.sequence) === UNREAD) return false;
    for (const extent of extents) if (this.imap.liveNow(extent.log, extent.sequence) === UNREAD) return false;
    return true;
  }

  async #loadLiveOf(extents: readonly Extent[]): Promise<void> {
    for (const { log, sequence } of extents) await this.imap.loadLive(log, sequence);
  }

  #overlay(ino: number, region: number, added: Extent, origin: TransactionOrigin): void {
    const before = this.imap.regionNow(ino, region);
    assert(before !== undefined, "a region is loaded before it is changed");
    this.#addLive(added, added.length, origin.slots);
    if (before.length === 0) {
      this.imap.putRegion(ino, region, [added]);
      this.#countBlocks(ino, blocksOf(added.length));
      return;
    }
    const { extents, replaced } = overlayExtents(before, added);
    this.imap.putRegion(ino, region, extents);
    this.#countBlocks(ino, blocksIn(extents) - blocksIn(before));
    for (const extent of replaced) this.#subtractLive(extent, extent.length);
  }

  #addLive({ log, sequence }: SegmentName, bytes: number, slots: SlotMask): void {
    const live = this.imap.liveNow(log, sequence);
    assert(live !== UNREAD, "live bytes are loaded before they are changed");
    this.imap.putLive(log, sequence, { bytes: (live?.bytes ?? 0) + bytes, slots: live?.slots ?? slots });
  }

  // INVARIANT: a segment's live bytes are the sum of the lengths of the extents that name it (see `miscounted`).
  #subtractLive({ log, sequence }: SegmentName, bytes: number): void {
    const live = this.imap.liveNow(log, sequence);
    assert(live !== UNREAD && live !== undefined && live.bytes >= bytes, `segment ${log}/${sequence} has the live bytes that go`);
    const left = live.bytes - bytes;
    this.imap.putLive(log, sequence, left === 0 ? null : { bytes: left, slots: live.slots });
    if (left === 0) this.#events.emptied(this.slot, log, sequence, live.slots);
  }

  /** Drops bytes `from <= byte < to`: region by region, so that no file is too large for one delta. */
  async #cutExtents(ino: number, from: number, to: number): Promise<void> {
    const firstBlock = Math.floor(from / BLOCK_BYTES);
    const endBlock = to === FILE_END ? Number.MAX_SAFE_INTEGER : Math.floor(to / BLOCK_BYTES);
    const endRegion = Math.min(WHOLE_FILE, Math.ceil(endBlock / REGION_BLOCKS));
    for (let region = Math.floor(firstBlock / REGION_BLOCKS), more = true; more; ) {
      const found = await this.imap.loadRegions(ino, region, endRegion, REGIONS_A_STEP);
      for (const index of found.regions) {
        await this.#loadLiveOf(this.imap.regionNow(ino, index) as readonly Extent[]);
        this.#cutRegion(ino, index, from, endBlock);
        region = index + 1;
      }
      more = found.more;
      this.imap.trimLoaded();
    }
  }

  #cutRegion(ino: number, region: number, from: number, endBlock: number): void {
    const before = this.imap.regionNow(ino, region) as readonly Extent[];
    const { extents, removed } = cutExtents(before, Math.ceil(from / BLOCK_BYTES), endBlock);
    for (const extent of removed) this.#subtractLive(extent, extent.length);
    const kept = from % BLOCK_BYTES === 0 ? extents : extents.map((extent) => this.#trimTail(extent, from));
    if (removed.length > 0 || kept.some((extent, index) => extent !== extents[index])) this.imap.putRegion(ino, region, kept);
  }

  /** The extent without what it holds from byte `from` of the file on, which lies in its last block. */
  #trimTail(extent: Extent, from: number): Extent {
    const length = from - extent.block * BLOCK_BYTES;
    if (length <= 0 || length >= extent.length) return extent;
    this.#subtractLive(extent, extent.length - length);
    return { ...extent, length };
  }

  // Relocation.

  /** Moves blocks into a cleaner's segment, each where it still is at its old address (rule 25). Answers the bytes that are at their new address then. Called as `apply` is; doing it again
   * changes nothing. */
  async relocate(origin: TransactionOrigin, moves: readonly Move[], pause: () => Promise<void> | undefined): Promise<number> {
    let bytes = 0;
    for (const move of moves) {
      this.imap.trimLoaded();
      // What is left of a removed file is dropped at times that are not logged.
      if (!this.condemned.has(move.ino)) bytes += await this.#move(origin, move);
      const paused = pause();
      if (paused !== undefined) await paused;
    }
    return bytes;
  }

  async #move(origin: TransactionOrigin, move: Move): Promise<number> {
    const { ino, block } = move;
    const last = Math.floor((block + blocksOf(move.length) - 1) / REGION_BLOCKS);
    let bytes = 0;
    for (let region = Math.floor(block / REGION_BLOCKS); region <= last; region++) {
      await this.imap.loadRegion(ino, region);
      await this.imap.loadLive(move.fromLog, move.fromSequence);
      await this.imap.loadLive(origin.log, origin.sequence);
      const { extents, moved, there } = movedExtents(this.imap.regionNow(ino, region) as readonly Extent[], move, origin);
      bytes += moved + there;
      if (moved === 0) continue;
      this.imap.putRegion(ino, region, extents);
      this.#addLive(origin, moved, origin.slots);
      this.#subtractLive({ log: move.fromLog, sequence: move.fromSequence }, moved);
    }
    return bytes;
  }

  // Removal.

  async #removeInode(ino: number): Promise<void> {
    const { regions, more } = await this.imap.loadRegions(ino, 0, WHOLE_FILE, REGIONS_A_STEP);
    for (const region of regions) await this.#loadLiveOf(this.imap.regionNow(ino, region) as readonly Extent[]);
    const attributes = await this.imap.attributes(ino);
    for (const region of regions) this.#dropRegion(ino, region);
    for (const [name] of attributes) this.imap.putAttribute(ino, name, null);
    this.imap.putInode(ino, null);
    this.#forgetOrphan(ino);
    // The rest of a large file goes later: its number is never given out again, so nobody can tell.
    if (more) this.#condemn(ino, (regions.at(-1) as number) + 1);
  }

  #condemn(ino: number, region: number): void {
    this.condemned.set(ino, region);
    this.imap.putCondemned(ino, region);
  }

  #dropRegion(ino: number, region: number): void {
    const extents = this.imap.regionNow(ino, region) as readonly Extent[];
    this.imap.putRegion(ino, region, []);
    for (const extent of extents) this.#subtractLive(extent, extent.length);
  }

  /** Drops some more of a condemned file's extents. Called as `apply` is, between transactions. */
  async sweep(): Promise<void> {
    for (const [ino, from] of this.condemned) {
      this.imap.trimLoaded();
      const { regions, more } = await this.imap.loadRegions(ino, from, WHOLE_FILE, REGIONS_A_STEP);
      for (const region of regions) await this.#loadLiveOf(this.imap.regionNow(ino, region) as readonly Extent[]);
      for (const region of regions) this.#dropRegion(ino, region);
      if (more) this.#condemn(ino, (regions.at(-1) as number) + 1);
      else {
        this.condemned.delete(ino);
        this.imap.putCondemned(ino, null);
      }
      return;
    }
  }

  /** Puts entries as a repair has them: called as `apply` is, between transactions. */
  amend(entries: readonly AmendedEntry[]): void {
    for (const entry of entries) this.#amendOne(entry);
  }

  #amendOne({ key, value }: AmendedEntry): void {
    const id = keyId(key);
    switch (key[KEY.kind]) {
      case EntryKind.inode:
        this.imap.putInode(id, value);
        break;
      case EntryKind.entry:
        this.#amendEntry(id, keyName(key), value);
        break;
      case EntryKind.extents:
        this.imap.putRegion(id, keyNumber(key), value === null ? [] : unpackExtents(value));
        break;
      case EntryKind.live:
        this.imap.putLive(id, keyNumber(key), value === null ? null : unpackLive(value));
        if (value === null) this.#events.emptied(this.slot, id, keyNumber(key), ALL_SLOTS);
        break;
      case EntryKind.orphan:
        if (value === null) this.#forgetOrphan(id);
        else this.#orphan(id, readSafe(value, 0));
        break;
      default:
        assert(false, `an amendment was checked for its kinds: ${key[KEY.kind]}`);
    }
  }

  #amendEntry(directory: number, name: string, value: Buffer | null): void {
    const entry = value === null ? null : unpackEntry(value);
    this.imap.putEntry(directory, name, entry);
    this.#events.named(directory, { name, ...(entry ?? { child: 0, type: 0 }) });
  }

  /** Asserts that live bytes are what the extents say, of everything there is: for tests and checks. */
  async checkInvariants(): Promise<void> {
    for (const { log, sequence, named, counted } of await miscounted(this.imap.everything(FIRST_KEY, undefined)))
      assert(false, `segment ${log}/${sequence} has ${counted} live bytes in slot ${this.slot}, and extents name ${named}`);
  }
}

function blocksIn(extents: readonly Extent[]): number {
  return extents.reduce((sum, { length }) => sum + blocksOf(length), 0);
}
