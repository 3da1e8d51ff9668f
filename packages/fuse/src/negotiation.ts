import {
  INIT_REPLY,
  INIT_REQUEST,
  InitFlag,
  PAGE_BYTES,
  PROTOCOL_MAJOR,
  PROTOCOL_MINOR,
  PROTOCOL_MINOR_MIN,
  SET_EXTENDED_ATTRIBUTE_REQUEST,
  WRITE_BYTES_MAX,
} from "./protocol.ts";
import type { ReplyBuffer } from "./reply.ts";
import type { Request } from "./request.ts";

const READ_AHEAD_BYTES = 1024 * 1024;
/** Requests of read-ahead and of asynchronous I/O under way at once. The kernel's 12 starve parallel readers. */
const BACKGROUND_MAX = 64;
const BACKGROUND_CONGESTED = 48;

/**
 * What is asked for, where the kernel has it.
 * - readDirectoryPlusAuto: entries come with attributes at the start of a directory and where the caller looks at them; a bare
 *   listing of a large directory doesn't make the client fetch an inode for every name.
 * - explicitInvalidation: pages go when they are invalidated; with its opposite (AUTO_INVAL_DATA) a mount loses its own pages after
 *   each of its own writes (measured: 64 MiB written and read again cost 512 READs).
 * - not WRITEBACK_CACHE: sizes changed elsewhere would stay unseen.
 * - not NO_OPENDIR: the filesystem has handles of directories.
 * - not POSIX_ACL: not yet.
 */
const WANTED =
  InitFlag.asyncRead |
  InitFlag.posixLocks |
  InitFlag.atomicTruncate |
  InitFlag.exportSupport |
  InitFlag.bigWrites |
  InitFlag.flockLocks |
  InitFlag.readDirectoryPlus |
  InitFlag.readDirectoryPlusAuto |
  InitFlag.asyncDirectIo |
  InitFlag.parallelDirectories |
  InitFlag.maxPages |
  InitFlag.cacheSymlinks |
  InitFlag.explicitInvalidation |
  InitFlag.handleKillPrivileges2 |
  InitFlag.setExtendedAttributeExtension;

export interface Negotiated {
  readonly minor: number;
  readonly flags: number;
  /** Where the name stands in a SETXATTR request. */
  readonly setExtendedAttributeName: number;
}

/** Answers INIT in `reply` (its body's length is INIT_REPLY.end). A string says why it cannot be. */
export function negotiate(request: Request, reply: ReplyBuffer): Negotiated | string {
  const major = request.uint32(INIT_REQUEST.major);
  const minor = request.uint32(INIT_REQUEST.minor);
  if (major !== PROTOCOL_MAJOR || minor < PROTOCOL_MINOR_MIN) {
    return `the kernel speaks FUSE ${major}.${minor}, Dazzle needs ${PROTOCOL_MAJOR}.${PROTOCOL_MINOR_MIN} (Linux 5.4) or newer`;
  }
  const flags = WANTED & request.uint32(INIT_REQUEST.flags);
  const body = reply.bodyView(INIT_REPLY.end);
  body.setUint32(INIT_REPLY.major, PROTOCOL_MAJOR, true);
  body.setUint32(INIT_REPLY.minor, Math.min(minor, PROTOCOL_MINOR), true);
  body.setUint32(INIT_REPLY.readAheadBytes, Math.max(READ_AHEAD_BYTES, request.uint32(INIT_REQUEST.readAheadBytes)), true);
  body.setUint32(INIT_REPLY.flags, flags, true);
  body.setUint16(INIT_REPLY.background, BACKGROUND_MAX, true);
  body.setUint16(INIT_REPLY.congested, BACKGROUND_CONGESTED, true);
  body.setUint32(INIT_REPLY.writeBytes, WRITE_BYTES_MAX, true);
  body.setUint32(INIT_REPLY.granularityNs, 1, true);
  body.setUint16(INIT_REPLY.pages, WRITE_BYTES_MAX / PAGE_BYTES, true);
  const extended = (flags & InitFlag.setExtendedAttributeExtension) !== 0;
  return {
    minor,
    flags,
    setExtendedAttributeName: extended ? SET_EXTENDED_ATTRIBUTE_REQUEST.name : SET_EXTENDED_ATTRIBUTE_REQUEST.nameWithoutExtension,
  };
}
