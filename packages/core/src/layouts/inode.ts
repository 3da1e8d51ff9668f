import { asBuffer, readSafe, requireBytes, writeSafe } from "../bytes.ts";
import { DazzleError } from "../errors.ts";

/** A file's index node, as logged, shipped and stored. Times are nanoseconds since 1970. */
export interface Inode {
  readonly ino: number;
  /** File type and permissions, as in `st_mode`. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  /** Blocks of 4 KiB that hold data. */
  readonly allocatedBlocks: number;
  /** The directory that holds it; of a file with several links, one of them. */
  readonly parent: number;
  /** Raised by every truncation (rule 20). */
  readonly truncateEpoch: number;
  /** It never had an extended attribute, so that nobody need ask for any. */
  readonly noAttributes: boolean;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
  readonly birthNs: bigint;
  /** A symbolic link's target, latin1; empty for everything else. */
  readonly target: string;
}

/** Index node, 104 bytes, little-endian, then a symbolic link's target.
 *   0 2 format   2 2 target bytes   4 4 mode   8 8 index number   16 4 links   20 4 uid   24 4 gid   28 4 rdev
 *  32 8 size    40 8 allocated blocks   48 8 parent   56 4 truncate epoch   60 1 no attributes   61 3 zero
 *  64 8 atime   72 8 mtime   80 8 ctime   88 8 birth   96 8 zero */
export const INODE = {
  format: 0,
  targetBytes: 2,
  mode: 4,
  ino: 8,
  nlink: 16,
  uid: 20,
  gid: 24,
  rdev: 28,
  size: 32,
  allocatedBlocks: 40,
  parent: 48,
  truncateEpoch: 56,
  noAttributes: 60,
  atime: 64,
  mtime: 72,
  ctime: 80,
  birth: 88,
  end: 104,
} as const;
export const INODE_FORMAT = 1;

export function inodeBytes(inode: Inode): number {
  return INODE.end + inode.target.length;
}

/** Writes `inode` at `offset`; answers the offset behind it. */
export function encodeInode(inode: Inode, bytes: Buffer, offset: number): number {
  bytes.writeUInt16LE(INODE_FORMAT, offset + INODE.format);
  bytes.writeUInt16LE(inode.target.length, offset + INODE.targetBytes);
  bytes.writeUInt32LE(inode.mode, offset + INODE.mode);
  writeSafe(bytes, inode.ino, offset + INODE.ino);
  bytes.writeUInt32LE(inode.nlink, offset + INODE.nlink);
  bytes.writeUInt32LE(inode.uid, offset + INODE.uid);
  bytes.writeUInt32LE(inode.gid, offset + INODE.gid);
  bytes.writeUInt32LE(inode.rdev, offset + INODE.rdev);
  writeSafe(bytes, inode.size, offset + INODE.size);
  writeSafe(bytes, inode.allocatedBlocks, offset + INODE.allocatedBlocks);
  writeSafe(bytes, inode.parent, offset + INODE.parent);
  bytes.writeUInt32LE(inode.truncateEpoch, offset + INODE.truncateEpoch);
  bytes.writeUInt32LE(inode.noAttributes ? 1 : 0, offset + INODE.noAttributes);
  bytes.writeBigInt64LE(inode.atimeNs, offset + INODE.atime);
  bytes.writeBigInt64LE(inode.mtimeNs, offset + INODE.mtime);
  bytes.writeBigInt64LE(inode.ctimeNs, offset + INODE.ctime);
  bytes.writeBigInt64LE(inode.birthNs, offset + INODE.birth);
  bytes.writeBigInt64LE(0n, offset + 96);
  bytes.write(inode.target, offset + INODE.end, "latin1");
  return offset + INODE.end + inode.target.length;
}

export function packInode(inode: Inode): Buffer {
  const bytes = Buffer.allocUnsafe(inodeBytes(inode));
  encodeInode(inode, bytes, 0);
  return bytes;
}

/** The index node with what a writer of a part of the file made of it: the larger value of each holds. */
export function mergedInode(inode: Inode, written: Pick<Inode, "size" | "allocatedBlocks" | "mtimeNs" | "ctimeNs">): Inode {
  return {
    ...inode,
    size: Math.max(inode.size, written.size),
    allocatedBlocks: Math.max(inode.allocatedBlocks, written.allocatedBlocks),
    mtimeNs: written.mtimeNs > inode.mtimeNs ? written.mtimeNs : inode.mtimeNs,
    ctimeNs: written.ctimeNs > inode.ctimeNs ? written.ctimeNs : inode.ctimeNs,
  };
}

/** How long the index node at `offset` is. */
export function encodedInodeBytes(bytes: Buffer, offset: number): number {
  return INODE.end + bytes.readUInt16LE(offset + INODE.targetBytes);
}

/** Index nodes, one behind the other. */
export function unpackInodes(source: Uint8Array): Inode[] {
  const bytes = asBuffer(source);
  const inodes: Inode[] = [];
  for (let at = 0; at < bytes.length; at += encodedInodeBytes(bytes, at)) inodes.push(decodeInode(bytes, at));
  return inodes;
}

export function decodeInode(source: Uint8Array, offset = 0): Inode {
  const bytes = asBuffer(source);
  if (bytes.length < offset + INODE.end || bytes.readUInt16LE(offset + INODE.format) !== INODE_FORMAT)
    throw new DazzleError("corrupt", "no index node");
  requireBytes(bytes, offset + encodedInodeBytes(bytes, offset), "an index node");
  return {
    mode: bytes.readUInt32LE(offset + INODE.mode),
    ino: readSafe(bytes, offset + INODE.ino),
    nlink: bytes.readUInt32LE(offset + INODE.nlink),
    uid: bytes.readUInt32LE(offset + INODE.uid),
    gid: bytes.readUInt32LE(offset + INODE.gid),
    rdev: bytes.readUInt32LE(offset + INODE.rdev),
    size: readSafe(bytes, offset + INODE.size),
    allocatedBlocks: readSafe(bytes, offset + INODE.allocatedBlocks),
    parent: readSafe(bytes, offset + INODE.parent),
    truncateEpoch: bytes.readUInt32LE(offset + INODE.truncateEpoch),
    noAttributes: bytes.readUInt8(offset + INODE.noAttributes) === 1,
    atimeNs: bytes.readBigInt64LE(offset + INODE.atime),
    mtimeNs: bytes.readBigInt64LE(offset + INODE.mtime),
    ctimeNs: bytes.readBigInt64LE(offset + INODE.ctime),
    birthNs: bytes.readBigInt64LE(offset + INODE.birth),
    target: bytes.toString("latin1", offset + INODE.end, offset + encodedInodeBytes(bytes, offset)),
  };
}
