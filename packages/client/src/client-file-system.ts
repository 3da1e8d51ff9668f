import {
  type Answer,
  type AttributeChanges,
  BLOCK_BYTES,
  type Caller,
  type Clock,
  DazzleError,
  type DirectoryEntry,
  type Entry,
  type FileSystem,
  type FileSystemStatistics,
  type Inode,
  isDazzleError,
  type KernelNotifier,
  type LockRange,
  type OpenFile,
  type WriteFlags,
} from "@dazzle/core";
import type { SpaceCredits } from "@dazzle/log";
import type { Directories } from "./directory.ts";
import { Entries } from "./entries.ts";
import type { FileData, Obstacle } from "./file-data.ts";
import { allocate, checkAllocation, seek } from "./file-ranges.ts";
import type { Handle, Handles } from "./handles.ts";
import type { Journal } from "./journal.ts";
import { Listing } from "./listing.ts";
import type { Locks } from "./locks.ts";
import { Charge, Namespace } from "./namespace.ts";
import { answer, Needs, NeedsElsewhere, NeedsRoom, NeedsToken } from "./needs.ts";
import { isDirectory, type Node, S_IFDIR, S_IFREG } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";
import { Parts, Pin } from "./parts.ts";
import type { Statistics } from "./statistics.ts";

const O_ACCMODE = 3;
/** Until an operation takes the token of what it looks at. */
const LOOKS_MAX = 2;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const O_DSYNC = 0o10000;

/** The filesystem that a mount serves to the kernel. */
export class ClientFileSystem implements FileSystem {
  readonly #objects: ObjectTable;
  readonly #directories: Directories;
  readonly #listing: Listing;
  readonly #names: Namespace;
  readonly #data: FileData;
  readonly #journal: Journal;
  readonly #space: SpaceCredits;
  readonly #statistics: Statistics;
  readonly #clock: Clock;
  readonly #entries: Entries;
  readonly #handles: Handles;
  readonly #parts: Parts;
  readonly #locks: Locks;
  readonly counters = { operations: 0, written: 0, read: 0, fsyncs: 0 };

  constructor(options: {
    objects: ObjectTable;
    handles: Handles;
    directories: Directories;
    listing: Listing;
    names: Namespace;
    data: FileData;
    journal: Journal;
    space: SpaceCredits;
    statistics: Statistics;
    locks: Locks;
    clock: Clock;
    /** How long the kernel may keep what it is told: never past the lease. */
    validMs: (ino: number) => number;
  }) {
    this.#objects = options.objects;
    this.#handles = options.handles;
    this.#directories = options.directories;
    this.#listing = options.listing;
    this.#names = options.names;
    this.#data = options.data;
    this.#journal = options.journal;
    this.#space = options.space;
    this.#statistics = options.statistics;
    this.#locks = options.locks;
    this.#clock = options.clock;
    this.#entries = new Entries(options);
    this.#parts = new Parts(options.objects);
  }

  start(notifier: KernelNotifier): void {
    this.#objects.cache.notifier = notifier;
  }

  lookup(_caller: Caller, parent: number, name: string): Answer<Entry> {
    this.counters.operations++;
    let peeked: Inode | undefined;
    let looks = 0;
    return answer(() => {
      if (name === ".") return this.#entries.referred(this.#names.node(parent, false), parent);
      if (name === "..") return this.#entries.referred(this.#parent(parent), parent);
      const child = this.#names.find(parent, name);
      if (child === null) return this.#entries.absent(parent);
      const node = this.#objects.cached(child.ino, false);
      if (node !== undefined) return this.#entries.referred(node, parent);
      if (peeked?.ino === child.ino) return this.#entries.uncachedByName(peeked, parent);
      throw this.#look(child.ino, looks++, (inode) => {
        peeked = inode;
      });
    });
  }

  /** Attributes are looked at where they are, if another mount is changing them. Who changes them as well will need the token next; and who looked before
   * lost what that look brought. */
  #look(ino: number, looks: number, seen: (inode: Inode | undefined) => void): Needs {
    const alone = this.#objects.wasChanged(ino);
    if (alone || looks >= LOOKS_MAX) return new NeedsToken(this.#objects, ino, alone);
    return new NeedsElsewhere(async () => seen(await this.#objects.peek(ino)));
  }

  #parent(ino: number): Node {
    return this.#names.node(this.#names.node(ino, false).inode.parent, false);
  }

  forget(ino: number, references: number): void {
    this.#objects.forget(ino, references);
  }

  getAttributes(_caller: Caller, ino: number): Answer<Entry> {
    this.counters.operations++;
    let peeked: Inode | undefined;
    let looks = 0;
    return answer(() => {
      const node = this.#objects.cached(ino, false);
      if (node !== undefined) return this.#entries.of(node);
      if (peeked !== undefined) return this.#entries.uncached(peeked);
      throw this.#look(ino, looks++, (inode) => {
        peeked = inode;
      });
    });
  }

  setAttributes(_caller: Caller, ino: number, changes: AttributeChanges): Answer<Entry> {
    this.counters.operations++;
    const charge = new Charge(this.#space);
    return answer(() => {
      const node = this.#names.node(ino, true);
      if (changes.size !== undefined && isDirectory(node.inode.mode)) throw new DazzleError("isDirectory", `index number ${ino}`);
      if (changes.size !== undefined && changes.size > node.inode.size) charge.take(BLOCK_BYTES);
      this.#names.room();
      this.#applyChanges(node, changes);
      return this.#entries.uncached(node.inode);
    });
  }

  #applyChanges(node: Node, changes: AttributeChanges): void {
    const { inode } = node;
    const now = this.#clock.wallTimeNs();
    if (changes.size !== undefined) {
      this.#data.truncate(node, changes.size);
      inode.mtimeNs = now;
    }
    if (changes.mode !== undefined) inode.mode = (inode.mode & ~0o7777) | (changes.mode & 0o7777);
    if (changes.uid !== undefined) inode.uid = changes.uid;
    if (changes.gid !== undefined) inode.gid = changes.gid;
    const chowned = (changes.uid !== undefined || changes.gid !== undefined) && changes.mode === undefined;
    if (chowned || changes.killPrivileges) inode.mode = Namespace.withoutSetId(inode.mode);
    if (changes.atimeNs !== undefined) inode.atimeNs = changes.atimeNs === "now" ? now : changes.atimeNs;
    if (changes.mtimeNs !== undefined) inode.mtimeNs = changes.mtimeNs === "now" ? now : changes.mtimeNs;
    this.#names.change(node, changes.ctimeNs ?? now);
  }

  readLink(_caller: Caller, ino: number): Answer<string> {
    this.counters.operations++;
    return answer(() => {
      const { inode } = this.#names.node(ino, false);
      if (inode.target === "") throw new DazzleError("invalid", `index number ${ino} is no symbolic link`);
      return inode.target;
    });
  }

  makeNode(caller: Caller, parent: number, name: string, mode: number, rdev: number): Answer<Entry> {
    this.counters.operations++;
    const charge = new Charge(this.#space);
    return answer(() => this.#entries.referred(this.#names.make(caller, parent, name, mode, rdev, "", charge), parent));
  }

  makeDirectory(caller: Caller, parent: number, name: string, mode: number): Answer<Entry> {
    return this.makeNode(caller, parent, name, (mode & 0o7777) | S_IFDIR, 0);
  }

  symlink(caller: Caller, parent: number, name: string, target: string): Answer<Entry> {
    this.counters.operations++;
    const charge = new Charge(this.#space);
    return answer(() => this.#entries.referred(this.#names.symlink(caller, parent, name, target, charge), parent));
  }

  link(_caller: Caller, ino: number, parent: number, name: string): Answer<Entry> {
    this.counters.operations++;
    const charge = new Charge(this.#space);
    return answer(() => this.#entries.uncachedByName(this.#names.link(ino, parent, name, charge).inode, parent));
  }

  unlink(_caller: Caller, parent: number, name: string): Answer<void> {
    this.counters.operations++;
    return answer(() => this.#names.unlink(parent, name));
  }

  removeDirectory(_caller: Caller, parent: number, name: string): Answer<void> {
    this.counters.operations++;
    return answer(() => this.#names.removeDirectory(parent, name));
  }

  rename(_caller: Caller, parent: number, name: string, newParent: number, newName: string, flags: number): Answer<void> {
    this.counters.operations++;
    return answer(() => this.#names.rename(parent, name, newParent, newName, flags));
  }

  open(_caller: Caller, ino: number, flags: number): Answer<OpenFile> {
    this.counters.operations++;
    return answer(() => {
      const truncates = (flags & O_TRUNC) !== 0 && (flags & O_ACCMODE) !== 0;
      const node = truncates ? this.#names.node(ino, true) : this.#names.present(ino);
      if (truncates && node.inode.size > 0) {
        this.#names.room();
        this.#data.truncate(node, 0);
        this.#names.touch(node, this.#clock.wallTimeNs());
      }
      return this.#opened(node, flags);
    });
  }

  #opened(node: Node, flags: number): OpenFile {
    const append = (flags & O_APPEND) !== 0 && (flags & O_ACCMODE) !== 0;
    return { handle: this.#handles.open(node.ino, flags), keepCache: true, directIo: append };
  }

  create(caller: Caller, parent: number, name: string, mode: number, flags: number): Answer<{ entry: Entry; file: OpenFile }> {
    this.counters.operations++;
    const charge = new Charge(this.#space);
    return answer(() => {
      const node = this.#make(caller, parent, name, mode, flags, charge);
      return { entry: this.#entries.referred(node, parent), file: this.#opened(node, flags) };
    });
  }

  /** Another mount may have made the file since the kernel looked: unless it must be new, the kernel is to look again and open that one, as it
   * checks permissions only then. */
  #make(caller: Caller, parent: number, name: string, mode: number, flags: number, charge: Charge): Node {
    try {
      return this.#names.make(caller, parent, name, (mode & 0o7777) | S_IFREG, 0, "", charge);
    } catch (error) {
      if (!isDazzleError(error, "exists") || (flags & O_EXCL) !== 0) throw error;
      throw new DazzleError("staleName", name);
    }
  }

  /** The node of an open handle, under a token that suffices now. */
  #open(handle: Handle, exclusive: boolean): Node {
    return this.#names.node(handle.ino, exclusive);
  }

  /** While the kernel drops a file's pages, its requests wait for a moment: see `KernelCache`. */
  #door(node: Node): void {
    const door = this.#objects.cache.door(node.ino);
    if (door !== null) throw new Needs(() => door);
  }

  #over(node: Node, obstacle: Obstacle): Needs {
    return obstacle.kind === "room" ? new NeedsRoom(this.#journal) : new Needs(() => this.#data.overcome(node, obstacle));
  }

  read(_caller: Caller, _ino: number, number: number, offset: number, length: number): Answer<readonly Uint8Array[]> {
    this.counters.operations++;
    const handle = this.#handles.get(number);
    const sequential = offset === handle.nextRead && offset > 0;
    return answer(() => {
      const node = this.#parts.readable(handle.ino, offset, length) ?? this.#open(handle, false);
      this.#door(node);
      handle.nextRead = Math.min(offset + length, node.inode.size);
      const { pieces, obstacle } = this.#data.read(node, offset, length);
      if (sequential && node.inode.size > offset + length) this.#data.readAhead(node, offset + length);
      if (obstacle !== null) throw this.#over(node, obstacle);
      this.counters.read += Math.max(0, Math.min(length, node.inode.size - offset));
      this.#objects.cache.answers(node.ino);
      return pieces;
    });
  }

  /** Where a write begins at the end of the file, or changes its mode, it takes all of it. */
  #writable(handle: Handle, offset: number, length: number, flags: WriteFlags, pin: Pin): Node {
    if ((flags.open & O_APPEND) !== 0) return this.#open(handle, true);
    const node = this.#parts.writable(handle.ino, offset, length, pin);
    if (node.token === "exclusive" || !flags.killPrivileges || Namespace.withoutSetId(node.inode.mode) === node.inode.mode) return node;
    pin.letGo();
    return this.#open(handle, true);
  }

  write(_caller: Caller, _ino: number, number: number, offset: number, data: Uint8Array, flags: WriteFlags): Answer<number> {
    this.counters.operations++;
    const handle = this.#handles.get(number);
    const charge = new Charge(this.#space);
    let start = -1;
    let done = 0;
    let attempts = 0;
    const pin = new Pin();
    const written = answer(() => {
      const isFirst = ++attempts === 1;
      const node = this.#writable(handle, offset, data.byteLength, flags, pin);
      // Another mount waits for nothing but the writes that have begun: it comes before those that have not.
      if (isFirst && node.unpinned !== null) throw new NeedsElsewhere(async () => node.revoking);
      this.#door(node);
      if (done === 0) {
        charge.take(data.byteLength);
        this.#names.room();
        // The kernel takes the offset of an append from its own idea of the size; the true end is here.
        start = (flags.open & O_APPEND) !== 0 ? node.inode.size : offset;
      }
      const { written: more, obstacle } = this.#data.write(node, start + done, done === 0 ? data : data.subarray(done));
      done += more;
      if (more > 0) {
        if (flags.killPrivileges) node.inode.mode = Namespace.withoutSetId(node.inode.mode);
        this.#names.touch(node, this.#clock.wallTimeNs());
      }
      if (obstacle !== null) {
        // No other mount writes between two parts of one write.
        if (done > 0 && !pin.isHeld) pin.hold(this.#objects.pin(node));
        throw this.#over(node, obstacle);
      }
      this.counters.written += data.byteLength;
      this.#objects.cache.answers(node.ino);
      return data.byteLength;
    });
    const whole = written instanceof Promise ? written.finally(() => pin.letGo()) : written;
    if ((flags.open & O_DSYNC) === 0) return whole;
    return Promise.resolve(whole).then((bytes) => this.#journal.commit().then(() => bytes));
  }

  flush(_caller: Caller, ino: number, _handle: number, lockOwner: bigint): Answer<void> {
    return this.#locks.flush(ino, lockOwner);
  }

  release(ino: number, number: number, flockOwner: bigint | undefined): Answer<void> {
    const unlocked = this.#locks.release(ino, number, flockOwner);
    const handle = this.#handles.close(number);
    const closed = handle === undefined ? undefined : this.#closed(handle.ino);
    return unlocked === undefined ? closed : Promise.all([unlocked, closed]).then(() => {});
  }

  /** Where the log gets no room to remove the file, its manager removes it. */
  #closed(ino: number): Answer<void> {
    const closed = answer(() => this.#names.closed(ino));
    return closed instanceof Promise ? closed.catch(() => this.#objects.tellClosed(ino)) : closed;
  }

  fsync(): Answer<void> {
    this.counters.fsyncs++;
    return this.#journal.commit().then(() => {});
  }

  openDirectory(_caller: Caller, ino: number): Answer<number> {
    this.counters.operations++;
    return answer(() => {
      const node = this.#names.node(ino, false);
      this.#directories.state(node);
      return this.#handles.open(node.ino, 0);
    });
  }

  readDirectory(
    _caller: Caller,
    _ino: number,
    number: number,
    cookie: number,
    limit: number,
    withAttributes: boolean,
  ): Answer<readonly DirectoryEntry[]> {
    this.counters.operations++;
    const handle = this.#handles.get(number);
    if (cookie === 0) Listing.begin(handle);
    return answer(() => {
      const node = this.#open(handle, false);
      const entryOf = withAttributes ? (child: Node) => this.#entries.referred(child, node.ino) : null;
      return this.#listing.page(handle, node, cookie, limit, entryOf);
    });
  }

  releaseDirectory(_ino: number, number: number): void {
    const handle = this.#handles.close(number);
    if (handle !== undefined) void this.#closed(handle.ino);
  }

  fsyncDirectory(): Answer<void> {
    return this.fsync();
  }

  statistics(): Answer<FileSystemStatistics> {
    return this.#statistics.read();
  }

  setExtendedAttribute(_caller: Caller, ino: number, name: string, value: Uint8Array, flags: number): Answer<void> {
    this.counters.operations++;
    assertSupported(name);
    const charge = new Charge(this.#space);
    const copy = Uint8Array.prototype.slice.call(value);
    return answer(() => this.#names.setAttribute(ino, name, copy, flags, charge));
  }

  getExtendedAttribute(_caller: Caller, ino: number, name: string): Answer<Uint8Array> {
    this.counters.operations++;
    assertSupported(name);
    return answer(() => {
      const value = this.#names.attributes(this.#names.present(ino)).get(name);
      if (value === undefined) throw new DazzleError("noAttribute", name);
      return value;
    });
  }

  listExtendedAttributes(_caller: Caller, ino: number): Answer<readonly string[]> {
    this.counters.operations++;
    return answer(() => [...this.#names.attributes(this.#names.present(ino)).keys()]);
  }

  removeExtendedAttribute(_caller: Caller, ino: number, name: string): Answer<void> {
    this.counters.operations++;
    assertSupported(name);
    return answer(() => this.#names.removeAttribute(ino, name));
  }

  allocate(_caller: Caller, _ino: number, number: number, mode: number, offset: number, length: number): Answer<void> {
    this.counters.operations++;
    const handle = this.#handles.get(number);
    checkAllocation(mode);
    const charge = new Charge(this.#space);
    return answer(() => {
      const node = this.#open(handle, true);
      this.#names.room();
      const obstacle = allocate(this.#data, node, { mode, offset, length }, charge);
      if (obstacle !== null) throw this.#over(node, obstacle);
      this.#names.touch(node, this.#clock.wallTimeNs());
    });
  }

  seek(_caller: Caller, _ino: number, number: number, offset: number, whence: number): Answer<number> {
    this.counters.operations++;
    const handle = this.#handles.get(number);
    return answer(() => {
      const node = this.#open(handle, false);
      const found = seek(this.#data, node, offset, whence);
      if (typeof found !== "number") throw this.#over(node, found);
      return found;
    });
  }

  getLock(_caller: Caller, ino: number, owner: bigint, range: LockRange): Answer<LockRange> {
    return this.#locks.get(ino, owner, range);
  }

  /** Files of which somebody holds a lock. */
  get locked(): Iterable<number> {
    return this.#locks.held;
  }

  setLock(caller: Caller, ino: number, handle: number, owner: bigint, range: LockRange, wait: boolean, flock: boolean): Answer<void> {
    return this.#locks.set(caller, ino, handle, owner, range, wait, flock);
  }
}

/** Access control lists are not kept: a program that sets one is told so. */
function assertSupported(name: string): void {
  if (name.startsWith("system.")) throw new DazzleError("operationNotSupported", name);
}
