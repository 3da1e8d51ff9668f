import {
  type Attributes,
  assert,
  type DirectoryEntry,
  type Entry,
  type FileSystemStatistics,
  type LockRange,
  type OpenFile,
} from "@dazzle/core";
import {
  ATTRIBUTES,
  ATTRIBUTES_REPLY,
  DIRECTORY_ENTRY,
  ENTRY,
  LOCK_REPLY,
  LockType,
  OPEN_REPLY,
  OpenReplyFlag,
  REPLY_HEADER,
  STATISTICS,
  WRITE_BYTES_MAX,
} from "./protocol.ts";

const TWO_TO_32 = 4294967296;
const NS_PER_SECOND = 1_000_000_000;
/** What `st_blksize` says: the standard libraries make a buffer of this size for every open file, so not a megabyte. */
const PREFERRED_IO_BYTES = 4096;
/** A validity longer than this is this: the kernel adds it to its clock. */
const VALID_MS_MAX = 1e12;
const VALIDITY_UNIT_NS = 1_000_000;

/** The largest answer built here is a directory's; data of files goes out from where it is. */
export const REPLY_BUFFER_BYTES = WRITE_BYTES_MAX + 64 * 1024;

const BODY = REPLY_HEADER.end;

/** The one empty tail, to compare with. */
export const NO_TAIL: readonly Uint8Array[] = [];

/** Builds one answer after the other in one buffer. `length` is what is to be sent of it. */
export class ReplyBuffer {
  readonly bytes: Buffer = Buffer.alloc(REPLY_BUFFER_BYTES);
  length = 0;
  /** What goes out after the bytes built here, from where it lies; set by `data`, taken by `finish`. */
  tail: readonly Uint8Array[] = NO_TAIL;
  #tailBytes = 0;
  readonly #view = new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);

  /** Completes the header for a body of `bodyBytes` in this buffer and the tail. */
  finish(uniqueLow: number, uniqueHigh: number, bodyBytes: number): void {
    this.length = BODY + bodyBytes;
    this.#header(this.length + this.#tailBytes, 0, uniqueLow, uniqueHigh);
    this.#tailBytes = 0;
  }

  /** An answer without a body: success (0) or an errno. */
  status(uniqueLow: number, uniqueHigh: number, errno: number): void {
    this.length = BODY;
    this.tail = NO_TAIL;
    this.#tailBytes = 0;
    this.#header(BODY, -errno, uniqueLow, uniqueHigh);
  }

  /** The answer is these pieces, `bytes` together; they aren't copied. */
  data(pieces: readonly Uint8Array[], bytes: number): number {
    this.tail = bytes === 0 ? NO_TAIL : pieces;
    this.#tailBytes = bytes;
    return 0;
  }

  /** Each of the following writes a body and returns its length. */
  entry(entry: Entry): number {
    this.#entry(BODY, entry);
    return ENTRY.end;
  }

  created(entry: Entry, file: OpenFile): number {
    this.#entry(BODY, entry);
    this.#open(BODY + ENTRY.end, file.handle, openFlags(file));
    return ENTRY.end + OPEN_REPLY.end;
  }

  attributes(entry: Entry): number {
    const view = this.#view;
    const valid = clampValidity(entry.attributesValidMs);
    this.#uint64(BODY + ATTRIBUTES_REPLY.seconds, Math.floor(valid / 1000));
    view.setUint32(BODY + ATTRIBUTES_REPLY.nanoseconds, Math.floor((valid % 1000) * VALIDITY_UNIT_NS), true);
    view.setUint32(BODY + ATTRIBUTES_REPLY.zero, 0, true);
    this.#attributes(BODY + ATTRIBUTES_REPLY.attributes, entry.attributes);
    return ATTRIBUTES_REPLY.end;
  }

  opened(file: OpenFile): number {
    this.#open(BODY, file.handle, openFlags(file));
    return OPEN_REPLY.end;
  }

  openedDirectory(handle: number): number {
    this.#open(BODY, handle, 0);
    return OPEN_REPLY.end;
  }

  /** A count of bytes and four of padding: what write and the sizes of extended attributes answer. */
  count(count: number): number {
    this.#view.setUint32(BODY, count, true);
    this.#view.setUint32(BODY + 4, 0, true);
    return 8;
  }

  offset(offset: number): number {
    this.#uint64(BODY, offset);
    return 8;
  }

  statistics(statistics: FileSystemStatistics): number {
    const view = this.#view;
    this.#uint64(BODY + STATISTICS.blocks, statistics.blocks);
    this.#uint64(BODY + STATISTICS.freeBlocks, statistics.freeBlocks);
    this.#uint64(BODY + STATISTICS.availableBlocks, statistics.availableBlocks);
    this.#uint64(BODY + STATISTICS.files, statistics.files);
    this.#uint64(BODY + STATISTICS.freeFiles, statistics.freeFiles);
    view.setUint32(BODY + STATISTICS.ioBytes, statistics.blockBytes, true);
    view.setUint32(BODY + STATISTICS.nameBytes, statistics.nameBytesMax, true);
    view.setUint32(BODY + STATISTICS.blockBytes, statistics.blockBytes, true);
    this.bytes.fill(0, BODY + STATISTICS.zero, BODY + STATISTICS.end);
    return STATISTICS.end;
  }

  lock(range: LockRange): number {
    const view = this.#view;
    this.#uint64(BODY + LOCK_REPLY.start, range.start);
    if (range.end >= Number.MAX_SAFE_INTEGER) view.setBigInt64(BODY + LOCK_REPLY.end, 0x7fffffffffffffffn, true);
    else this.#uint64(BODY + LOCK_REPLY.end, range.end);
    view.setUint32(BODY + LOCK_REPLY.type, LockType[range.type], true);
    view.setUint32(BODY + LOCK_REPLY.pid, range.pid, true);
    return LOCK_REPLY.size;
  }

  /** A zeroed body that the caller lays out. */
  bodyView(bytes: number): DataView {
    this.bytes.fill(0, BODY, BODY + bytes);
    return new DataView(this.bytes.buffer, this.bytes.byteOffset + BODY, bytes);
  }

  /** Appends an entry to the `used` bytes of a directory's answer. Returns what is used then, or -1 where it exceeds `limit`. */
  directoryEntry(used: number, limit: number, row: DirectoryEntry, plus: boolean): number {
    const view = this.#view;
    const nameBytes = row.name.length;
    const dirent = used + (plus ? ENTRY.end : 0);
    const end = (dirent + DIRECTORY_ENTRY.name + nameBytes + 7) & ~7;
    if (end > limit) return -1;
    if (plus) {
      // ino 0: the kernel takes the name and the number, and looks it up when it is used.
      if (row.entry === undefined) this.bytes.fill(0, BODY + used, BODY + used + ENTRY.end);
      else this.#entry(BODY + used, row.entry);
    }
    const at = BODY + dirent;
    this.#uint64(at + DIRECTORY_ENTRY.ino, row.ino);
    this.#uint64(at + DIRECTORY_ENTRY.cookie, row.cookie);
    view.setUint32(at + DIRECTORY_ENTRY.nameBytes, nameBytes, true);
    view.setUint32(at + DIRECTORY_ENTRY.type, row.type, true);
    // The padding first: the last 8 bytes, then the name over what of them is its own.
    this.#uint64(BODY + end - 8, 0);
    this.bytes.write(row.name, at + DIRECTORY_ENTRY.name, nameBytes, "latin1");
    return end;
  }

  #header(length: number, error: number, uniqueLow: number, uniqueHigh: number): void {
    const view = this.#view;
    view.setUint32(REPLY_HEADER.length, length, true);
    view.setInt32(REPLY_HEADER.error, error, true);
    view.setUint32(REPLY_HEADER.unique, uniqueLow, true);
    view.setUint32(REPLY_HEADER.unique + 4, uniqueHigh, true);
  }

  #uint64(at: number, value: number): void {
    this.#view.setUint32(at, value, true);
    this.#view.setUint32(at + 4, Math.floor(value / TWO_TO_32), true);
  }

  #open(at: number, handle: number, flags: number): void {
    this.#uint64(at + OPEN_REPLY.handle, handle);
    this.#view.setUint32(at + OPEN_REPLY.flags, flags, true);
    this.#view.setUint32(at + OPEN_REPLY.zero, 0, true);
  }

  #entry(at: number, entry: Entry): void {
    const view = this.#view;
    const nameMs = clampValidity(entry.nameValidMs);
    const attributesMs = clampValidity(entry.attributesValidMs);
    this.#uint64(at + ENTRY.ino, entry.attributes.ino);
    this.#uint64(at + ENTRY.generation, 0);
    this.#uint64(at + ENTRY.nameSeconds, Math.floor(nameMs / 1000));
    this.#uint64(at + ENTRY.attributesSeconds, Math.floor(attributesMs / 1000));
    view.setUint32(at + ENTRY.nameNanoseconds, Math.floor((nameMs % 1000) * VALIDITY_UNIT_NS), true);
    view.setUint32(at + ENTRY.attributesNanoseconds, Math.floor((attributesMs % 1000) * VALIDITY_UNIT_NS), true);
    this.#attributes(at + ENTRY.attributes, entry.attributes);
  }

  #attributes(at: number, attributes: Attributes): void {
    const view = this.#view;
    this.#uint64(at + ATTRIBUTES.ino, attributes.ino);
    this.#uint64(at + ATTRIBUTES.size, attributes.size);
    this.#uint64(at + ATTRIBUTES.blocks, attributes.blocks);
    this.#time(at + ATTRIBUTES.atimeSeconds, at + ATTRIBUTES.atimeNanoseconds, attributes.atimeNs);
    this.#time(at + ATTRIBUTES.mtimeSeconds, at + ATTRIBUTES.mtimeNanoseconds, attributes.mtimeNs);
    this.#time(at + ATTRIBUTES.ctimeSeconds, at + ATTRIBUTES.ctimeNanoseconds, attributes.ctimeNs);
    view.setUint32(at + ATTRIBUTES.mode, attributes.mode, true);
    view.setUint32(at + ATTRIBUTES.nlink, attributes.nlink, true);
    view.setUint32(at + ATTRIBUTES.uid, attributes.uid, true);
    view.setUint32(at + ATTRIBUTES.gid, attributes.gid, true);
    view.setUint32(at + ATTRIBUTES.rdev, attributes.rdev, true);
    view.setUint32(at + ATTRIBUTES.blockBytes, PREFERRED_IO_BYTES, true);
    view.setUint32(at + ATTRIBUTES.flags, 0, true);
  }

  /**
   * Splits nanoseconds without dividing big integers (which allocates twice a time, six times an answer): the seconds come from
   * floating point and may be one off next to a whole second; the low 32 bits then say exactly what is left.
   */
  #time(secondsAt: number, nanosecondsAt: number, ns: bigint): void {
    const view = this.#view;
    view.setBigInt64(secondsAt, ns, true);
    const low = view.getUint32(secondsAt, true);
    let seconds = Math.floor(Number(ns) / NS_PER_SECOND);
    let nanoseconds = (low - Math.imul(seconds, NS_PER_SECOND)) >>> 0;
    if (nanoseconds >= TWO_TO_32 / 2) {
      seconds -= 1;
      nanoseconds = (nanoseconds + NS_PER_SECOND) >>> 0;
    } else if (nanoseconds >= NS_PER_SECOND) {
      seconds += 1;
      nanoseconds -= NS_PER_SECOND;
    }
    view.setUint32(secondsAt, seconds, true);
    view.setInt32(secondsAt + 4, Math.floor(seconds / TWO_TO_32), true);
    view.setUint32(nanosecondsAt, nanoseconds, true);
  }
}

function openFlags(file: OpenFile): number {
  return (file.keepCache ? OpenReplyFlag.keepCache : 0) | (file.directIo ? OpenReplyFlag.directIo : 0);
}

/** Not a number becomes 0: what is not known to be valid is not valid. */
function clampValidity(ms: number): number {
  return ms > 0 ? Math.min(ms, VALID_MS_MAX) : 0;
}

assert(ENTRY.end === ENTRY.attributes + ATTRIBUTES.end, "an entry ends with its attributes");
assert(ATTRIBUTES_REPLY.end === ATTRIBUTES_REPLY.attributes + ATTRIBUTES.end, "an answer of attributes ends with them");
