import { assert } from "@dazzle/core";

/** What an entry of the imap is. Numbers on disk; never reused. */
export const EntryKind = { inode: 1, entry: 2, extents: 3, attribute: 4, live: 5, orphan: 6, condemned: 7 } as const;
export type EntryKind = (typeof EntryKind)[keyof typeof EntryKind];

/** A key, big-endian so that keys compare as bytes: 0 1 kind   1 8 id   then, by kind:
 *   inode      id is the index number
 *   entry      id is the directory, then the name's bytes
 *   extents    id is the file, then 8 region
 *   attribute  id is the index number, then the name's bytes
 *   live       id is a log, then 8 sequence
 *   orphan     id is the index number
 *   condemned  id is the index number: removed, but some of its extents are still to be dropped */
export const KEY = { kind: 0, id: 1, rest: 9 } as const;

/** Before every key. */
export const FIRST_KEY = Buffer.alloc(0);
/** Behind every key. */
export const KEYS_END = Buffer.of(255);

/** Safe integers in 8 bytes, high half first, so that they sort. */
export function writeOrdered(buffer: Buffer, value: number, offset: number): void {
  buffer.writeUInt32BE(Math.floor(value / 2 ** 32), offset);
  buffer.writeUInt32BE(value % 2 ** 32, offset + 4);
}

export function readOrdered(buffer: Buffer, offset: number): number {
  return buffer.readUInt32BE(offset) * 2 ** 32 + buffer.readUInt32BE(offset + 4);
}

/** The key of a kind that has nothing behind the id, and what all keys of the id start with. */
export function idKey(kind: EntryKind, id: number): Buffer {
  const key = Buffer.allocUnsafe(KEY.rest);
  key.writeUInt8(kind, KEY.kind);
  writeOrdered(key, id, KEY.id);
  return key;
}

export function nameKey(kind: EntryKind, id: number, name: string): Buffer {
  const key = Buffer.allocUnsafe(KEY.rest + name.length);
  key.writeUInt8(kind, KEY.kind);
  writeOrdered(key, id, KEY.id);
  key.write(name, KEY.rest, "latin1");
  return key;
}

export function numberKey(kind: EntryKind, id: number, number: number): Buffer {
  const key = Buffer.allocUnsafe(KEY.rest + 8);
  key.writeUInt8(kind, KEY.kind);
  writeOrdered(key, id, KEY.id);
  writeOrdered(key, number, KEY.rest);
  return key;
}

/** The first key behind all that start with `prefix`. */
export function behindPrefix(prefix: Buffer): Buffer {
  const key = Buffer.from(prefix);
  for (let at = key.length - 1; at >= 0; at--) {
    const byte = key[at] as number;
    if (byte < 255) {
      key[at] = byte + 1;
      return key.subarray(0, at + 1);
    }
  }
  assert(false, "a prefix starts with a kind, which is below 255");
}

/** The first key behind `key`. */
export function behindKey(key: Buffer): Buffer {
  return Buffer.concat([key, Buffer.of(0)]);
}

export function keyName(key: Buffer): string {
  return key.toString("latin1", KEY.rest);
}

export function keyNumber(key: Buffer): number {
  return readOrdered(key, KEY.rest);
}

export function keyId(key: Buffer): number {
  return readOrdered(key, KEY.id);
}

/** The part of a key that filters hold: a file's extents and attributes are asked for together, so the id stands for them all. */
export function filterLength(key: Buffer): number {
  const kind = key[KEY.kind];
  return kind === EntryKind.extents || kind === EntryKind.attribute ? KEY.rest : key.length;
}
