import { type Extent, packExtents } from "@dazzle/core";
import type { KeyValue } from "./cursor.ts";
import { EntryKind, FIRST_KEY, idKey, KEY, keyId, keyName, keyNumber, nameKey, numberKey } from "./keys.ts";
import { OrderedMap } from "./ordered-map.ts";
import { type EntryValue, type LiveValue, packEntry, packLive, packNumber } from "./values.ts";

/** What an entry takes in memory beside its bytes, about. */
const INODE_OVERHEAD = 160;
const NAME_OVERHEAD = 120;
const REGION_OVERHEAD = 120;
const EXTENT_MEMORY = 96;
const LIVE_MEMORY = 120;
const NUMBER_MEMORY = 80;
const TABLE_OVERHEAD = 300;

type Names<Value> = Map<number, OrderedMap<string, Value | null>>;

/** A shard's entries since its last checkpoint, with values in the form in which they are used. Null is a tombstone;
 * undefined says nothing about the key. */
export class Memtable {
  /** About what it takes in memory. */
  bytes = 0;
  readonly #inodes = new OrderedMap<number, Buffer | null>();
  readonly #entries: Names<EntryValue> = new Map();
  readonly #attributes: Names<Buffer> = new Map();
  /** Most files are smaller than a region: theirs are kept without a table each. */
  readonly #firstRegions = new OrderedMap<number, readonly Extent[] | null>();
  readonly #laterRegions = new Map<number, OrderedMap<number, readonly Extent[] | null>>();
  readonly #live = new Map<number, OrderedMap<number, LiveValue | null>>();
  readonly #orphans = new OrderedMap<number, number | null>();
  readonly #condemned = new OrderedMap<number, number | null>();

  get empty(): boolean {
    return this.bytes === 0;
  }

  inode(ino: number): Buffer | null | undefined {
    return this.#inodes.get(ino);
  }

  putInode(ino: number, value: Buffer | null): void {
    if (this.#inodes.get(ino) === undefined) this.bytes += INODE_OVERHEAD + (value?.length ?? 0);
    this.#inodes.set(ino, value);
  }

  entry(directory: number, name: string): EntryValue | null | undefined {
    return this.#entries.get(directory)?.get(name);
  }

  putEntry(directory: number, name: string, value: EntryValue | null): void {
    const table = this.#table(this.#entries, directory);
    if (table.get(name) === undefined) this.bytes += NAME_OVERHEAD + name.length;
    table.set(name, value);
  }

  attribute(ino: number, name: string): Buffer | null | undefined {
    return this.#attributes.get(ino)?.get(name);
  }

  putAttribute(ino: number, name: string, value: Buffer | null): void {
    const table = this.#table(this.#attributes, ino);
    const before = table.get(name);
    if (before === undefined) this.bytes += NAME_OVERHEAD + name.length;
    this.bytes += (value?.length ?? 0) - (before?.length ?? 0);
    table.set(name, value);
  }

  region(ino: number, region: number): readonly Extent[] | null | undefined {
    return region === 0 ? this.#firstRegions.get(ino) : this.#laterRegions.get(ino)?.get(region);
  }

  putRegion(ino: number, region: number, value: readonly Extent[] | null): void {
    const before = this.region(ino, region);
    if (before === undefined) this.bytes += REGION_OVERHEAD;
    this.bytes += ((value?.length ?? 0) - (before?.length ?? 0)) * EXTENT_MEMORY;
    if (region === 0) this.#firstRegions.set(ino, value);
    else this.#table(this.#laterRegions, ino).set(region, value);
  }

  /** Regions of a file from `from` on, ascending, tombstones included. */
  *regions(ino: number, from: number): Generator<number> {
    if (from === 0 && this.#firstRegions.get(ino) !== undefined) yield 0;
    for (const [region] of this.#laterRegions.get(ino)?.from(from) ?? []) yield region;
  }

  live(log: number, sequence: number): LiveValue | null | undefined {
    return this.#live.get(log)?.get(sequence);
  }

  putLive(log: number, sequence: number, value: LiveValue | null): void {
    const table = this.#table(this.#live, log);
    if (table.get(sequence) === undefined) this.bytes += LIVE_MEMORY;
    table.set(sequence, value);
  }

  putOrphan(ino: number, mount: number | null): void {
    if (this.#orphans.get(ino) === undefined) this.bytes += NUMBER_MEMORY;
    this.#orphans.set(ino, mount);
  }

  putCondemned(ino: number, region: number | null): void {
    if (this.#condemned.get(ino) === undefined) this.bytes += NUMBER_MEMORY;
    this.#condemned.set(ino, region);
  }

  #table<Key extends string | number, Value>(tables: Map<number, OrderedMap<Key, Value>>, id: number): OrderedMap<Key, Value> {
    let table = tables.get(id);
    if (table === undefined) {
      table = new OrderedMap();
      tables.set(id, table);
      this.bytes += TABLE_OVERHEAD;
    }
    return table;
  }

  /** Names of a directory from `from` on, ascending, tombstones (null) included. */
  entriesFrom(directory: number, from: string): Iterator<KeyValue> {
    return named(EntryKind.entry, directory, this.#entries.get(directory), from, packEntry);
  }

  attributesOf(ino: number): Iterator<KeyValue> {
    return named(EntryKind.attribute, ino, this.#attributes.get(ino), undefined, same);
  }

  *regionsFrom(ino: number, from: number): Generator<KeyValue> {
    for (const region of this.regions(ino, from)) yield regionEntry(ino, region, this.region(ino, region) as readonly Extent[] | null);
  }

  liveFrom(log: number, from: number): Iterator<KeyValue> {
    return numbered(EntryKind.live, log, this.#live.get(log), from, packLive);
  }

  orphans(): Iterator<KeyValue> {
    return plain(EntryKind.orphan, this.#orphans, packNumber);
  }

  condemned(): Iterator<KeyValue> {
    return plain(EntryKind.condemned, this.#condemned, packNumber);
  }

  /** Everything with keys from `from` on, in key order. */
  *all(from: Buffer = FIRST_KEY): Generator<KeyValue> {
    for (const entry of this.#allNear(from)) if (entry[0].compare(from) >= 0) yield entry;
  }

  /** As `all`, with maybe one entry before `from`. */
  *#allNear(from: Buffer): Generator<KeyValue> {
    const first = from.length < KEY.rest ? 0 : keyId(from);
    const firstId = (kind: EntryKind) => (kind === from[KEY.kind] ? first : 0);
    const has = (kind: EntryKind) => kind >= (from[KEY.kind] ?? 0);
    const name = (kind: EntryKind, id: number) => (kind === from[KEY.kind] && id === first ? keyName(from) : undefined);
    const number = (kind: EntryKind, id: number) =>
      kind === from[KEY.kind] && id === first && from.length >= KEY.rest + 8 ? keyNumber(from) : 0;
    const { inode, entry, extents, attribute, live, orphan, condemned } = EntryKind;
    if (has(inode)) yield* plain(inode, this.#inodes, same, firstId(inode));
    if (has(entry))
      for (const id of ascending(this.#entries, firstId(entry))) yield* named(entry, id, this.#entries.get(id), name(entry, id), packEntry);
    if (has(extents)) for (const id of this.#filesWithRegions(firstId(extents))) yield* this.regionsFrom(id, number(extents, id));
    if (has(attribute))
      for (const id of ascending(this.#attributes, firstId(attribute)))
        yield* named(attribute, id, this.#attributes.get(id), name(attribute, id), same);
    if (has(live))
      for (const id of ascending(this.#live, firstId(live))) yield* numbered(live, id, this.#live.get(id), number(live, id), packLive);
    if (has(orphan)) yield* plain(orphan, this.#orphans, packNumber, firstId(orphan));
    if (has(condemned)) yield* plain(condemned, this.#condemned, packNumber, firstId(condemned));
  }

  /** Two ascending lists as one. */
  *#filesWithRegions(from: number): Generator<number> {
    const later = ascending(this.#laterRegions, from);
    let at = 0;
    for (const [ino] of this.#firstRegions.from(from)) {
      while (at < later.length && (later[at] as number) < ino) yield later[at++] as number;
      if (later[at] === ino) at++;
      yield ino;
    }
    while (at < later.length) yield later[at++] as number;
  }
}

function same(value: Buffer): Buffer {
  return value;
}

function ascending(tables: ReadonlyMap<number, unknown>, from: number): number[] {
  return [...tables.keys()].filter((id) => id >= from).sort((a, b) => a - b);
}

function regionEntry(ino: number, region: number, extents: readonly Extent[] | null): KeyValue {
  return [numberKey(EntryKind.extents, ino, region), extents === null ? null : packExtents(extents)];
}

function* named<Value>(
  kind: EntryKind,
  id: number,
  table: OrderedMap<string, Value | null> | undefined,
  from: string | undefined,
  pack: (value: Value) => Buffer,
): Generator<KeyValue> {
  for (const [name, value] of table?.from(from) ?? []) yield [nameKey(kind, id, name), value === null ? null : pack(value)];
}

function* numbered<Value>(
  kind: EntryKind,
  id: number,
  table: OrderedMap<number, Value | null> | undefined,
  from: number | undefined,
  pack: (value: Value) => Buffer,
): Generator<KeyValue> {
  for (const [number, value] of table?.from(from) ?? []) yield [numberKey(kind, id, number), value === null ? null : pack(value)];
}

function* plain<Value>(
  kind: EntryKind,
  table: OrderedMap<number, Value | null>,
  pack: (value: Value) => Buffer,
  from = 0,
): Generator<KeyValue> {
  for (const [id, value] of table.from(from)) yield [idKey(kind, id), value === null ? null : pack(value)];
}
