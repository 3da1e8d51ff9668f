import { assert, unreachable } from "../assert.ts";
import { asBuffer, readSafe, requireBytes, writeSafe } from "../bytes.ts";
import { DazzleError } from "../errors.ts";
import { type IndexNumber, type Slot, slotOf } from "../ids.ts";
import { decodeInode, encodedInodeBytes, encodeInode, type Inode, inodeBytes } from "./inode.ts";

/** A run of blocks of a file in the transaction's own segment. */
export interface WrittenExtent {
  readonly block: number;
  readonly offset: number;
  readonly length: number;
}

/** A logged change of metadata. All hold absolute values: applying one twice is harmless. */
export type Delta =
  | { readonly kind: "putInode"; readonly ino: IndexNumber; readonly inode: Inode }
  /** By a writer of a part of the file: the larger value of each holds, so that those of several writers commute (rule 20). Blocks that
   * the transaction puts behind it are counted by the shard. */
  | {
      readonly kind: "mergeInode";
      readonly ino: IndexNumber;
      readonly size: number;
      readonly mtimeNs: bigint;
      readonly ctimeNs: bigint;
    }
  | { readonly kind: "removeInode"; readonly ino: IndexNumber }
  | { readonly kind: "putEntry"; readonly ino: IndexNumber; readonly name: string; readonly child: number; readonly type: number }
  | { readonly kind: "removeEntry"; readonly ino: IndexNumber; readonly name: string }
  | { readonly kind: "putExtents"; readonly ino: IndexNumber; readonly extents: readonly WrittenExtent[] }
  /** Drops what the file holds in bytes `from <= byte < to`. `from` may lie in a block only where `to` is the end
   * (FILE_END): the block keeps its first bytes; elsewhere both are multiples of 4 KiB. */
  | { readonly kind: "cutExtents"; readonly ino: IndexNumber; readonly from: number; readonly to: number }
  | { readonly kind: "putAttribute"; readonly ino: IndexNumber; readonly name: string; readonly value: Uint8Array }
  | { readonly kind: "removeAttribute"; readonly ino: IndexNumber; readonly name: string };

export const FILE_END = Number.MAX_SAFE_INTEGER;

/** Numbers on disk; never reused. */
export const DeltaKind = {
  putInode: 1,
  removeInode: 2,
  putEntry: 3,
  removeEntry: 4,
  putExtents: 5,
  cutExtents: 6,
  putAttribute: 7,
  removeAttribute: 8,
  mergeInode: 9,
} as const satisfies Record<Delta["kind"], number>;

/** A transaction is one section for each slot it concerns, ascending; a section is 8 bytes, then its deltas in the order
 * in which they must be applied, little-endian:
 *   0 2 slot   2 2 zero   4 4 bytes of deltas
 * A delta: 0 1 kind   1 8 index number   then, by kind,
 *   putInode         the index node (see inode.ts)
 *   putEntry         0 8 child   8 1 type   9 2 name bytes   11 the name
 *   removeEntry      0 2 name bytes   2 the name
 *   putExtents       0 4 count   4 16 each: 0 8 block   8 4 payload offset   12 4 bytes
 *   cutExtents       0 8 from   8 8 to
 *   putAttribute     0 2 name bytes   2 4 value bytes   6 the name, the value
 *   removeAttribute  0 2 name bytes   2 the name
 *   mergeInode       0 8 size   8 8 mtime   16 8 ctime */
const SECTION_BYTES = 8;
const MERGE_BYTES = 24;

/** Gathers the deltas of a transaction by slot. */
export class TransactionBuilder {
  readonly #sections = new Map<Slot, Delta[]>();
  #bytes = 0;

  add(delta: Delta): void {
    const slot = slotOf(delta.ino);
    let section = this.#sections.get(slot);
    if (section === undefined) {
      section = [];
      this.#sections.set(slot, section);
      this.#bytes += SECTION_BYTES;
    }
    section.push(delta);
    this.#bytes += deltaBytes(delta);
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Writes the transaction at the start of `target`, which has room for `bytes`. */
  encode(target: Uint8Array): void {
    const bytes = asBuffer(target);
    let at = 0;
    for (const slot of [...this.#sections.keys()].sort((a, b) => a - b)) {
      const start = at;
      at += SECTION_BYTES;
      for (const delta of this.#sections.get(slot) as Delta[]) at = encodeDelta(delta, bytes, at);
      bytes.writeUInt16LE(slot, start);
      bytes.writeUInt16LE(0, start + 2);
      bytes.writeUInt32LE(at - start - SECTION_BYTES, start + 4);
    }
    assert(at === this.#bytes, "a transaction is as long as it was counted");
  }
}

export function deltaBytes(delta: Delta): number {
  switch (delta.kind) {
    case "putInode":
      return 9 + inodeBytes(delta.inode);
    case "mergeInode":
      return 9 + MERGE_BYTES;
    case "removeInode":
      return 9;
    case "putEntry":
      return 9 + 11 + delta.name.length;
    case "removeEntry":
    case "removeAttribute":
      return 9 + 2 + delta.name.length;
    case "putExtents":
      return 9 + 4 + 16 * delta.extents.length;
    case "cutExtents":
      return 9 + 16;
    case "putAttribute":
      return 9 + 6 + delta.name.length + delta.value.byteLength;
    default:
      return unreachable(delta);
  }
}

function encodeName(name: string, bytes: Buffer, at: number): number {
  bytes.writeUInt16LE(name.length, at);
  bytes.write(name, at + 2, "latin1");
  return at + 2 + name.length;
}

function encodeDelta(delta: Delta, bytes: Buffer, start: number): number {
  bytes.writeUInt8(DeltaKind[delta.kind], start);
  writeSafe(bytes, delta.ino, start + 1);
  let at = start + 9;
  switch (delta.kind) {
    case "putInode":
      return encodeInode(delta.inode, bytes, at);
    case "mergeInode":
      writeSafe(bytes, delta.size, at);
      bytes.writeBigInt64LE(delta.mtimeNs, at + 8);
      bytes.writeBigInt64LE(delta.ctimeNs, at + 16);
      return at + MERGE_BYTES;
    case "removeInode":
      return at;
    case "putEntry":
      writeSafe(bytes, delta.child, at);
      bytes.writeUInt8(delta.type, at + 8);
      return encodeName(delta.name, bytes, at + 9);
    case "removeEntry":
    case "removeAttribute":
      return encodeName(delta.name, bytes, at);
    case "putExtents":
      bytes.writeUInt32LE(delta.extents.length, at);
      at += 4;
      for (const extent of delta.extents) {
        writeSafe(bytes, extent.block, at);
        bytes.writeUInt32LE(extent.offset, at + 8);
        bytes.writeUInt32LE(extent.length, at + 12);
        at += 16;
      }
      return at;
    case "cutExtents":
      writeSafe(bytes, delta.from, at);
      writeSafe(bytes, delta.to, at + 8);
      return at + 16;
    case "putAttribute":
      bytes.writeUInt16LE(delta.name.length, at);
      bytes.writeUInt32LE(delta.value.byteLength, at + 2);
      bytes.write(delta.name, at + 6, "latin1");
      bytes.set(delta.value, at + 6 + delta.name.length);
      return at + 6 + delta.name.length + delta.value.byteLength;
    default:
      return unreachable(delta);
  }
}

export interface Section {
  readonly slot: Slot;
  /** The encoded deltas, for `decodeDeltas`. */
  readonly bytes: Buffer;
  /** The section with its head, as it may be logged again. */
  readonly whole: Buffer;
}

export function* decodeSections(source: Uint8Array): Generator<Section> {
  const bytes = asBuffer(source);
  let at = 0;
  while (at < bytes.length) {
    requireBytes(bytes, at + SECTION_BYTES, "a transaction");
    const end = at + SECTION_BYTES + bytes.readUInt32LE(at + 4);
    requireBytes(bytes, end, "a transaction");
    yield { slot: bytes.readUInt16LE(at) as Slot, bytes: bytes.subarray(at + SECTION_BYTES, end), whole: bytes.subarray(at, end) };
    at = end;
  }
}

/** Decoded values alias `source` (attribute values). */
export function* decodeDeltas(source: Uint8Array): Generator<Delta> {
  const bytes = asBuffer(source);
  let at = 0;
  const need = (end: number) => requireBytes(bytes, end, "a delta");
  const name = (length: number, offset: number) => {
    need(offset + length);
    return bytes.toString("latin1", offset, offset + length);
  };
  while (at < bytes.length) {
    need(at + 9);
    const kind = bytes.readUInt8(at);
    const ino = readSafe(bytes, at + 1) as IndexNumber;
    at += 9;
    switch (kind) {
      case DeltaKind.putInode:
        yield { kind: "putInode", ino, inode: decodeInode(bytes, at) };
        at += encodedInodeBytes(bytes, at);
        break;
      case DeltaKind.mergeInode:
        need(at + MERGE_BYTES);
        yield {
          kind: "mergeInode",
          ino,
          size: readSafe(bytes, at),
          mtimeNs: bytes.readBigInt64LE(at + 8),
          ctimeNs: bytes.readBigInt64LE(at + 16),
        };
        at += MERGE_BYTES;
        break;
      case DeltaKind.removeInode:
        yield { kind: "removeInode", ino };
        break;
      case DeltaKind.putEntry: {
        need(at + 11);
        const length = bytes.readUInt16LE(at + 9);
        yield { kind: "putEntry", ino, child: readSafe(bytes, at), type: bytes.readUInt8(at + 8), name: name(length, at + 11) };
        at += 11 + length;
        break;
      }
      case DeltaKind.removeEntry:
      case DeltaKind.removeAttribute: {
        need(at + 2);
        const length = bytes.readUInt16LE(at);
        yield { kind: kind === DeltaKind.removeEntry ? "removeEntry" : "removeAttribute", ino, name: name(length, at + 2) };
        at += 2 + length;
        break;
      }
      case DeltaKind.putExtents: {
        need(at + 4);
        const count = bytes.readUInt32LE(at);
        at += 4;
        need(at + 16 * count);
        const extents: WrittenExtent[] = [];
        for (let i = 0; i < count; i++, at += 16) {
          extents.push({ block: readSafe(bytes, at), offset: bytes.readUInt32LE(at + 8), length: bytes.readUInt32LE(at + 12) });
        }
        yield { kind: "putExtents", ino, extents };
        break;
      }
      case DeltaKind.cutExtents:
        need(at + 16);
        yield { kind: "cutExtents", ino, from: readSafe(bytes, at), to: readSafe(bytes, at + 8) };
        at += 16;
        break;
      case DeltaKind.putAttribute: {
        need(at + 6);
        const nameBytes = bytes.readUInt16LE(at);
        const valueBytes = bytes.readUInt32LE(at + 2);
        const valueAt = at + 6 + nameBytes;
        need(valueAt + valueBytes);
        yield { kind: "putAttribute", ino, name: name(nameBytes, at + 6), value: bytes.subarray(valueAt, valueAt + valueBytes) };
        at = valueAt + valueBytes;
        break;
      }
      default:
        throw new DazzleError("corrupt", `a transaction holds a delta of the unknown kind ${kind}`);
    }
  }
}
