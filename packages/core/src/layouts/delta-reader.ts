import { asBuffer, readSafe } from "../bytes.ts";
import { DazzleError } from "../errors.ts";
import { encodedInodeBytes, INODE, INODE_FORMAT } from "./inode.ts";
import { DeltaKind } from "./transaction.ts";

/** Goes through encoded deltas (the layout of transaction.ts) without making an object of each: `next` moves on, and the
 * fields below tell of the delta it stands at. Whoever stores values as bytes copies them from `bytes`. */
export class DeltaReader {
  readonly bytes: Buffer;
  /** One of DeltaKind. */
  kind = 0;
  ino = 0;
  /** putEntry, removeEntry, putAttribute, removeAttribute: where the name lies. */
  nameStart = 0;
  nameEnd = 0;
  /** putEntry. */
  child = 0;
  type = 0;
  /** cutExtents. */
  from = 0;
  to = 0;
  /** mergeInode. */
  size = 0;
  mtimeNs = 0n;
  ctimeNs = 0n;
  /** putInode: the index node. putAttribute: the value. putExtents: the rows of 16 bytes. */
  valueStart = 0;
  valueEnd = 0;
  #next = 0;

  constructor(source: Uint8Array) {
    this.bytes = asBuffer(source);
  }

  get name(): string {
    return this.bytes.toString("latin1", this.nameStart, this.nameEnd);
  }

  extentBlock(row: number): number {
    return readSafe(this.bytes, this.valueStart + 16 * row);
  }

  extentOffset(row: number): number {
    return this.bytes.readUInt32LE(this.valueStart + 16 * row + 8);
  }

  extentLength(row: number): number {
    return this.bytes.readUInt32LE(this.valueStart + 16 * row + 12);
  }

  get extentRows(): number {
    return (this.valueEnd - this.valueStart) / 16;
  }

  /** False at the end. Throws `corrupt` where a delta is cut off or of an unknown kind. */
  next(): boolean {
    const { bytes } = this;
    if (this.#next === bytes.length) return false;
    const at = this.#take(9);
    this.kind = bytes.readUInt8(at);
    this.ino = readSafe(bytes, at + 1);
    switch (this.kind) {
      case DeltaKind.putInode:
        this.#need(INODE.end);
        if (bytes.readUInt16LE(this.#next + INODE.format) !== INODE_FORMAT) throw new DazzleError("corrupt", "a delta holds no index node");
        this.#value(encodedInodeBytes(bytes, this.#next));
        break;
      case DeltaKind.mergeInode: {
        const head = this.#take(24);
        this.size = readSafe(bytes, head);
        this.mtimeNs = bytes.readBigInt64LE(head + 8);
        this.ctimeNs = bytes.readBigInt64LE(head + 16);
        break;
      }
      case DeltaKind.removeInode:
        break;
      case DeltaKind.putEntry: {
        const head = this.#take(11);
        this.child = readSafe(bytes, head);
        this.type = bytes.readUInt8(head + 8);
        this.#name(bytes.readUInt16LE(head + 9));
        break;
      }
      case DeltaKind.removeEntry:
      case DeltaKind.removeAttribute:
        this.#name(bytes.readUInt16LE(this.#take(2)));
        break;
      case DeltaKind.putExtents:
        this.#value(16 * bytes.readUInt32LE(this.#take(4)));
        break;
      case DeltaKind.cutExtents: {
        const head = this.#take(16);
        this.from = readSafe(bytes, head);
        this.to = readSafe(bytes, head + 8);
        break;
      }
      case DeltaKind.putAttribute: {
        const head = this.#take(6);
        this.#name(bytes.readUInt16LE(head));
        this.#value(bytes.readUInt32LE(head + 2));
        break;
      }
      default:
        throw new DazzleError("corrupt", `a transaction holds a delta of the unknown kind ${this.kind}`);
    }
    return true;
  }

  #need(length: number): void {
    if (this.#next + length > this.bytes.length) throw new DazzleError("corrupt", "a delta is cut off");
  }

  #take(length: number): number {
    this.#need(length);
    const at = this.#next;
    this.#next += length;
    return at;
  }

  #name(length: number): void {
    this.nameStart = this.#take(length);
    this.nameEnd = this.#next;
  }

  #value(length: number): void {
    this.valueStart = this.#take(length);
    this.valueEnd = this.#next;
  }
}
