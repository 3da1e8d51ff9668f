import type { Answer, AttributeChanges, DirectoryEntry, FileSystem, LockRange } from "@dazzle/core";
import type { RequestCaller } from "./caller.ts";
import { ErrnoError } from "./errno.ts";
import type { Negotiated } from "./negotiation.ts";
import {
  ALLOCATE_REQUEST,
  CREATE_REQUEST,
  DIRECTORY_ENTRY,
  ENTRY,
  FLUSH_REQUEST,
  FSYNC_DATA_ONLY,
  FSYNC_REQUEST,
  GET_ATTRIBUTES_HANDLE,
  GET_ATTRIBUTES_REQUEST,
  GET_EXTENDED_ATTRIBUTE_REQUEST,
  LINK_REQUEST,
  LOCK_FLOCK,
  LOCK_REQUEST,
  LockType,
  MAKE_DIRECTORY_REQUEST,
  MAKE_NODE_REQUEST,
  OPEN_KILL_PRIVILEGES,
  OPEN_REQUEST,
  Opcode,
  READ_WRITE_REQUEST,
  RELEASE_FLOCK_UNLOCK,
  RELEASE_REQUEST,
  RENAME_REQUEST,
  RENAME2_REQUEST,
  SEEK_REQUEST,
  SET_ATTRIBUTES_REQUEST,
  SET_EXTENDED_ATTRIBUTE_REQUEST,
  SetAttribute,
  WRITE_KILL_PRIVILEGES,
} from "./protocol.ts";
import type { ReplyBuffer } from "./reply.ts";
import type { Request } from "./request.ts";

/** One row for each operation of the filesystem: how the request becomes a call, and the answer a reply. */
export interface Operation {
  /** Reads what it needs of the request and calls the filesystem. */
  readonly call: (fileSystem: FileSystem, caller: RequestCaller, request: Request, negotiated: Negotiated) => Answer<unknown>;
  /** Writes the reply's body, at most `limit` bytes, and returns its length. */
  readonly encode: (reply: ReplyBuffer, value: never, limit: number, fileSystem: FileSystem) => number;
  /** Where the request says how many bytes the answer may have. */
  readonly limitField: number | undefined;
}

function operation<T>(
  call: (fileSystem: FileSystem, caller: RequestCaller, request: Request, negotiated: Negotiated) => Answer<T>,
  encode: (reply: ReplyBuffer, value: T, limit: number, fileSystem: FileSystem) => number,
  limitField?: number,
): Operation {
  return { call, encode, limitField };
}

/** Names of about this length fill the kernel's buffer; longer ones leave entries over, whose references are given back. */
const TYPICAL_NAME_BYTES = 16;

const nothing = (): number => 0;
const entry = (reply: ReplyBuffer, value: Parameters<ReplyBuffer["entry"]>[0]): number => reply.entry(value);

const ROWS: ReadonlyArray<readonly [number, Operation]> = [
  [Opcode.lookup, operation((fs, caller, request) => fs.lookup(caller, request.ino, request.name(0)), entry)],
  [
    Opcode.getAttributes,
    operation(
      (fs, caller, request) => {
        const given = (request.uint32(GET_ATTRIBUTES_REQUEST.flags) & GET_ATTRIBUTES_HANDLE) !== 0;
        return fs.getAttributes(caller, request.ino, given ? request.uint64(GET_ATTRIBUTES_REQUEST.handle) : undefined);
      },
      (reply, value) => reply.attributes(value),
    ),
  ],
  [
    Opcode.setAttributes,
    operation(
      (fs, caller, request) => {
        const given = (request.uint32(SET_ATTRIBUTES_REQUEST.valid) & SetAttribute.handle) !== 0;
        const handle = given ? request.uint64(SET_ATTRIBUTES_REQUEST.handle) : undefined;
        return fs.setAttributes(caller, request.ino, attributeChanges(request), handle);
      },
      (reply, value) => reply.attributes(value),
    ),
  ],
  [
    Opcode.readLink,
    operation(
      (fs, caller, request) => fs.readLink(caller, request.ino),
      (reply, target) => {
        const bytes = Buffer.from(target, "latin1");
        return reply.data([bytes], bytes.length);
      },
    ),
  ],
  [
    Opcode.symlink,
    operation((fs, caller, request) => {
      const name = request.name(0);
      return fs.symlink(caller, request.ino, name, request.nextName());
    }, entry),
  ],
  [
    Opcode.makeNode,
    operation((fs, caller, request) => {
      const name = request.name(MAKE_NODE_REQUEST.name);
      return fs.makeNode(caller, request.ino, name, request.uint32(MAKE_NODE_REQUEST.mode), request.uint32(MAKE_NODE_REQUEST.rdev));
    }, entry),
  ],
  [
    Opcode.makeDirectory,
    operation((fs, caller, request) => {
      return fs.makeDirectory(caller, request.ino, request.name(MAKE_DIRECTORY_REQUEST.name), request.uint32(MAKE_DIRECTORY_REQUEST.mode));
    }, entry),
  ],
  [Opcode.unlink, operation((fs, caller, request) => fs.unlink(caller, request.ino, request.name(0)), nothing)],
  [Opcode.removeDirectory, operation((fs, caller, request) => fs.removeDirectory(caller, request.ino, request.name(0)), nothing)],
  [
    Opcode.rename,
    operation((fs, caller, request) => {
      const name = request.name(RENAME_REQUEST.names);
      return fs.rename(caller, request.ino, name, request.uint64(RENAME_REQUEST.newParent), request.nextName(), 0);
    }, nothing),
  ],
  [
    Opcode.rename2,
    operation((fs, caller, request) => {
      const name = request.name(RENAME2_REQUEST.names);
      const flags = request.uint32(RENAME2_REQUEST.flags);
      return fs.rename(caller, request.ino, name, request.uint64(RENAME2_REQUEST.newParent), request.nextName(), flags);
    }, nothing),
  ],
  [
    Opcode.link,
    operation((fs, caller, request) => {
      return fs.link(caller, request.uint64(LINK_REQUEST.ino), request.ino, request.name(LINK_REQUEST.name));
    }, entry),
  ],
  [
    Opcode.open,
    operation(
      (fs, caller, request) => {
        const { ino } = request;
        const flags = request.uint32(OPEN_REQUEST.flags);
        if ((request.uint32(OPEN_REQUEST.openFlags) & OPEN_KILL_PRIVILEGES) === 0) return fs.open(caller, ino, flags);
        // An opening that truncates drops the set-user-id bit. Dropped first: after a failure no handle is left open.
        const killed = fs.setAttributes(caller, ino, { killPrivileges: true }, undefined);
        return killed instanceof Promise ? killed.then(() => fs.open(caller, ino, flags)) : fs.open(caller, ino, flags);
      },
      (reply, file) => reply.opened(file),
    ),
  ],
  [
    Opcode.create,
    operation(
      (fs, caller, request) => {
        const name = request.name(CREATE_REQUEST.name);
        return fs.create(caller, request.ino, name, request.uint32(CREATE_REQUEST.mode), request.uint32(CREATE_REQUEST.flags));
      },
      (reply, created) => reply.created(created.entry, created.file),
    ),
  ],
  [
    Opcode.read,
    operation(
      (fs, caller, request) => {
        const { ino } = request;
        const length = request.uint32(READ_WRITE_REQUEST.bytes);
        return fs.read(caller, ino, request.uint64(READ_WRITE_REQUEST.handle), request.uint64(READ_WRITE_REQUEST.offset), length);
      },
      readReply,
      READ_WRITE_REQUEST.bytes,
    ),
  ],
  [
    Opcode.write,
    operation(
      (fs, caller, request) => {
        const length = request.uint32(READ_WRITE_REQUEST.bytes);
        const flags = {
          open: request.uint32(READ_WRITE_REQUEST.openFlags),
          killPrivileges: (request.uint32(READ_WRITE_REQUEST.flags) & WRITE_KILL_PRIVILEGES) !== 0,
        };
        const handle = request.uint64(READ_WRITE_REQUEST.handle);
        const data = request.bytes(READ_WRITE_REQUEST.data, length);
        return fs.write(caller, request.ino, handle, request.uint64(READ_WRITE_REQUEST.offset), data, flags);
      },
      (reply, written) => reply.count(written),
    ),
  ],
  [
    Opcode.flush,
    operation((fs, caller, request) => {
      return fs.flush(caller, request.ino, request.uint64(FLUSH_REQUEST.handle), request.bigUint64(FLUSH_REQUEST.lockOwner));
    }, nothing),
  ],
  [
    Opcode.release,
    operation((fs, _caller, request) => {
      const unlocks = (request.uint32(RELEASE_REQUEST.flags) & RELEASE_FLOCK_UNLOCK) !== 0;
      const owner = unlocks ? request.bigUint64(RELEASE_REQUEST.lockOwner) : undefined;
      return fs.release(request.ino, request.uint64(RELEASE_REQUEST.handle), owner);
    }, nothing),
  ],
  [
    Opcode.fsync,
    operation((fs, caller, request) => {
      const dataOnly = (request.uint32(FSYNC_REQUEST.flags) & FSYNC_DATA_ONLY) !== 0;
      return fs.fsync(caller, request.ino, request.uint64(FSYNC_REQUEST.handle), dataOnly);
    }, nothing),
  ],
  [
    Opcode.openDirectory,
    operation(
      (fs, caller, request) => fs.openDirectory(caller, request.ino),
      (reply, handle) => reply.openedDirectory(handle),
    ),
  ],
  [Opcode.readDirectory, readDirectory(false)],
  [Opcode.readDirectoryPlus, readDirectory(true)],
  [
    Opcode.releaseDirectory,
    operation((fs, _caller, request) => fs.releaseDirectory(request.ino, request.uint64(RELEASE_REQUEST.handle)), nothing),
  ],
  [
    Opcode.fsyncDirectory,
    operation((fs, caller, request) => {
      return fs.fsyncDirectory(caller, request.ino, (request.uint32(FSYNC_REQUEST.flags) & FSYNC_DATA_ONLY) !== 0);
    }, nothing),
  ],
  [
    Opcode.statistics,
    operation(
      (fs, caller) => fs.statistics(caller),
      (reply, value) => reply.statistics(value),
    ),
  ],
  [
    Opcode.setExtendedAttribute,
    operation((fs, caller, request, negotiated) => {
      const name = request.name(negotiated.setExtendedAttributeName);
      // Copied: an attribute is small, and only writes keep their chunk of the ring.
      const value = Uint8Array.from(request.bytesAfterName(request.uint32(SET_EXTENDED_ATTRIBUTE_REQUEST.bytes)));
      return fs.setExtendedAttribute(caller, request.ino, name, value, request.uint32(SET_EXTENDED_ATTRIBUTE_REQUEST.flags));
    }, nothing),
  ],
  [
    Opcode.getExtendedAttribute,
    operation(
      (fs, caller, request) => {
        return fs.getExtendedAttribute(caller, request.ino, request.name(GET_EXTENDED_ATTRIBUTE_REQUEST.name));
      },
      extendedAttributeReply,
      GET_EXTENDED_ATTRIBUTE_REQUEST.bytes,
    ),
  ],
  [
    Opcode.listExtendedAttributes,
    operation(
      (fs, caller, request) => fs.listExtendedAttributes(caller, request.ino),
      (reply, names, limit) => {
        return extendedAttributeReply(reply, Buffer.from(names.map((name) => `${name}\0`).join(""), "latin1"), limit);
      },
      GET_EXTENDED_ATTRIBUTE_REQUEST.bytes,
    ),
  ],
  [
    Opcode.removeExtendedAttribute,
    operation((fs, caller, request) => fs.removeExtendedAttribute(caller, request.ino, request.name(0)), nothing),
  ],
  [
    Opcode.allocate,
    operation((fs, caller, request) => {
      const handle = request.uint64(ALLOCATE_REQUEST.handle);
      const offset = request.uint64(ALLOCATE_REQUEST.offset);
      return fs.allocate(
        caller,
        request.ino,
        handle,
        request.uint32(ALLOCATE_REQUEST.mode),
        offset,
        request.uint64(ALLOCATE_REQUEST.length),
      );
    }, nothing),
  ],
  [
    Opcode.seek,
    operation(
      (fs, caller, request) => {
        const handle = request.uint64(SEEK_REQUEST.handle);
        return fs.seek(caller, request.ino, handle, request.uint64(SEEK_REQUEST.offset), request.uint32(SEEK_REQUEST.whence));
      },
      (reply, offset) => reply.offset(offset),
    ),
  ],
  [
    Opcode.getLock,
    operation(
      (fs, caller, request) => fs.getLock(caller, request.ino, request.bigUint64(LOCK_REQUEST.owner), lockRange(request)),
      (reply, range) => reply.lock(range),
    ),
  ],
  [Opcode.setLock, setLock(false)],
  [Opcode.setLockWait, setLock(true)],
];

/** By opcode. FORGET, INIT, INTERRUPT and their like are the dispatcher's own. */
export const OPERATIONS: ReadonlyArray<Operation | undefined> = (() => {
  const table: Array<Operation | undefined> = [];
  for (const [opcode, row] of ROWS) table[opcode] = row;
  return Array.from(table);
})();

function setLock(wait: boolean): Operation {
  return operation((fs, caller, request) => {
    const flock = (request.uint32(LOCK_REQUEST.flags) & LOCK_FLOCK) !== 0;
    const owner = request.bigUint64(LOCK_REQUEST.owner);
    return fs.setLock(caller, request.ino, request.uint64(LOCK_REQUEST.handle), owner, lockRange(request), wait, flock);
  }, nothing);
}

function lockRange(request: Request): LockRange {
  const type = request.uint32(LOCK_REQUEST.type);
  return {
    start: Math.min(request.uint64(LOCK_REQUEST.start), Number.MAX_SAFE_INTEGER),
    end: Math.min(request.uint64(LOCK_REQUEST.end), Number.MAX_SAFE_INTEGER),
    type: type === LockType.read ? "read" : type === LockType.write ? "write" : "unlock",
    pid: request.uint32(LOCK_REQUEST.pid),
  };
}

type Mutable<T> = { -readonly [Key in keyof T]: T[Key] };

function attributeChanges(request: Request): AttributeChanges {
  const valid = request.uint32(SET_ATTRIBUTES_REQUEST.valid);
  const changes: Mutable<AttributeChanges> = {};
  if (valid & SetAttribute.mode) changes.mode = request.uint32(SET_ATTRIBUTES_REQUEST.mode);
  if (valid & SetAttribute.uid) changes.uid = request.uint32(SET_ATTRIBUTES_REQUEST.uid);
  if (valid & SetAttribute.gid) changes.gid = request.uint32(SET_ATTRIBUTES_REQUEST.gid);
  if (valid & SetAttribute.size) changes.size = request.uint64(SET_ATTRIBUTES_REQUEST.size);
  if (valid & SetAttribute.atimeNow) changes.atimeNs = "now";
  else if (valid & SetAttribute.atime)
    changes.atimeNs = time(request, SET_ATTRIBUTES_REQUEST.atimeSeconds, SET_ATTRIBUTES_REQUEST.atimeNanoseconds);
  if (valid & SetAttribute.mtimeNow) changes.mtimeNs = "now";
  else if (valid & SetAttribute.mtime)
    changes.mtimeNs = time(request, SET_ATTRIBUTES_REQUEST.mtimeSeconds, SET_ATTRIBUTES_REQUEST.mtimeNanoseconds);
  if (valid & SetAttribute.ctime)
    changes.ctimeNs = time(request, SET_ATTRIBUTES_REQUEST.ctimeSeconds, SET_ATTRIBUTES_REQUEST.ctimeNanoseconds);
  if (valid & SetAttribute.killPrivileges) changes.killPrivileges = true;
  return changes;
}

function time(request: Request, secondsField: number, nanosecondsField: number): bigint {
  return request.bigInt64(secondsField) * 1_000_000_000n + BigInt(request.uint32(nanosecondsField));
}

function readReply(reply: ReplyBuffer, pieces: readonly Uint8Array[], limit: number): number {
  let bytes = 0;
  for (const piece of pieces) bytes += piece.length;
  if (bytes > limit) throw new RangeError(`read answered ${bytes} bytes where ${limit} were asked`);
  return reply.data(pieces, bytes);
}

/** A limit of 0 asks how large the value is. */
function extendedAttributeReply(reply: ReplyBuffer, value: Uint8Array, limit: number): number {
  if (limit === 0) return reply.count(value.length);
  if (value.length > limit) throw new ErrnoError("ERANGE");
  return reply.data([value], value.length);
}

function readDirectory(plus: boolean): Operation {
  const typicalBytes = (plus ? ENTRY.end : 0) + DIRECTORY_ENTRY.name + TYPICAL_NAME_BYTES;
  return operation(
    (fs, caller, request) => {
      const handle = request.uint64(READ_WRITE_REQUEST.handle);
      const cookie = request.uint64(READ_WRITE_REQUEST.offset);
      const limit = Math.max(1, Math.floor(request.uint32(READ_WRITE_REQUEST.bytes) / typicalBytes));
      return fs.readDirectory(caller, request.ino, handle, cookie, limit, plus);
    },
    (reply, rows, limit, fs) => {
      let used = 0;
      let index = 0;
      for (; index < rows.length; index++) {
        const row = rows[index] as DirectoryEntry;
        const end = reply.directoryEntry(used, limit, row, plus);
        if (end < 0) break;
        used = end;
        // The kernel counts no reference for these two, nor for any entry where it was not asked for attributes.
        if (row.entry !== undefined && (!plus || row.name === "." || row.name === "..")) giveBack(fs, row);
      }
      for (; index < rows.length; index++) giveBack(fs, rows[index] as DirectoryEntry);
      return used;
    },
    READ_WRITE_REQUEST.bytes,
  );
}

function giveBack(fileSystem: FileSystem, row: DirectoryEntry): void {
  if (row.entry !== undefined && row.entry.attributes.ino !== 0) fileSystem.forget(row.entry.attributes.ino, 1);
}
