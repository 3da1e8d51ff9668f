/**
 * The filesystem as the kernel side sees it: what `packages/fuse` calls and `packages/client` implements.
 * Objects are named by index number; names are bytes as the kernel sent them, decoded as latin1 so that any byte
 * string survives (one character a byte).
 *
 * Every operation may answer at once or later: what is cached is returned without a promise, so that the engine
 * replies in the same turn of the event loop. Failures are `DazzleError`s, thrown or rejected; the engine sends
 * their errno.
 */
export type Answer<T> = T | Promise<T>;

/** Who asks: the calling process's ids, as the kernel tells them. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  /** Aborted when the kernel interrupts the request (FUSE_INTERRUPT). */
  readonly signal?: AbortSignal;
}

export interface Attributes {
  readonly ino: number;
  /** File type and permissions, as in `st_mode`. */
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  /** Allocated space in 512-byte units. */
  readonly blocks: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** An answer the kernel may keep for so long; 0 means it may not. */
export interface Entry {
  readonly attributes: Attributes;
  readonly attributesValidMs: number;
  readonly nameValidMs: number;
}

export interface DirectoryEntry {
  readonly name: string;
  readonly ino: number;
  /** `mode >> 12`, as in `d_type`. */
  readonly type: number;
  /** Where the next call goes on: a stable cookie, greater than 0. */
  readonly cookie: number;
  /** Present when asked with attributes; counts as one lookup of `ino`. */
  readonly entry?: Entry;
}

export interface AttributeChanges {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  readonly atimeNs?: bigint | "now";
  readonly mtimeNs?: bigint | "now";
  readonly ctimeNs?: bigint;
  /** Drop the set-user-id and set-group-id bits (FUSE_HANDLE_KILLPRIV_V2). */
  readonly killPrivileges?: boolean;
}

export interface OpenFile {
  readonly handle: number;
  /** The kernel may keep the pages it has of this file. */
  readonly keepCache: boolean;
  /** No page cache for this handle (O_APPEND, see docs/consistency.md). */
  readonly directIo: boolean;
}

export interface FileSystemStatistics {
  readonly blockBytes: number;
  readonly blocks: number;
  readonly freeBlocks: number;
  /** Of the free ones, those that files may take: the rest is kept for what must never fail. */
  readonly availableBlocks: number;
  readonly files: number;
  readonly freeFiles: number;
  readonly nameBytesMax: number;
}

export interface LockRange {
  readonly start: number;
  /** Inclusive; `Number.MAX_SAFE_INTEGER` stands for the end of the file. */
  readonly end: number;
  readonly type: "read" | "write" | "unlock";
  readonly pid: number;
}

/** What the filesystem tells the kernel unasked. Handed to the filesystem at `start`. Each call may wait for the
 * kernel as long as it likes: it runs on a thread of its own and resolves when the kernel has taken it. */
export interface KernelNotifier {
  /** Drops cached attributes and, from `offset` for `length` bytes (0: to the end), cached pages; `length` -1: attributes alone. Answers
   * whether the kernel knows the index number: it soon may, where an answer that tells of it is on its way. */
  invalidateInode(ino: number, offset: number, length: number): Promise<boolean>;
  /** Drops a cached name, positive or negative. */
  invalidateEntry(parent: number, name: string): Promise<void>;
  /** Whether the kernel (6.16 and newer) can `incrementEpoch`. */
  readonly hasEpoch: boolean;
  /** Has every name that is cached, positive or negative, looked up anew when it is next used. Takes no lock, so it never waits for a
   * request. */
  incrementEpoch(): Promise<void>;
}

export interface FileSystem {
  /** Called once, before the first request. */
  start(notifier: KernelNotifier): void;
  /** Takes one reference of the returned index number; `forget` gives references back. A miss throws `notFound`, or
   * answers with `ino` 0 in the attributes when the kernel may cache the absence for `nameValidMs`. */
  lookup(caller: Caller, parent: number, name: string): Answer<Entry>;
  forget(ino: number, references: number): void;
  getAttributes(caller: Caller, ino: number, handle: number | undefined): Answer<Entry>;
  setAttributes(caller: Caller, ino: number, changes: AttributeChanges, handle: number | undefined): Answer<Entry>;
  readLink(caller: Caller, ino: number): Answer<string>;
  makeNode(caller: Caller, parent: number, name: string, mode: number, rdev: number): Answer<Entry>;
  makeDirectory(caller: Caller, parent: number, name: string, mode: number): Answer<Entry>;
  symlink(caller: Caller, parent: number, name: string, target: string): Answer<Entry>;
  link(caller: Caller, ino: number, parent: number, name: string): Answer<Entry>;
  unlink(caller: Caller, parent: number, name: string): Answer<void>;
  removeDirectory(caller: Caller, parent: number, name: string): Answer<void>;
  /** `flags` are those of renameat2: RENAME_NOREPLACE 1, RENAME_EXCHANGE 2. */
  rename(caller: Caller, parent: number, name: string, newParent: number, newName: string, flags: number): Answer<void>;
  /** `flags` are those of open(2). O_TRUNC arrives here (ATOMIC_O_TRUNC is negotiated). */
  open(caller: Caller, ino: number, flags: number): Answer<OpenFile>;
  create(caller: Caller, parent: number, name: string, mode: number, flags: number): Answer<{ entry: Entry; file: OpenFile }>;
  /** Answers pieces that together are at most `length` bytes (fewer only at the end of the file). The pieces stay
   * unchanged until the engine has written them, which it does before it returns to the event loop. */
  read(caller: Caller, ino: number, handle: number, offset: number, length: number): Answer<readonly Uint8Array[]>;
  /** `data` is only valid until this returns or, for a promise, until it resolves. Answers the bytes written. */
  write(caller: Caller, ino: number, handle: number, offset: number, data: Uint8Array, flags: WriteFlags): Answer<number>;
  /** On every close(2) of a descriptor. */
  flush(caller: Caller, ino: number, handle: number, lockOwner: bigint): Answer<void>;
  release(ino: number, handle: number, flockOwner: bigint | undefined): Answer<void>;
  fsync(caller: Caller, ino: number, handle: number | undefined, dataOnly: boolean): Answer<void>;
  openDirectory(caller: Caller, ino: number): Answer<number>;
  /** Entries after `cookie` (0: from the start), at most about `limit` of them; empty at the end. */
  readDirectory(
    caller: Caller,
    ino: number,
    handle: number,
    cookie: number,
    limit: number,
    withAttributes: boolean,
  ): Answer<readonly DirectoryEntry[]>;
  releaseDirectory(ino: number, handle: number): void;
  fsyncDirectory(caller: Caller, ino: number, dataOnly: boolean): Answer<void>;
  statistics(caller: Caller): Answer<FileSystemStatistics>;
  setExtendedAttribute(caller: Caller, ino: number, name: string, value: Uint8Array, flags: number): Answer<void>;
  getExtendedAttribute(caller: Caller, ino: number, name: string): Answer<Uint8Array>;
  listExtendedAttributes(caller: Caller, ino: number): Answer<readonly string[]>;
  removeExtendedAttribute(caller: Caller, ino: number, name: string): Answer<void>;
  /** fallocate(2): mode 0 or FALLOC_FL_KEEP_SIZE 1 | PUNCH_HOLE 2 | ZERO_RANGE 16. */
  allocate(caller: Caller, ino: number, handle: number, mode: number, offset: number, length: number): Answer<void>;
  /** SEEK_DATA (3) and SEEK_HOLE (4). */
  seek(caller: Caller, ino: number, handle: number, offset: number, whence: number): Answer<number>;
  getLock(caller: Caller, ino: number, owner: bigint, range: LockRange): Answer<LockRange>;
  /** `wait`: F_SETLKW; `flock`: the range is the whole file and the owner a flock owner. Throws `lockConflict` where it may not wait. */
  setLock(caller: Caller, ino: number, handle: number, owner: bigint, range: LockRange, wait: boolean, flock: boolean): Answer<void>;
}

export interface WriteFlags {
  /** open(2) flags of the handle. */
  readonly open: number;
  /** Drop the set-user-id and set-group-id bits. */
  readonly killPrivileges: boolean;
}
