import { type Answer, assert, type Extent, isDazzleError, REGION_BLOCKS, readSafe, sliceExtent, unpackExtents } from "@dazzle/core";
import { type Cursor, IteratorCursor, type KeyValue, MergedCursor } from "./cursor.ts";
import { behindPrefix, EntryKind, idKey, keyId, keyName, keyNumber, nameKey, numberKey } from "./keys.ts";
import { Memtable } from "./memtable.ts";
import { RunBlockBuilder } from "./run-block.ts";
import type { RunBuilder } from "./run-builder.ts";
import type { RunCache } from "./run-cache.ts";
import { find, findNow, mayHoldId, RunCursor, UNREAD } from "./run-reader.ts";
import { bytesOf, type Run, runBytes } from "./run-table.ts";
import { type EntryValue, type LiveValue, unpackEntry, unpackLive } from "./values.ts";

export interface NamedEntry extends EntryValue {
  readonly name: string;
}

/** Values read from runs for the transaction that is being applied, at which they are dropped. */
const LOADED_MAX = 4_096;
/** Runs that are merged together, and a shard's runs at which some are, whatever their sizes. */
const MERGE_RUNS_MIN = 4;
const RUNS_MAX = 10;
/** A run joins a merge where it is at most so many times what is newer. */
const MERGE_RATIO = 2;
/** Entries that are written between two looks at the clock. */
const ENTRIES_A_STEP = 256;
const READ_ATTEMPTS = 3;
/** Regions of a file that are looked up one by one; more of them are scanned. */
const REGIONS_ALONE = 4;

/** A shard's map from keys to values: a log-structured merge tree over the manager's log (docs/manager.md). Entries are changed in
 * the memtable; `freeze` sets it aside for a checkpoint to write out as the newest run. Reads look at the memtable, the
 * frozen one and the runs, the newest first.
 *
 * Reads that end in `Now` answer from memory alone, for what was loaded before in the same turn. */
export class Imap {
  readonly #cache: RunCache;
  #active = new Memtable();
  #frozen: Memtable | null = null;
  #runs: readonly Run[];
  // INVARIANT: says what the frozen memtable and the runs say, of keys that the active one does not have: what is frozen may be
  // written out, and then has to be read, before the transaction that asked for it goes on.
  #loadedRegions = new Map<number, Map<number, readonly Extent[] | null>>();
  #loadedLive = new Map<number, Map<number, LiveValue | null>>();
  #loaded = 0;

  constructor(options: { cache: RunCache; runs: readonly Run[] }) {
    this.#cache = options.cache;
    this.#runs = options.runs;
  }

  /** About what the entries take in memory that are not in a run yet. */
  get memoryBytes(): number {
    return this.#active.bytes + (this.#frozen?.bytes ?? 0);
  }

  get activeBytes(): number {
    return this.#active.bytes;
  }

  /** The newest first. */
  get runs(): readonly Run[] {
    return this.#runs;
  }

  // Index nodes.

  /** The encoded index node; it must not be changed. */
  inode(ino: number): Answer<Buffer | undefined> {
    const held = this.#held((table) => table.inode(ino));
    if (held !== undefined) return held ?? undefined;
    return this.#find(idKey(EntryKind.inode, ino), (value) => value ?? undefined);
  }

  putInode(ino: number, value: Buffer | null): void {
    this.#active.putInode(ino, value);
  }

  // Directory entries.

  entry(directory: number, name: string): Answer<EntryValue | undefined> {
    const held = this.#held((table) => table.entry(directory, name));
    if (held !== undefined) return held ?? undefined;
    return this.#find(nameKey(EntryKind.entry, directory, name), (value) => (value ? unpackEntry(value) : undefined));
  }

  putEntry(directory: number, name: string, value: EntryValue | null): void {
    this.#active.putEntry(directory, name, value);
  }

  /** A directory's entries behind the name `after` ("": all), ordered by name bytes, at most `limit`. */
  entries(directory: number, after: string, limit: number): Promise<{ entries: NamedEntry[]; more: boolean }> {
    const prefix = idKey(EntryKind.entry, directory);
    return this.#steady(async () => {
      // The least name behind `after` is `after` and a zero byte.
      const from = after === "" ? "" : `${after}\0`;
      const cursor = await this.#scan(
        prefix,
        nameKey(EntryKind.entry, directory, from),
        (table) => table.entriesFrom(directory, from),
        true,
      );
      const entries: NamedEntry[] = [];
      for await (const [key, value] of present(cursor)) {
        if (entries.length === limit) return { entries, more: true };
        entries.push({ name: keyName(key), ...unpackEntry(value) });
      }
      return { entries, more: false };
    });
  }

  // Extended attributes.

  attributes(ino: number): Promise<Array<readonly [string, Buffer]>> {
    const prefix = idKey(EntryKind.attribute, ino);
    return this.#steady(async () => {
      const cursor = await this.#scan(prefix, prefix, (table) => table.attributesOf(ino), true);
      const attributes: Array<readonly [string, Buffer]> = [];
      for await (const [key, value] of present(cursor)) attributes.push([keyName(key), value]);
      return attributes;
    });
  }

  putAttribute(ino: number, name: string, value: Buffer | null): void {
    this.#active.putAttribute(ino, name, value);
  }

  // Extents, by region.

  region(ino: number, region: number): Answer<readonly Extent[]> {
    const now = this.regionNow(ino, region);
    if (now !== undefined) return now;
    const key = numberKey(EntryKind.extents, ino, region);
    return this.#steady(() => find(this.#runs, this.#cache, key)).then((value) => (value ? unpackExtents(value) : []));
  }

  /** What the file has of blocks `from <= block < to`, ascending. */
  async extents(ino: number, from: number, to: number): Promise<Extent[]> {
    const first = Math.floor(from / REGION_BLOCKS);
    const last = Math.floor((to - 1) / REGION_BLOCKS);
    const extents: Extent[] = [];
    const add = (region: readonly Extent[]) => {
      for (const extent of region) {
        const part = sliceExtent(extent, from, to);
        if (part !== undefined) extents.push(part);
      }
    };
    if (last - first < REGIONS_ALONE) {
      for (let region = first; region <= last; region++) add(await this.region(ino, region));
      return extents;
    }
    return this.#steady(async () => {
      extents.length = 0;
      const prefix = idKey(EntryKind.extents, ino);
      const cursor = await this.#scan(prefix, numberKey(EntryKind.extents, ino, first), (table) => table.regionsFrom(ino, first), true);
      for await (const [key, value] of present(cursor)) {
        if (keyNumber(key) > last) break;
        add(unpackExtents(value));
      }
      return extents;
    });
  }

  /** Undefined where it must be loaded first. */
  regionNow(ino: number, region: number): readonly Extent[] | undefined {
    const held = this.#held((table) => table.region(ino, region));
    if (held !== undefined) return held ?? [];
    const loaded = this.#loadedRegions.get(ino)?.get(region);
    if (loaded !== undefined) return loaded ?? [];
    if (this.#runs.length === 0) return [];
    const value = findNow(this.#runs, this.#cache, numberKey(EntryKind.extents, ino, region));
    if (value === UNREAD) return undefined;
    return value ? unpackExtents(value) : [];
  }

  /** From now until `trimLoaded`, `regionNow` answers. */
  async loadRegion(ino: number, region: number): Promise<void> {
    if (this.#active.region(ino, region) !== undefined || this.#loadedRegions.get(ino)?.has(region)) return;
    const frozen = this.#frozen?.region(ino, region);
    if (frozen !== undefined) return this.#load(this.#loadedRegions, ino, region, frozen);
    const value = await this.#steady(() => find(this.#runs, this.#cache, numberKey(EntryKind.extents, ino, region)));
    this.#load(this.#loadedRegions, ino, region, value ? unpackExtents(value) : null);
  }

  /** The file's regions from `from` on that hold extents, ascending, at most `limit`; what is not in the active memtable is loaded. */
  loadRegions(ino: number, from: number, to: number, limit: number): Promise<{ regions: number[]; more: boolean }> {
    const prefix = idKey(EntryKind.extents, ino);
    return this.#steady(async () => {
      const cursor = await this.#scan(prefix, numberKey(EntryKind.extents, ino, from), (table) => table.regionsFrom(ino, from), true);
      const regions: number[] = [];
      for await (const [key, value] of present(cursor)) {
        const region = keyNumber(key);
        if (region >= to) break;
        if (regions.length === limit) return { regions, more: true };
        regions.push(region);
        if (this.#active.region(ino, region) === undefined) this.#load(this.#loadedRegions, ino, region, unpackExtents(value));
      }
      return { regions, more: false };
    });
  }

  putRegion(ino: number, region: number, extents: readonly Extent[]): void {
    this.#loadedRegions.get(ino)?.delete(region);
    this.#active.putRegion(ino, region, extents.length === 0 ? null : extents);
  }

  // Live bytes of segments.

  live(log: number, sequence: number): Answer<LiveValue | undefined> {
    const now = this.liveNow(log, sequence);
    if (now !== UNREAD) return now;
    return this.#steady(() => find(this.#runs, this.#cache, numberKey(EntryKind.live, log, sequence))).then((value) =>
      value ? unpackLive(value) : undefined,
    );
  }

  liveNow(log: number, sequence: number): LiveValue | undefined | typeof UNREAD {
    const held = this.#held((table) => table.live(log, sequence));
    if (held !== undefined) return held ?? undefined;
    const loaded = this.#loadedLive.get(log)?.get(sequence);
    if (loaded !== undefined) return loaded ?? undefined;
    if (this.#runs.length === 0) return undefined;
    const value = findNow(this.#runs, this.#cache, numberKey(EntryKind.live, log, sequence));
    if (value === UNREAD) return UNREAD;
    return value ? unpackLive(value) : undefined;
  }

  /** From now until `trimLoaded`, `liveNow` answers. */
  async loadLive(log: number, sequence: number): Promise<void> {
    if (this.#active.live(log, sequence) !== undefined || this.#loadedLive.get(log)?.has(sequence)) return;
    const frozen = this.#frozen?.live(log, sequence);
    if (frozen !== undefined) return this.#load(this.#loadedLive, log, sequence, frozen);
    const value = await this.#steady(() => find(this.#runs, this.#cache, numberKey(EntryKind.live, log, sequence)));
    this.#load(this.#loadedLive, log, sequence, value ? unpackLive(value) : null);
  }

  putLive(log: number, sequence: number, value: LiveValue | null): void {
    this.#loadedLive.get(log)?.delete(sequence);
    this.#active.putLive(log, sequence, value);
  }

  /** Sequences `from <= sequence <= to` of a log that have live bytes here, ascending, at most `limit`, each with how many. */
  liveOf(log: number, from: number, to: number, limit: number): Promise<Array<readonly [number, number]>> {
    const prefix = idKey(EntryKind.live, log);
    return this.#steady(async () => {
      const cursor = await this.#scan(prefix, numberKey(EntryKind.live, log, from), (table) => table.liveFrom(log, from), false);
      const live: Array<readonly [number, number]> = [];
      for await (const [key, value] of present(cursor)) {
        if (keyNumber(key) > to || live.length === limit) break;
        live.push([keyNumber(key), unpackLive(value).bytes]);
      }
      return live;
    });
  }

  // Orphans and condemned files: few, and read whole at a start.

  putOrphan(ino: number, mount: number | null): void {
    this.#active.putOrphan(ino, mount);
  }

  orphans(): Promise<Array<readonly [number, number]>> {
    return this.#numbers(EntryKind.orphan, (table) => table.orphans());
  }

  putCondemned(ino: number, region: number | null): void {
    this.#active.putCondemned(ino, region);
  }

  condemned(): Promise<Array<readonly [number, number]>> {
    return this.#numbers(EntryKind.condemned, (table) => table.condemned());
  }

  #numbers(kind: EntryKind, held: (table: Memtable) => Iterator<KeyValue>): Promise<Array<readonly [number, number]>> {
    const prefix = Buffer.from([kind]);
    return this.#steady(async () => {
      const cursor = await this.#scan(prefix, prefix, held, false);
      const numbers: Array<readonly [number, number]> = [];
      for await (const [key, value] of present(cursor)) numbers.push([keyId(key), readSafe(value, 0)]);
      return numbers;
    });
  }

  // How reads are put together.

  #held<Value>(read: (table: Memtable) => Value | null | undefined): Value | null | undefined {
    const value = read(this.#active);
    return value !== undefined || this.#frozen === null ? value : read(this.#frozen);
  }

  #find<Value>(key: Buffer, decode: (value: Buffer | null | undefined) => Value): Answer<Value> {
    if (this.#runs.length === 0) return decode(undefined);
    const value = findNow(this.#runs, this.#cache, key);
    if (value !== UNREAD) return decode(value);
    return this.#steady(() => find(this.#runs, this.#cache, key)).then(decode);
  }

  /** Entries that start with `prefix`, from `from` on. `filtered`: filters know of the prefix. */
  async #scan(prefix: Buffer, from: Buffer, held: (table: Memtable) => Iterator<KeyValue>, filtered: boolean): Promise<Cursor> {
    const sources: Cursor[] = [new IteratorCursor(held(this.#active))];
    if (this.#frozen !== null) sources.push(new IteratorCursor(held(this.#frozen)));
    const behind = behindPrefix(prefix);
    for (const run of this.#runs) {
      if (filtered && !(await mayHoldId(run, this.#cache, prefix, behind))) continue;
      sources.push(await RunCursor.open(run, this.#cache, from, behind));
    }
    return sources.length === 1 ? (sources[0] as Cursor) : new MergedCursor(sources);
  }

  /** A run that was merged away may be deleted while it is read: then the reading starts anew on those that took its place. */
  async #steady<Value>(read: () => Promise<Value>): Promise<Value> {
    for (let attempt = 1; ; attempt++) {
      const runs = this.#runs;
      try {
        return await read();
      } catch (error) {
        const gone = isDazzleError(error, "fragmentMissing", "segmentLost") && runs !== this.#runs;
        if (!gone || attempt === READ_ATTEMPTS) throw error;
      }
    }
  }

  #load<Value>(tables: Map<number, Map<number, Value>>, id: number, number: number, value: Value): void {
    let table = tables.get(id);
    if (table === undefined) {
      table = new Map();
      tables.set(id, table);
    }
    table.set(number, value);
    this.#loaded++;
  }

  /** Between two deltas: drops what was loaded, where it has become much. */
  trimLoaded(): void {
    if (this.#loaded < LOADED_MAX) return;
    this.#loadedRegions = new Map();
    this.#loadedLive = new Map();
    this.#loaded = 0;
  }

  // Everything.

  /** What is there with `from <= key < to` (undefined: to the end), in key order. What changes meanwhile is seen as it was at some time
   * of the reading. Rejects where a run that is read was merged away. */
  async *everything(from: Buffer, to: Buffer | undefined): AsyncGenerator<readonly [Buffer, Buffer]> {
    const cursors: Cursor[] = [new IteratorCursor(this.#active.all(from))];
    if (this.#frozen !== null) cursors.push(new IteratorCursor(this.#frozen.all(from)));
    for (const run of this.#runs) cursors.push(await RunCursor.open(run, this.#cache, from, to));
    for await (const entry of present(new MergedCursor(cursors))) {
      if (to !== undefined && entry[0].compare(to) >= 0) return;
      yield entry;
    }
  }

  /** A page of `everything`, of about `bytes` and at most `limit` entries, as a block of a run. */
  page(from: Buffer, to: Buffer | undefined, limit: number, bytes: number): Promise<{ block: Buffer; more: boolean }> {
    return this.#steady(async () => {
      const builder = new RunBlockBuilder(bytes);
      let more = false;
      for await (const [key, value] of this.everything(from, to)) {
        more = builder.entries > 0 && (builder.entries === limit || builder.length >= bytes);
        if (more) break;
        builder.add(key, value);
      }
      const block = Buffer.allocUnsafe(builder.length);
      builder.finish(block);
      return { block, more };
    });
  }

  // Checkpoints and merges.

  /** Sets what changed aside to be written out; changes go on into a new memtable. */
  freeze(): void {
    assert(this.#frozen === null, "one memtable is written out at a time");
    if (this.#active.empty) return;
    this.#frozen = this.#active;
    this.#active = new Memtable();
  }

  get frozen(): boolean {
    return this.#frozen !== null;
  }

  /** Writes what was frozen as the newest run. `pause` lets the event loop go on where it is time. */
  async writeFrozen(builder: RunBuilder, pause: () => Promise<void> | undefined): Promise<void> {
    assert(this.#frozen !== null, "something is frozen");
    const cursor = new IteratorCursor(this.#frozen.all());
    const run = await write(cursor, builder, this.#runs.length === 0, pause);
    if (run.tables.length > 0) this.#runs = [run, ...this.#runs];
    this.#frozen = null;
  }

  /** The newest runs that should become one, of at most `roomBytes`: they are many and about of one size, or there are too many altogether. */
  mergeable(roomBytes: number): readonly Run[] | undefined {
    let bytes = 0;
    let count = 0;
    for (const run of this.#runs) {
      const size = runBytes(run);
      if ((count > 0 && size > MERGE_RATIO * bytes) || bytes + size > roomBytes) break;
      bytes += size;
      count++;
    }
    if (count >= MERGE_RUNS_MIN) return this.#runs.slice(0, count);
    if (this.#runs.length < RUNS_MAX) return undefined;
    const some = this.#runs.slice(0, Math.max(count + 1, MERGE_RUNS_MIN));
    return bytesOf(some) > roomBytes ? undefined : some;
  }

  /** Writes `runs`, neighbours, as one that takes their place. */
  async merge(runs: readonly Run[], builder: RunBuilder, pause: () => Promise<void> | undefined): Promise<void> {
    const last = runs[runs.length - 1];
    const oldest = last === this.#runs[this.#runs.length - 1];
    const cursors = await Promise.all(runs.map((run) => RunCursor.open(run, this.#cache, Buffer.alloc(0), undefined)));
    const merged = await write(new MergedCursor(cursors), builder, oldest, pause);
    const at = this.#runs.indexOf(runs[0] as Run);
    assert(at >= 0 && this.#runs[at + runs.length - 1] === last, "runs that are merged stay where they are");
    this.#runs = [...this.#runs.slice(0, at), ...(merged.tables.length > 0 ? [merged] : []), ...this.#runs.slice(at + runs.length)];
    for (const run of runs) for (const table of run.tables) this.#cache.forget(table);
  }
}

/** Entries that are there, in order. */
async function* present(cursor: Cursor): AsyncGenerator<readonly [Buffer, Buffer]> {
  while (cursor.key !== undefined) {
    const { key, value } = cursor;
    if (value !== null) yield [key, value];
    const wait = cursor.advance();
    if (wait !== undefined) await wait;
  }
}

/** `whole`: nothing older is below, so tombstones have done their work. */
async function write(cursor: Cursor, builder: RunBuilder, whole: boolean, pause: () => Promise<void> | undefined): Promise<Run> {
  try {
    for (let count = 1; cursor.key !== undefined; count++) {
      const { key, value } = cursor;
      if (value !== null || !whole) {
        const room = builder.add(key, value);
        if (room !== undefined) await room;
      }
      const wait = cursor.advance();
      if (wait !== undefined) await wait;
      if (count % ENTRIES_A_STEP !== 0) continue;
      const paused = pause();
      if (paused !== undefined) await paused;
    }
    return await builder.finish();
  } catch (error) {
    builder.abandon();
    throw error;
  }
}
