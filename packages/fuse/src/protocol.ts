/**
 * The kernel's FUSE protocol, revision 7.31 and up, as far as Dazzle speaks it (`linux/fuse.h`). Integers have the machine's byte
 * order, which is little-endian on everything this runs on. Offsets of a request's body count from the end of its header.
 */

export const PROTOCOL_MAJOR = 7;
/** The newest revision whose layouts the drawings below follow. */
export const PROTOCOL_MINOR = 44;
/** 7.31 is Linux 5.4: explicit invalidation, and more than 32 pages a request. */
export const PROTOCOL_MINOR_MIN = 31;
/** From here the kernel knows `NotifyCode.incrementEpoch`. */
export const PROTOCOL_MINOR_EPOCH = 44;

export const ROOT_INO = 1;

export const WRITE_BYTES_MAX = 1024 * 1024;
export const PAGE_BYTES = 4096;
/** What one read of the device may bring: the largest write and the longest header, rounded up well. */
export const REQUEST_BYTES_MAX = WRITE_BYTES_MAX + 64 * 1024;

/** Numbers of the kernel; those without a row in `operations.ts` are answered ENOSYS. */
export const Opcode = {
  lookup: 1,
  forget: 2,
  getAttributes: 3,
  setAttributes: 4,
  readLink: 5,
  symlink: 6,
  makeNode: 8,
  makeDirectory: 9,
  unlink: 10,
  removeDirectory: 11,
  rename: 12,
  link: 13,
  open: 14,
  read: 15,
  write: 16,
  statistics: 17,
  release: 18,
  fsync: 20,
  setExtendedAttribute: 21,
  getExtendedAttribute: 22,
  listExtendedAttributes: 23,
  removeExtendedAttribute: 24,
  flush: 25,
  init: 26,
  openDirectory: 27,
  readDirectory: 28,
  releaseDirectory: 29,
  fsyncDirectory: 30,
  getLock: 31,
  setLock: 32,
  setLockWait: 33,
  access: 34,
  create: 35,
  interrupt: 36,
  blockMap: 37,
  destroy: 38,
  ioctl: 39,
  poll: 40,
  notifyReply: 41,
  batchForget: 42,
  allocate: 43,
  readDirectoryPlus: 44,
  rename2: 45,
  seek: 46,
  copyFileRange: 47,
  setupMapping: 48,
  removeMapping: 49,
  syncFileSystem: 50,
  temporaryFile: 51,
  extendedStatus: 52,
  copyFileRange64: 53,
} as const;

export type OpcodeName = keyof typeof Opcode;

export const OPCODE_END = 64;

/** Request header, 40 bytes, before every request.
 *   0  4  length with the header      4  4  opcode
 *   8  8  unique (an answer repeats it)
 *  16  8  ino                         24  4  uid    28  4  gid    32  4  pid
 *  36  2  length of extensions in 8-byte units (none is negotiated)   38  2  zero */
export const REQUEST_HEADER = { length: 0, opcode: 4, unique: 8, ino: 16, uid: 24, gid: 28, pid: 32, end: 40 } as const;

/** Reply header, 16 bytes.
 *   0  4  length with the header      4  4  0 or the negative errno (in a notification: its code, positive)
 *   8  8  unique of the request (in a notification: 0) */
export const REPLY_HEADER = { length: 0, error: 4, unique: 8, end: 16 } as const;

/** Attributes, 88 bytes: the seconds stand together before the nanoseconds.
 *   0  8  ino       8  8  size     16  8  blocks of 512 bytes
 *  24  8  atime    32  8  mtime    40  8  ctime, seconds
 *  48  4  atime    52  4  mtime    56  4  ctime, nanoseconds
 *  60  4  mode     64  4  nlink    68  4  uid    72  4  gid    76  4  rdev    80  4  preferred I/O bytes    84  4  flags */
export const ATTRIBUTES = {
  ino: 0,
  size: 8,
  blocks: 16,
  atimeSeconds: 24,
  mtimeSeconds: 32,
  ctimeSeconds: 40,
  atimeNanoseconds: 48,
  mtimeNanoseconds: 52,
  ctimeNanoseconds: 56,
  mode: 60,
  nlink: 64,
  uid: 68,
  gid: 72,
  rdev: 76,
  blockBytes: 80,
  flags: 84,
  end: 88,
} as const;

/** Answer to a lookup, 128 bytes.
 *   0  8  ino (0: the name does not exist)   8  8  generation
 *  16  8  name valid, seconds     24  8  attributes valid, seconds
 *  32  4  name, nanoseconds       36  4  attributes, nanoseconds     40  88  attributes */
export const ENTRY = {
  ino: 0,
  generation: 8,
  nameSeconds: 16,
  attributesSeconds: 24,
  nameNanoseconds: 32,
  attributesNanoseconds: 36,
  attributes: 40,
  end: 128,
} as const;

/** Answer with attributes alone, 104 bytes:  0  8  valid, seconds   8  4  nanoseconds   12  4  zero   16  88  attributes */
export const ATTRIBUTES_REPLY = { seconds: 0, nanoseconds: 8, zero: 12, attributes: 16, end: 104 } as const;

/** Answer to open, 16 bytes:  0  8  handle   8  4  OpenReplyFlag   12  4  zero */
export const OPEN_REPLY = { handle: 0, flags: 8, zero: 12, end: 16 } as const;

/** Directory entry, then the name, padded to 8 bytes; in a "plus" answer an ENTRY stands before each.
 *   0  8  ino    8  8  cookie of the next    16  4  name bytes    20  4  type    24  ..  name */
export const DIRECTORY_ENTRY = { ino: 0, cookie: 8, nameBytes: 16, type: 20, name: 24 } as const;

/** Statistics, 80 bytes.
 *   0  8  blocks   8  8  free   16  8  available   24  8  files   32  8  free files
 *  40  4  preferred I/O bytes   44  4  name bytes   48  4  block bytes   52 28 zero */
export const STATISTICS = {
  blocks: 0,
  freeBlocks: 8,
  availableBlocks: 16,
  files: 24,
  freeFiles: 32,
  ioBytes: 40,
  nameBytes: 44,
  blockBytes: 48,
  zero: 52,
  end: 80,
} as const;

/** INIT, asked:  0  4  major   4  4  minor   8  4  read-ahead bytes   12  4  flags   16  4  flags 32..63 */
export const INIT_REQUEST = { major: 0, minor: 4, readAheadBytes: 8, flags: 12, flagsHigh: 16 } as const;

/** INIT, answered, 64 bytes.
 *   0  4  major   4  4  minor   8  4  read-ahead bytes   12  4  flags
 *  16  2  requests in the background   18  2  of which congested   20  4  write bytes   24  4  time granularity, ns
 *  28  2  pages a request   30  2  map alignment   32  4  flags 32..63   36 28 zero */
export const INIT_REPLY = {
  major: 0,
  minor: 4,
  readAheadBytes: 8,
  flags: 12,
  background: 16,
  congested: 18,
  writeBytes: 20,
  granularityNs: 24,
  pages: 28,
  flagsHigh: 32,
  end: 64,
} as const;

/** Bodies of requests. Names follow the body, each with its zero byte. */
export const GET_ATTRIBUTES_REQUEST = { flags: 0, handle: 8 } as const;
/**   0  4  SetAttribute bits   8  8  handle   16  8  size   24  8  lock owner
 *   32  8  atime   40  8  mtime   48  8  ctime, seconds   56  4  atime   60  4  mtime   64  4  ctime, nanoseconds
 *   68  4  mode    76  4  uid     80  4  gid */
export const SET_ATTRIBUTES_REQUEST = {
  valid: 0,
  handle: 8,
  size: 16,
  atimeSeconds: 32,
  mtimeSeconds: 40,
  ctimeSeconds: 48,
  atimeNanoseconds: 56,
  mtimeNanoseconds: 60,
  ctimeNanoseconds: 64,
  mode: 68,
  uid: 76,
  gid: 80,
} as const;
export const MAKE_NODE_REQUEST = { mode: 0, rdev: 4, name: 16 } as const;
export const MAKE_DIRECTORY_REQUEST = { mode: 0, name: 8 } as const;
export const RENAME_REQUEST = { newParent: 0, names: 8 } as const;
export const RENAME2_REQUEST = { newParent: 0, flags: 8, names: 16 } as const;
export const LINK_REQUEST = { ino: 0, name: 8 } as const;
export const OPEN_REQUEST = { flags: 0, openFlags: 4 } as const;
export const CREATE_REQUEST = { flags: 0, mode: 4, name: 16 } as const;
/**   0  8  handle   8  8  offset   16  4  bytes   20  4  flags   24  8  lock owner   32  4  open(2) flags   40  data */
export const READ_WRITE_REQUEST = { handle: 0, offset: 8, bytes: 16, flags: 20, openFlags: 32, data: 40 } as const;
export const RELEASE_REQUEST = { handle: 0, flags: 12, lockOwner: 16 } as const;
export const FLUSH_REQUEST = { handle: 0, lockOwner: 16 } as const;
export const FSYNC_REQUEST = { handle: 0, flags: 8 } as const;
/** With SETXATTR_EXT:  0  4  value bytes   4  4  flags   8  4  more flags   16  name, value.  Without it the name stands at 8. */
export const SET_EXTENDED_ATTRIBUTE_REQUEST = { bytes: 0, flags: 4, name: 16, nameWithoutExtension: 8 } as const;
export const GET_EXTENDED_ATTRIBUTE_REQUEST = { bytes: 0, name: 8 } as const;
/**   0  8  handle   8  8  owner   16  8  start   24  8  end, inclusive   32  4  type   36  4  pid   40  4  LockFlag */
export const LOCK_REQUEST = { handle: 0, owner: 8, start: 16, end: 24, type: 32, pid: 36, flags: 40 } as const;
export const LOCK_REPLY = { start: 0, end: 8, type: 16, pid: 20, size: 24 } as const;
export const INTERRUPT_REQUEST = { unique: 0 } as const;
export const FORGET_REQUEST = { references: 0 } as const;
export const BATCH_FORGET_REQUEST = { count: 0, rows: 8, rowIno: 0, rowReferences: 8, rowBytes: 16 } as const;
export const ALLOCATE_REQUEST = { handle: 0, offset: 8, length: 16, mode: 24 } as const;
export const SEEK_REQUEST = { handle: 0, offset: 8, whence: 16 } as const;

/** INIT flags below 32 bits; see `negotiation.ts` for which are wanted and why. */
export const InitFlag = {
  asyncRead: 1 << 0,
  posixLocks: 1 << 1,
  atomicTruncate: 1 << 3,
  exportSupport: 1 << 4,
  bigWrites: 1 << 5,
  flockLocks: 1 << 10,
  readDirectoryPlus: 1 << 13,
  readDirectoryPlusAuto: 1 << 14,
  asyncDirectIo: 1 << 15,
  parallelDirectories: 1 << 18,
  maxPages: 1 << 22,
  cacheSymlinks: 1 << 23,
  explicitInvalidation: 1 << 25,
  handleKillPrivileges2: 1 << 28,
  setExtendedAttributeExtension: 1 << 29,
} as const;

export const SetAttribute = {
  mode: 1 << 0,
  uid: 1 << 1,
  gid: 1 << 2,
  size: 1 << 3,
  atime: 1 << 4,
  mtime: 1 << 5,
  handle: 1 << 6,
  atimeNow: 1 << 7,
  mtimeNow: 1 << 8,
  ctime: 1 << 10,
  killPrivileges: 1 << 11,
} as const;

export const GET_ATTRIBUTES_HANDLE = 1 << 0;
export const OPEN_KILL_PRIVILEGES = 1 << 0;
export const WRITE_KILL_PRIVILEGES = 1 << 2;
export const RELEASE_FLOCK_UNLOCK = 1 << 1;
export const FSYNC_DATA_ONLY = 1 << 0;
export const LOCK_FLOCK = 1 << 0;
export const LockType = { read: 0, write: 1, unlock: 2 } as const;

export const OpenReplyFlag = { directIo: 1 << 0, keepCache: 1 << 1 } as const;

/** Codes of messages to the kernel, written with `unique` 0. Their bodies:
 *  invalidateInode:   0  8  ino      8  8  offset       16  8  length
 *  invalidateEntry:   0  8  parent   8  4  name bytes   12  4  flags   16  name and a zero byte
 *  incrementEpoch:    none */
export const NotifyCode = { invalidateInode: 2, invalidateEntry: 3, incrementEpoch: 8 } as const;
export const INVALIDATE_INODE = { ino: 0, offset: 8, length: 16, end: 24 } as const;
export const INVALIDATE_ENTRY = { parent: 0, nameBytes: 8, flags: 12, name: 16 } as const;
