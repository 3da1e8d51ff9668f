import {
  type Answer,
  type AttributeChanges,
  type Attributes,
  type Caller,
  DazzleError,
  type DirectoryEntry,
  type Entry,
  type FileSystem,
  type FileSystemStatistics,
  type KernelNotifier,
  type LockRange,
  type OpenFile,
  type WriteFlags,
} from "@dazzle/core";
import { LockTable } from "./lock-table.ts";

const S_IFMT = 0o170000;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const S_IFLNK = 0o120000;
const O_TRUNC = 0o1000;
const O_APPEND = 0o2000;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const FALLOC_ZERO_RANGE = 16;
const SEEK_DATA = 3;
/** Files are kept in pages, so that a sparse one costs what it holds. */
const PAGE = 64 * 1024;
const NAME_BYTES_MAX = 255;

export interface Node {
  readonly ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: number;
  atimeNs: bigint;
  mtimeNs: bigint;
  ctimeNs: bigint;
  readonly pages: Map<number, Buffer>;
  /** Of a directory, in the order of creation: the cookie of an entry is its number. */
  readonly children: Map<string, { ino: number; cookie: number }>;
  parent: number;
  target: string;
  readonly attributes: Map<string, Uint8Array>;
  references: number;
  opens: number;
}

/** A complete filesystem in memory, which answers everything at once. For tests and measurements. */
export class MemoryFileSystem implements FileSystem {
  readonly nodes = new Map<number, Node>();
  readonly locks = new LockTable();
  notifier: KernelNotifier | undefined;
  validMs = 1000;
  /** Of the names of anything but directories; undefined: as `validMs`. */
  fileNameValidMs: number | undefined;
  negativeValidMs = 0;
  #nextIno = 2;
  #nextHandle = 1;
  #nextCookie = 3;
  readonly #opens = new Map<number, number>();

  constructor() {
    this.#newNode(1, S_IFDIR | 0o777, 0, 0);
  }

  start(notifier: KernelNotifier): void {
    this.notifier = notifier;
  }

  lookup(_caller: Caller, parent: number, name: string): Answer<Entry> {
    const directory = this.#directory(parent);
    const ino = name === "." ? parent : name === ".." ? directory.parent : directory.children.get(name)?.ino;
    if (ino === undefined) {
      if (name.length > NAME_BYTES_MAX) throw new DazzleError("nameTooLong", name);
      if (this.negativeValidMs === 0) throw new DazzleError("notFound", name);
      return { attributes: { ...attributesOf(directory), ino: 0 }, attributesValidMs: 0, nameValidMs: this.negativeValidMs };
    }
    return this.#referenced(this.node(ino));
  }

  forget(ino: number, references: number): void {
    const node = this.nodes.get(ino);
    if (node === undefined) return;
    node.references -= references;
    if (node.references < 0) throw new Error(`inode ${ino} was forgotten more often than looked up`);
    this.#collect(node);
  }

  getAttributes(_caller: Caller, ino: number, _handle: number | undefined): Answer<Entry> {
    return this.#entry(this.node(ino));
  }

  setAttributes(_caller: Caller, ino: number, changes: AttributeChanges, _handle: number | undefined): Answer<Entry> {
    const node = this.node(ino);
    const now = nowNs();
    if (changes.mode !== undefined) node.mode = (node.mode & S_IFMT) | (changes.mode & 0o7777);
    if (changes.uid !== undefined) node.uid = changes.uid;
    if (changes.gid !== undefined) node.gid = changes.gid;
    if (changes.size !== undefined) this.#resize(node, changes.size);
    if (changes.killPrivileges) killPrivileges(node);
    if (changes.atimeNs !== undefined) node.atimeNs = changes.atimeNs === "now" ? now : changes.atimeNs;
    if (changes.mtimeNs !== undefined) node.mtimeNs = changes.mtimeNs === "now" ? now : changes.mtimeNs;
    node.ctimeNs = changes.ctimeNs ?? now;
    return this.#entry(node);
  }

  readLink(_caller: Caller, ino: number): Answer<string> {
    return this.node(ino).target;
  }

  makeNode(caller: Caller, parent: number, name: string, mode: number, rdev: number): Answer<Entry> {
    const node = this.#make(caller, parent, name, mode);
    node.rdev = rdev;
    return this.#referenced(node);
  }

  makeDirectory(caller: Caller, parent: number, name: string, mode: number): Answer<Entry> {
    return this.#referenced(this.#make(caller, parent, name, S_IFDIR | (mode & 0o7777)));
  }

  symlink(caller: Caller, parent: number, name: string, target: string): Answer<Entry> {
    const node = this.#make(caller, parent, name, S_IFLNK | 0o777);
    node.target = target;
    node.size = target.length;
    return this.#referenced(node);
  }

  link(_caller: Caller, ino: number, parent: number, name: string): Answer<Entry> {
    const node = this.node(ino);
    this.#insert(this.#directory(parent), name, node);
    node.nlink += 1;
    return this.#referenced(node);
  }

  unlink(_caller: Caller, parent: number, name: string): Answer<void> {
    const directory = this.#directory(parent);
    const node = this.#child(directory, name);
    if (isDirectory(node)) throw new DazzleError("isDirectory", name);
    this.#removeName(directory, name, node);
  }

  removeDirectory(_caller: Caller, parent: number, name: string): Answer<void> {
    const directory = this.#directory(parent);
    const node = this.#child(directory, name);
    if (!isDirectory(node)) throw new DazzleError("notDirectory", name);
    if (node.children.size > 0) throw new DazzleError("notEmpty", name);
    this.#removeName(directory, name, node);
  }

  rename(_caller: Caller, parent: number, name: string, newParent: number, newName: string, flags: number): Answer<void> {
    const from = this.#directory(parent);
    const to = this.#directory(newParent);
    const node = this.#child(from, name);
    const existing = to.children.get(newName);
    const replaced = existing === undefined ? undefined : this.node(existing.ino);
    if (flags & RENAME_EXCHANGE) {
      if (replaced === undefined) throw new DazzleError("notFound", newName);
      this.#place(from, name, replaced);
      this.#place(to, newName, node);
      return;
    }
    if (replaced !== undefined) {
      if (flags & RENAME_NOREPLACE) throw new DazzleError("exists", newName);
      if (replaced === node) return;
      if (isDirectory(replaced) && !isDirectory(node)) throw new DazzleError("isDirectory", newName);
      if (!isDirectory(replaced) && isDirectory(node)) throw new DazzleError("notDirectory", newName);
      if (replaced.children.size > 0) throw new DazzleError("notEmpty", newName);
      this.#removeName(to, newName, replaced);
    }
    from.children.delete(name);
    if (isDirectory(node)) {
      from.nlink -= 1;
      to.nlink += 1;
    }
    this.#place(to, newName, node);
    touch(from);
    touch(to);
    node.ctimeNs = nowNs();
  }

  open(_caller: Caller, ino: number, flags: number): Answer<OpenFile> {
    const node = this.node(ino);
    if (flags & O_TRUNC) this.#resize(node, 0);
    return this.#open(node, flags);
  }

  create(caller: Caller, parent: number, name: string, mode: number, flags: number): Answer<{ entry: Entry; file: OpenFile }> {
    const node = this.#make(caller, parent, name, S_IFREG | (mode & 0o7777));
    return { entry: this.#referenced(node), file: this.#open(node, flags) };
  }

  read(_caller: Caller, ino: number, handle: number, offset: number, length: number): Answer<readonly Uint8Array[]> {
    this.#checkHandle(ino, handle);
    const node = this.node(ino);
    const pieces: Uint8Array[] = [];
    const end = Math.min(offset + length, node.size);
    for (let at = offset; at < end; ) {
      const inPage = at % PAGE;
      const count = Math.min(PAGE - inPage, end - at);
      const page = node.pages.get(Math.floor(at / PAGE)) ?? ZEROS;
      pieces.push(page.subarray(inPage, inPage + count));
      at += count;
    }
    return pieces;
  }

  write(_caller: Caller, ino: number, handle: number, offset: number, data: Uint8Array, flags: WriteFlags): Answer<number> {
    this.#checkHandle(ino, handle);
    const node = this.node(ino);
    let at = flags.open & O_APPEND ? node.size : offset;
    for (let done = 0; done < data.length; ) {
      const inPage = at % PAGE;
      const count = Math.min(PAGE - inPage, data.length - done);
      this.#page(node, Math.floor(at / PAGE)).set(data.subarray(done, done + count), inPage);
      done += count;
      at += count;
    }
    node.size = Math.max(node.size, at);
    if (flags.killPrivileges) killPrivileges(node);
    touch(node);
    return data.length;
  }

  flush(_caller: Caller, ino: number, handle: number, lockOwner: bigint): Answer<void> {
    this.#checkHandle(ino, handle);
    this.locks.unlockAll(ino, "posix", lockOwner);
  }

  release(ino: number, handle: number, flockOwner: bigint | undefined): Answer<void> {
    this.#checkHandle(ino, handle);
    this.#opens.delete(handle);
    if (flockOwner !== undefined) this.locks.unlockAll(ino, "flock", flockOwner);
    const node = this.node(ino);
    node.opens -= 1;
    this.#collect(node);
  }

  fsync(_caller: Caller, ino: number, handle: number | undefined, _dataOnly: boolean): Answer<void> {
    if (handle !== undefined) this.#checkHandle(ino, handle);
  }

  openDirectory(_caller: Caller, ino: number): Answer<number> {
    this.#directory(ino).opens += 1;
    const handle = this.#nextHandle++;
    this.#opens.set(handle, ino);
    return handle;
  }

  readDirectory(
    _caller: Caller,
    ino: number,
    handle: number,
    cookie: number,
    limit: number,
    withAttributes: boolean,
  ): Answer<readonly DirectoryEntry[]> {
    this.#checkHandle(ino, handle);
    const directory = this.node(ino);
    const rows: DirectoryEntry[] = [];
    if (cookie < 1) rows.push({ name: ".", ino, type: S_IFDIR >> 12, cookie: 1 });
    if (cookie < 2) rows.push({ name: "..", ino: directory.parent, type: S_IFDIR >> 12, cookie: 2 });
    for (const [name, child] of directory.children) {
      if (rows.length >= limit) break;
      if (child.cookie <= cookie) continue;
      const node = this.node(child.ino);
      const row = { name, ino: child.ino, type: node.mode >> 12, cookie: child.cookie };
      rows.push(withAttributes ? { ...row, entry: this.#referenced(node) } : row);
    }
    return rows;
  }

  releaseDirectory(ino: number, handle: number): void {
    this.release(ino, handle, undefined);
  }

  fsyncDirectory(_caller: Caller, _ino: number, _dataOnly: boolean): Answer<void> {}

  statistics(_caller: Caller): Answer<FileSystemStatistics> {
    const blocks = { blocks: 1_000_000, freeBlocks: 750_000, availableBlocks: 700_000 };
    return { blockBytes: 4096, ...blocks, files: 100_000, freeFiles: 99_000, nameBytesMax: NAME_BYTES_MAX };
  }

  setExtendedAttribute(_caller: Caller, ino: number, name: string, value: Uint8Array, flags: number): Answer<void> {
    const { attributes } = this.node(ino);
    if (flags === 1 && attributes.has(name)) throw new DazzleError("exists", name);
    if (flags === 2 && !attributes.has(name)) throw new DazzleError("noAttribute", name);
    attributes.set(name, value);
  }

  getExtendedAttribute(_caller: Caller, ino: number, name: string): Answer<Uint8Array> {
    const value = this.node(ino).attributes.get(name);
    if (value === undefined) throw new DazzleError("noAttribute", name);
    return value;
  }

  listExtendedAttributes(_caller: Caller, ino: number): Answer<readonly string[]> {
    return [...this.node(ino).attributes.keys()];
  }

  removeExtendedAttribute(_caller: Caller, ino: number, name: string): Answer<void> {
    if (!this.node(ino).attributes.delete(name)) throw new DazzleError("noAttribute", name);
  }

  allocate(_caller: Caller, ino: number, _handle: number, mode: number, offset: number, length: number): Answer<void> {
    const node = this.node(ino);
    if (mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE))
      this.#zero(node, offset, offset + length >= node.size ? pageEnd(node.size) : offset + length);
    if (!(mode & FALLOC_KEEP_SIZE)) node.size = Math.max(node.size, offset + length);
  }

  seek(_caller: Caller, ino: number, _handle: number, offset: number, whence: number): Answer<number> {
    const node = this.node(ino);
    if (offset >= node.size) throw new DazzleError("notFound", "beyond the end");
    for (let at = offset; at < node.size; at = (Math.floor(at / PAGE) + 1) * PAGE) {
      if (node.pages.has(Math.floor(at / PAGE)) === (whence === SEEK_DATA)) return at;
    }
    if (whence === SEEK_DATA) throw new DazzleError("notFound", "no more data");
    return node.size;
  }

  getLock(_caller: Caller, ino: number, owner: bigint, range: LockRange): Answer<LockRange> {
    return this.locks.conflict(ino, "posix", owner, range) ?? { ...range, type: "unlock" };
  }

  setLock(caller: Caller, ino: number, _handle: number, owner: bigint, range: LockRange, wait: boolean, flock: boolean): Answer<void> {
    return this.locks.set(ino, flock ? "flock" : "posix", owner, range, wait, caller);
  }

  node(ino: number): Node {
    const node = this.nodes.get(ino);
    if (node === undefined) throw new DazzleError("notFound", `inode ${ino}`);
    return node;
  }

  /** The inode of a path below the root, for tests. */
  find(path: string): Node {
    let node = this.node(1);
    for (const name of path.split("/").filter(Boolean)) node = this.#child(node, name);
    return node;
  }

  #directory(ino: number): Node {
    const node = this.node(ino);
    if (!isDirectory(node)) throw new DazzleError("notDirectory", `inode ${ino}`);
    return node;
  }

  #child(directory: Node, name: string): Node {
    const child = directory.children.get(name);
    if (child === undefined) throw new DazzleError("notFound", name);
    return this.node(child.ino);
  }

  #newNode(ino: number, mode: number, uid: number, gid: number): Node {
    const now = nowNs();
    const times = { atimeNs: now, mtimeNs: now, ctimeNs: now };
    const node: Node = {
      ...{ ino, mode, uid, gid, rdev: 0, size: 0, nlink: (mode & S_IFMT) === S_IFDIR ? 2 : 1, ...times, parent: 1, target: "" },
      ...{ pages: new Map(), children: new Map(), attributes: new Map(), references: 0, opens: 0 },
    };
    this.nodes.set(ino, node);
    return node;
  }

  #make(caller: Caller, parent: number, name: string, mode: number): Node {
    const directory = this.#directory(parent);
    if (directory.children.has(name)) throw new DazzleError("exists", name);
    const node = this.#newNode(this.#nextIno++, mode, caller.uid, caller.gid);
    this.#insert(directory, name, node);
    if (isDirectory(node)) directory.nlink += 1;
    return node;
  }

  #insert(directory: Node, name: string, node: Node): void {
    if (name.length > NAME_BYTES_MAX) throw new DazzleError("nameTooLong", name);
    if (directory.children.has(name)) throw new DazzleError("exists", name);
    this.#place(directory, name, node);
    touch(directory);
  }

  #place(directory: Node, name: string, node: Node): void {
    directory.children.set(name, { ino: node.ino, cookie: this.#nextCookie++ });
    node.parent = directory.ino;
  }

  #removeName(directory: Node, name: string, node: Node): void {
    directory.children.delete(name);
    touch(directory);
    if (isDirectory(node)) {
      directory.nlink -= 1;
      node.nlink = 0;
    } else {
      node.nlink -= 1;
    }
    node.ctimeNs = nowNs();
    this.#collect(node);
  }

  #collect(node: Node): void {
    if (node.nlink === 0 && node.references === 0 && node.opens === 0) this.nodes.delete(node.ino);
  }

  #open(node: Node, flags: number): OpenFile {
    const handle = this.#nextHandle++;
    this.#opens.set(handle, node.ino);
    node.opens += 1;
    return { handle, keepCache: true, directIo: (flags & O_APPEND) !== 0 };
  }

  #checkHandle(ino: number, handle: number): void {
    if (this.#opens.get(handle) !== ino) throw new DazzleError("badHandle", `handle ${handle} of inode ${ino}`);
  }

  #page(node: Node, index: number): Buffer {
    const page = node.pages.get(index) ?? Buffer.alloc(PAGE);
    node.pages.set(index, page);
    return page;
  }

  #resize(node: Node, size: number): void {
    if (size < node.size) this.#zero(node, size, pageEnd(node.size));
    node.size = size;
    touch(node);
  }

  #zero(node: Node, start: number, end: number): void {
    for (const [index, page] of node.pages) {
      const from = Math.max(start - index * PAGE, 0);
      const to = Math.min(end - index * PAGE, PAGE);
      if (from >= to) continue;
      if (from === 0 && to === PAGE) node.pages.delete(index);
      else page.fill(0, from, to);
    }
  }

  #referenced(node: Node): Entry {
    node.references += 1;
    return this.#entry(node);
  }

  #entry(node: Node): Entry {
    const nameValidMs = isDirectory(node) ? this.validMs : (this.fileNameValidMs ?? this.validMs);
    return { attributes: attributesOf(node), attributesValidMs: this.validMs, nameValidMs };
  }
}

const ZEROS = Buffer.alloc(PAGE);

function attributesOf(node: Node): Attributes {
  const { ino, mode, nlink, uid, gid, rdev, size, atimeNs, mtimeNs, ctimeNs } = node;
  return { ino, mode, nlink, uid, gid, rdev, size, blocks: node.pages.size * (PAGE / 512), atimeNs, mtimeNs, ctimeNs };
}

function pageEnd(size: number): number {
  return Math.ceil(size / PAGE) * PAGE;
}

function isDirectory(node: Node): boolean {
  return (node.mode & S_IFMT) === S_IFDIR;
}

function touch(node: Node): void {
  node.mtimeNs = node.ctimeNs = nowNs();
}

function killPrivileges(node: Node): void {
  node.mode &= ~0o4000;
  if (node.mode & 0o010) node.mode &= ~0o2000;
}

function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

/** The same filesystem, every answer a turn of the event loop later: what a filesystem with a network behind it does. */
export function answeringLater(fileSystem: MemoryFileSystem): FileSystem {
  const immediate = new Set<PropertyKey>(["start", "forget", "releaseDirectory"]);
  return new Proxy(fileSystem, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property, target);
      if (typeof value !== "function") return value;
      if (immediate.has(property)) return value.bind(target);
      return async (...parameters: unknown[]): Promise<unknown> => {
        await new Promise<void>((resolve) => setImmediate(resolve));
        return value.apply(target, parameters);
      };
    },
  });
}
