import { asBuffer, readSafe, requireBytes, writeSafe } from "../bytes.ts";
import { decodeInode, encodedInodeBytes, encodeInode, type Inode, inodeBytes } from "./inode.ts";

/** A directory entry as a manager answers it, with the child's index node where it is of the same shard's manager. */
export interface ListedEntry {
  readonly name: string;
  readonly child: number;
  /** `mode >> 12`. */
  readonly type: number;
  readonly inode: Inode | undefined;
}

/** Entries, one after the other: 0 8 child   8 1 type   9 1 an index node follows the name   10 2 name bytes   12 the name, the index node. */
export function packEntries(entries: readonly ListedEntry[]): Buffer {
  let length = 0;
  for (const entry of entries) length += 12 + entry.name.length + (entry.inode === undefined ? 0 : inodeBytes(entry.inode));
  const bytes = Buffer.allocUnsafe(length);
  let at = 0;
  for (const entry of entries) {
    writeSafe(bytes, entry.child, at);
    bytes.writeUInt8(entry.type, at + 8);
    bytes.writeUInt8(entry.inode === undefined ? 0 : 1, at + 9);
    bytes.writeUInt16LE(entry.name.length, at + 10);
    bytes.write(entry.name, at + 12, "latin1");
    at += 12 + entry.name.length;
    if (entry.inode !== undefined) at = encodeInode(entry.inode, bytes, at);
  }
  return bytes;
}

export function unpackEntries(source: Uint8Array): ListedEntry[] {
  const bytes = asBuffer(source);
  const entries: ListedEntry[] = [];
  let at = 0;
  while (at < bytes.length) {
    requireBytes(bytes, at + 12, "a directory entry");
    const nameBytes = bytes.readUInt16LE(at + 10);
    const inodeAt = at + 12 + nameBytes;
    requireBytes(bytes, inodeAt, "a directory entry");
    const hasInode = bytes.readUInt8(at + 9) === 1;
    entries.push({
      child: readSafe(bytes, at),
      type: bytes.readUInt8(at + 8),
      name: bytes.toString("latin1", at + 12, inodeAt),
      inode: hasInode ? decodeInode(bytes, inodeAt) : undefined,
    });
    at = inodeAt + (hasInode ? encodedInodeBytes(bytes, inodeAt) : 0);
  }
  return entries;
}

/** Extended attributes, one after the other: 0 2 name bytes   2 4 value bytes   6 the name, the value. */
export function packAttributes(attributes: Iterable<readonly [string, Uint8Array]>): Buffer {
  const pieces: Uint8Array[] = [];
  for (const [name, value] of attributes) {
    const head = Buffer.allocUnsafe(6 + name.length);
    head.writeUInt16LE(name.length, 0);
    head.writeUInt32LE(value.byteLength, 2);
    head.write(name, 6, "latin1");
    pieces.push(head, value);
  }
  return Buffer.concat(pieces);
}

export function unpackAttributes(source: Uint8Array): Map<string, Uint8Array> {
  const bytes = asBuffer(source);
  const attributes = new Map<string, Uint8Array>();
  let at = 0;
  while (at < bytes.length) {
    requireBytes(bytes, at + 6, "an extended attribute");
    const nameBytes = bytes.readUInt16LE(at);
    const valueAt = at + 6 + nameBytes;
    const end = valueAt + bytes.readUInt32LE(at + 2);
    requireBytes(bytes, end, "an extended attribute");
    attributes.set(bytes.toString("latin1", at + 6, valueAt), Uint8Array.prototype.slice.call(bytes, valueAt, end));
    at = end;
  }
  return attributes;
}
