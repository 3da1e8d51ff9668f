import { DazzleError, decodeInode, isDazzleError, packExtents, readSafe, slotOf, unpackExtents } from "@dazzle/core";
import { EntryKind, KEY, keyId, keyName, keyNumber } from "../imap/keys.ts";
import { packEntry, packLive, packNumber, unpackEntry, unpackLive } from "../imap/values.ts";
import type { Shard } from "./shard.ts";

/** An entry of the imap as a repair has it: null is none. */
export interface AmendedEntry {
  readonly key: Buffer;
  readonly value: Buffer | null;
}

/** In one record: some 100 KiB at most. */
const ENTRIES_MAX = 256;
const ENTRY_BYTES_MAX = 64 * 1024;

/** Amended entries, little-endian, one behind the other: 0 2 bytes of key   2 1 whether there is a value   3 1 zero   4 4 bytes of value
 *   8 the key, the value */
const HEAD = { keyBytes: 0, present: 2, valueBytes: 4, end: 8 } as const;

export function amendmentBytes(entries: readonly AmendedEntry[]): number {
  return entries.reduce((sum, { key, value }) => sum + HEAD.end + key.length + (value?.length ?? 0), 0);
}

/** Writes them at the start of `target`; answers where the next one would be. */
export function encodeAmendment(entries: readonly AmendedEntry[], target: Buffer): number {
  let at = 0;
  for (const { key, value } of entries) {
    target.fill(0, at, at + HEAD.end);
    target.writeUInt16LE(key.length, at + HEAD.keyBytes);
    target.writeUInt8(value === null ? 0 : 1, at + HEAD.present);
    target.writeUInt32LE(value?.length ?? 0, at + HEAD.valueBytes);
    at += HEAD.end;
    for (const bytes of value === null ? [key] : [key, value]) {
      target.set(bytes, at);
      at += bytes.length;
    }
  }
  return at;
}

/** Throws `corrupt`. Keys and values are copies. */
export function decodeAmendment(source: Buffer): AmendedEntry[] {
  const entries: AmendedEntry[] = [];
  const take = (from: number, length: number) => {
    if (from + length > source.length) throw new DazzleError("corrupt", "an amendment that ends too soon");
    return Buffer.from(source.subarray(from, from + length));
  };
  for (let at = 0; at < source.length; ) {
    const head = take(at, HEAD.end);
    const key = take(at + HEAD.end, head.readUInt16LE(HEAD.keyBytes));
    const value = take(at + HEAD.end + key.length, head.readUInt32LE(HEAD.valueBytes));
    entries.push({ key, value: head.readUInt8(HEAD.present) === 0 ? null : value });
    at += HEAD.end + key.length + value.length;
  }
  return entries;
}

/** Throws `badMessage` where no imap of the slot can hold these. */
export function checkAmendment(slot: number, entries: readonly AmendedEntry[]): void {
  const bad = (why: string) => new DazzleError("badMessage", `an amendment ${why}`);
  if (entries.length === 0 || entries.length > ENTRIES_MAX) throw bad(`of ${entries.length} entries`);
  for (const { key, value } of entries) {
    if (key.length < KEY.rest) throw bad("with a key that is too short");
    const kind = key[KEY.kind];
    const isNumbered = kind === EntryKind.extents || kind === EntryKind.live;
    const isNamed = kind === EntryKind.entry;
    const isBare = kind === EntryKind.inode || kind === EntryKind.orphan;
    if (!isNumbered && !isNamed && !isBare) throw bad(`of the kind ${kind}`);
    if (isNumbered ? key.length !== KEY.rest + 8 : isNamed === (key.length === KEY.rest)) throw bad("with no such key");
    if (kind !== EntryKind.live && slotOf(keyId(key)) !== slot) throw bad(`of index number ${keyId(key)}, which is not of slot ${slot}`);
    if (value === null) continue;
    if (value.length > ENTRY_BYTES_MAX) throw bad(`with a value of ${value.length} bytes`);
    try {
      if (kind === EntryKind.inode) decodeInode(value);
      else if (kind === EntryKind.extents) unpackExtents(value);
      else if (kind === EntryKind.entry) unpackEntry(value);
      else if (kind === EntryKind.live) unpackLive(value);
      else readSafe(value, 0);
    } catch (error) {
      if (!isDazzleError(error) && !(error instanceof RangeError)) throw error;
      throw bad(`with a value that is none: ${error.message}`);
    }
  }
}

/** What a shard has under a key. */
export async function entryOf({ imap, orphans }: Shard, key: Buffer): Promise<Buffer | null> {
  const id = keyId(key);
  switch (key[KEY.kind]) {
    case EntryKind.inode:
      return (await imap.inode(id)) ?? null;
    case EntryKind.entry: {
      const entry = await imap.entry(id, keyName(key));
      return entry === undefined ? null : packEntry(entry);
    }
    case EntryKind.extents: {
      const extents = await imap.region(id, keyNumber(key));
      return extents.length === 0 ? null : packExtents(extents);
    }
    case EntryKind.live: {
      const live = await imap.live(id, keyNumber(key));
      return live === undefined ? null : packLive(live);
    }
    case EntryKind.orphan: {
      const mount = orphans.get(id);
      return mount === undefined ? null : packNumber(mount);
    }
    default:
      throw new DazzleError("badMessage", `an amendment of the kind ${key[KEY.kind]}`);
  }
}

export function same(one: Buffer | null, other: Buffer | null): boolean {
  return one === null || other === null ? one === other : one.equals(other);
}
