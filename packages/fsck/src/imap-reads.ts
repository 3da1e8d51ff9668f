import { decodeInode, type Inode, slotOf, someAtOnce } from "@dazzle/core";
import { behindKey, behindPrefix, EntryKind, idKey, keyId, keyName, nameKey, numberKey, unpackEntry } from "@dazzle/manager";
import { entriesOf, type Imaps } from "./imaps.ts";
import { slots } from "./names.ts";

const SLOTS_AT_ONCE = 8;

/** A name that leads to an index number; `value`: as it is kept. */
export interface NameOf {
  readonly directory: number;
  readonly name: string;
  readonly key: Buffer;
  readonly value: Buffer;
}

/** Every name that leads to one of these, by number. */
export async function namesOf(imaps: Imaps, numbers: ReadonlySet<number>): Promise<Map<number, NameOf[]>> {
  const found = new Map<number, NameOf[]>();
  if (numbers.size === 0) return found;
  await someAtOnce(SLOTS_AT_ONCE, slots(), async (slot) => {
    for await (const [key, value] of entriesOf(imaps, slot, EntryKind.entry)) {
      const { child } = unpackEntry(value);
      if (!numbers.has(child)) continue;
      const names = found.get(child) ?? [];
      names.push({ directory: keyId(key), name: keyName(key), key: Buffer.from(key), value: Buffer.from(value) });
      found.set(child, names);
    }
  });
  for (const names of found.values()) names.sort((one, other) => one.key.compare(other.key));
  return found;
}

/** An index node, and as it is kept. */
export interface KeptInode {
  readonly inode: Inode;
  readonly key: Buffer;
  readonly value: Buffer;
}

export async function inodeOf(imaps: Imaps, ino: number): Promise<KeptInode | undefined> {
  const key = idKey(EntryKind.inode, ino);
  const value = await valueAt(imaps, slotOf(ino), idKey(EntryKind.inode, ino - 1), key);
  return value === undefined ? undefined : { inode: decodeInode(value), key, value };
}

export function liveOf(imaps: Imaps, slot: number, log: number, sequence: number): Promise<Buffer | undefined> {
  return valueAt(imaps, slot, numberKey(EntryKind.live, log, sequence - 1), numberKey(EntryKind.live, log, sequence));
}

export function orphanOf(imaps: Imaps, ino: number): Promise<Buffer | undefined> {
  return valueAt(imaps, slotOf(ino), idKey(EntryKind.orphan, ino - 1), idKey(EntryKind.orphan, ino));
}

/** What a directory keeps under a name. */
export async function entryOf(imaps: Imaps, directory: number, name: string): Promise<NameOf | undefined> {
  const key = nameKey(EntryKind.entry, directory, name);
  const value = await valueAt(imaps, slotOf(directory), nameKey(EntryKind.entry, directory, name.slice(0, -1)), key);
  return value === undefined ? undefined : { directory, name, key, value };
}

/** `before`: a key before it, with little between. */
async function valueAt(imaps: Imaps, slot: number, before: Buffer, key: Buffer): Promise<Buffer | undefined> {
  for await (const [found, value] of imaps.entries(slot, before, behindKey(key))) if (found.equals(key)) return Buffer.from(value);
  return undefined;
}

/** What an index number has of a kind that has several. */
export async function* kept(imaps: Imaps, kind: EntryKind, ino: number): AsyncGenerator<readonly [Buffer, Buffer]> {
  const prefix = idKey(kind, ino);
  for await (const [key, value] of imaps.entries(slotOf(ino), prefix, behindPrefix(prefix))) yield [Buffer.from(key), Buffer.from(value)];
}
