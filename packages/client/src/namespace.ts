import {
  ATTRIBUTE_VALUE_BYTES_MAX,
  type Caller,
  type Clock,
  DazzleError,
  type Inode,
  joined,
  LINKS_MAX,
  NAME_BYTES_MAX,
  SLOTS,
  SYMLINK_BYTES_MAX,
  slotOf,
  unpackAttributes,
} from "@dazzle/core";
import type { SpaceCredits } from "@dazzle/log";
import type { Directories } from "./directory.ts";
import type { Handles } from "./handles.ts";
import type { IndexNumbers } from "./index-numbers.ts";
import type { Journal } from "./journal.ts";
import { Needs, NeedsRoom, NeedsToken } from "./needs.ts";
import { type Child, isDirectory, isRegular, type Node, S_IFLNK } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";
import type { SlotLink } from "./slot-link.ts";

const S_ISGID = 0o2000;
/** What a new name takes of the logs, for the space credits. */
const CREATE_BYTES = 1_024;
const RENAME_NOREPLACE = 1;
const RENAME_EXCHANGE = 2;
const XATTR_CREATE = 1;
const XATTR_REPLACE = 2;
const ANCESTORS_MAX = 10_000;

/** Space credits taken once for an operation, however often it is attempted. */
export class Charge {
  readonly #space: SpaceCredits;
  #taken = false;

  constructor(space: SpaceCredits) {
    this.#space = space;
  }

  take(bytes: number): void {
    if (this.#taken) return;
    if (!this.#space.tryTake(bytes)) {
      throw new Needs(async () => {
        await this.#space.take(bytes);
        this.#taken = true;
      });
    }
    this.#taken = true;
  }
}

/** Operations on names. Each is one attempt (see `answer`): it finds what it needs, then changes memory in the same turn. */
export class Namespace {
  readonly #mount: number;
  readonly #objects: ObjectTable;
  readonly #directories: Directories;
  readonly #journal: Journal;
  readonly #handles: Handles;
  readonly #numbers: IndexNumbers;
  readonly #links: (ino: number) => SlotLink;
  readonly #clock: Clock;
  readonly #localSlots: () => readonly number[];
  #nextDirectorySlot = 0;

  constructor(options: {
    mount: number;
    objects: ObjectTable;
    directories: Directories;
    journal: Journal;
    handles: Handles;
    numbers: IndexNumbers;
    links: (ino: number) => SlotLink;
    clock: Clock;
    /** Slots whose manager is on this machine, where new directories go (xFS's First Writer). */
    localSlots: () => readonly number[];
  }) {
    this.#mount = options.mount;
    this.#objects = options.objects;
    this.#directories = options.directories;
    this.#journal = options.journal;
    this.#handles = options.handles;
    this.#numbers = options.numbers;
    this.#links = options.links;
    this.#clock = options.clock;
    this.#localSlots = options.localSlots;
  }

  /** The node under a token that suffices. Throws `Needs`, or `notFound` once it was asked for. */
  node(ino: number, exclusive: boolean): Node {
    const node = this.#objects.cached(ino, exclusive);
    if (node === undefined) throw new NeedsToken(this.#objects, ino, exclusive);
    return node;
  }

  /** The node under any token: for what stays while other mounts write parts of the file. */
  present(ino: number): Node {
    return this.#objects.present(ino) ?? this.node(ino, false);
  }

  /** Throws where no change can be logged now. Called by every attempt that changes something, before it does. */
  room(): void {
    if (!this.#journal.admits()) throw new NeedsRoom(this.#journal);
  }

  /** The child of that name, or null. */
  find(parent: number, name: string): Child | null {
    return this.#directories.find(this.node(parent, false), name);
  }

  #existing(directory: Node, name: string): Child {
    const child = this.#directories.find(directory, name);
    if (child === null) throw new DazzleError("notFound", name);
    return child;
  }

  #now(): bigint {
    return this.#clock.wallTimeNs();
  }

  touch(node: Node, now: bigint): void {
    node.inode.mtimeNs = now;
    node.inode.ctimeNs = now;
    this.#journal.markInode(node);
  }

  change(node: Node, now: bigint): void {
    node.inode.ctimeNs = now;
    this.#journal.markInode(node);
  }

  #setName(directory: Node, name: string, child: Child): void {
    this.#directories.state(directory).set(name, child);
    this.#journal.markName(directory, name);
  }

  #removeName(directory: Node, name: string): void {
    this.#directories.state(directory).remove(name);
    this.#journal.markName(directory, name);
  }

  #number(parent: number, directory: boolean): number {
    const local = directory ? this.#localSlots() : [];
    const slot =
      local.length > 0
        ? (local[this.#nextDirectorySlot++ % local.length] as number)
        : directory
          ? this.#nextDirectorySlot++ % SLOTS
          : slotOf(parent);
    const number = this.#numbers.take(slot);
    if (number !== undefined) return number;
    // The next attempt must find what this one asks for.
    if (directory) this.#nextDirectorySlot--;
    throw new Needs(() => this.#numbers.lease(slot));
  }

  /** A new file of any type. Throws `exists`. */
  make(caller: Caller, parent: number, name: string, mode: number, rdev: number, target: string, charge: Charge): Node {
    const directory = this.node(parent, true);
    if (this.#directories.find(directory, name) !== null) throw new DazzleError("exists", name);
    if (directory.inode.nlink === 0) throw new DazzleError("notFound", name);
    if (target.length > SYMLINK_BYTES_MAX) throw new DazzleError("nameTooLong", `a target of ${target.length} bytes`);
    const isNewDirectory = isDirectory(mode);
    if (isNewDirectory && directory.inode.nlink >= LINKS_MAX) throw new DazzleError("tooManyLinks", name);
    charge.take(CREATE_BYTES);
    this.room();
    const ino = this.#number(parent, isNewDirectory);
    const now = this.#now();
    const inherits = (directory.inode.mode & S_ISGID) !== 0;
    const inode: Inode = {
      ino,
      mode: isNewDirectory && inherits ? mode | S_ISGID : mode,
      nlink: isNewDirectory ? 2 : 1,
      uid: caller.uid,
      gid: inherits ? directory.inode.gid : caller.gid,
      rdev,
      size: target.length,
      allocatedBlocks: 0,
      parent,
      truncateEpoch: 0,
      noAttributes: true,
      atimeNs: now,
      mtimeNs: now,
      ctimeNs: now,
      birthNs: now,
      target,
    };
    const node = this.#objects.create(inode);
    this.#journal.markInode(node);
    this.#setName(directory, name, { ino, type: mode >> 12 });
    if (isNewDirectory) directory.inode.nlink++;
    this.touch(directory, now);
    return node;
  }

  symlink(caller: Caller, parent: number, name: string, target: string, charge: Charge): Node {
    return this.make(caller, parent, name, S_IFLNK | 0o777, 0, target, charge);
  }

  link(ino: number, parent: number, name: string, charge: Charge): Node {
    const directory = this.node(parent, true);
    const node = this.node(ino, true);
    if (isDirectory(node.inode.mode)) throw new DazzleError("notPermitted", "a directory has one name");
    if (node.inode.nlink === 0) throw new DazzleError("notFound", `index number ${ino}`);
    if (node.inode.nlink >= LINKS_MAX) throw new DazzleError("tooManyLinks", name);
    if (this.#directories.find(directory, name) !== null) throw new DazzleError("exists", name);
    charge.take(CREATE_BYTES);
    this.room();
    const now = this.#now();
    node.inode.nlink++;
    this.change(node, now);
    this.#setName(directory, name, { ino, type: node.inode.mode >> 12 });
    this.touch(directory, now);
    return node;
  }

  unlink(parent: number, name: string): void {
    const directory = this.node(parent, true);
    const node = this.node(this.#existing(directory, name).ino, true);
    if (isDirectory(node.inode.mode)) throw new DazzleError("isDirectory", name);
    this.room();
    const now = this.#now();
    this.#removeName(directory, name);
    this.touch(directory, now);
    this.#dropLink(node, now);
  }

  removeDirectory(parent: number, name: string): void {
    const directory = this.node(parent, true);
    const node = this.node(this.#existing(directory, name).ino, true);
    if (!isDirectory(node.inode.mode)) throw new DazzleError("notDirectory", name);
    this.#assertEmpty(node, name);
    this.room();
    const now = this.#now();
    this.#removeName(directory, name);
    directory.inode.nlink--;
    this.touch(directory, now);
    this.#dropDirectory(node, now);
  }

  #assertEmpty(node: Node, name: string): void {
    const state = this.#directories.state(node);
    if (state.names.size > 0) throw new DazzleError("notEmpty", name);
    if (!state.complete) throw new Needs(() => this.#directories.load(node));
  }

  /** A name of a file went away. The last one takes the file with it, unless somebody has it open: then it is an orphan until `closed`. */
  #dropLink(node: Node, now: bigint): void {
    node.inode.nlink--;
    if (node.inode.nlink === 0) this.#dropLast(node, now);
    else this.change(node, now);
  }

  #dropDirectory(node: Node, now: bigint): void {
    node.inode.nlink = 0;
    this.#dropLast(node, now);
  }

  #dropLast(node: Node, now: bigint): void {
    const openHere = this.#handles.isOpen(node.ino);
    if (!openHere && !node.openElsewhere) {
      this.#objects.remove(node);
      return;
    }
    this.change(node, now);
    // Those who had it open may have closed it since: the manager knows.
    if (!openHere) this.#objects.tellClosed(node.ino);
  }

  /** A handle was closed: the last one takes an unlinked file with it, where no other mount has one. Where that is not known here, the
   * manager is told. */
  closed(ino: number): void {
    if (this.#handles.isOpen(ino)) return;
    const node = this.#objects.cached(ino, true);
    if (node === undefined || node.inode.nlink > 0 || node.removed || node.openElsewhere) {
      this.#objects.closed(ino);
      return;
    }
    this.room();
    this.#objects.remove(node);
    this.#objects.closed(ino);
  }

  rename(parent: number, name: string, newParent: number, newName: string, flags: number): void {
    const from = this.node(parent, true);
    const to = this.node(newParent, true);
    const node = this.node(this.#existing(from, name).ino, true);
    const replacedChild = this.#directories.find(to, newName);
    if (to.inode.nlink === 0) throw new DazzleError("notFound", newName);
    if ((flags & RENAME_NOREPLACE) !== 0 && replacedChild !== null) throw new DazzleError("exists", newName);
    const replaced = replacedChild === null ? null : this.node(replacedChild.ino, true);
    if ((flags & RENAME_EXCHANGE) !== 0) {
      if (replaced === null) throw new DazzleError("notFound", newName);
      this.#exchange(from, name, node, to, newName, replaced);
      return;
    }
    if (replaced === node) return;
    const moves = isDirectory(node.inode.mode);
    if (replaced !== null) {
      if (moves && !isDirectory(replaced.inode.mode)) throw new DazzleError("notDirectory", newName);
      if (!moves && isDirectory(replaced.inode.mode)) throw new DazzleError("isDirectory", newName);
      if (moves) this.#assertEmpty(replaced, newName);
    }
    if (moves && from !== to) this.#assertNotBelow(to, node);
    this.room();
    const now = this.#now();
    this.#removeName(from, name);
    this.#setName(to, newName, { ino: node.ino, type: node.inode.mode >> 12 });
    this.#movesItsOwn(to);
    node.inode.parent = newParent;
    this.change(node, now);
    if (moves && from !== to) {
      from.inode.nlink--;
      to.inode.nlink++;
    }
    if (replaced !== null) {
      if (isDirectory(replaced.inode.mode)) {
        to.inode.nlink--;
        this.#dropDirectory(replaced, now);
      } else this.#dropLink(replaced, now);
    }
    this.touch(from, now);
    this.touch(to, now);
  }

  /** The kernel moves a name that it caches by itself, for as long as it may cache it where it was. */
  #movesItsOwn(directory: Node): void {
    this.#directories.state(directory).shown = true;
  }

  #exchange(from: Node, name: string, node: Node, to: Node, newName: string, other: Node): void {
    if (from !== to) {
      if (isDirectory(node.inode.mode)) this.#assertNotBelow(to, node);
      if (isDirectory(other.inode.mode)) this.#assertNotBelow(from, other);
    }
    this.room();
    const now = this.#now();
    this.#setName(from, name, { ino: other.ino, type: other.inode.mode >> 12 });
    this.#setName(to, newName, { ino: node.ino, type: node.inode.mode >> 12 });
    this.#movesItsOwn(from);
    this.#movesItsOwn(to);
    node.inode.parent = to.ino;
    other.inode.parent = from.ino;
    if (from !== to) {
      const moved = (isDirectory(node.inode.mode) ? 1 : 0) - (isDirectory(other.inode.mode) ? 1 : 0);
      from.inode.nlink -= moved;
      to.inode.nlink += moved;
    }
    this.change(node, now);
    this.change(other, now);
    this.touch(from, now);
    this.touch(to, now);
  }

  /** A directory never moves below itself. */
  #assertNotBelow(directory: Node, moved: Node): void {
    let at = directory;
    for (let depth = 0; depth < ANCESTORS_MAX; depth++) {
      if (at === moved) throw new DazzleError("invalid", "a directory can't be moved below itself");
      if (at.ino === at.inode.parent) return;
      at = this.node(at.inode.parent, false);
    }
    throw new DazzleError("invalid", `a directory lies over ${ANCESTORS_MAX} levels deep`);
  }

  /** A file's extended attributes. Throws `Needs` where they must be asked for. */
  attributes(node: Node): Map<string, Uint8Array> {
    if (node.attributes === null) throw new Needs(() => this.#loadAttributes(node));
    return node.attributes;
  }

  async #loadAttributes(node: Node): Promise<void> {
    await this.#objects.underToken(node, async () => {
      const { tail } = await this.#links(node.ino).call("attributes", { mount: this.#mount, ino: node.ino });
      node.attributes ??= unpackAttributes(joined(tail));
    });
  }

  setAttribute(ino: number, name: string, value: Uint8Array, flags: number, charge: Charge): void {
    if (name.length > NAME_BYTES_MAX) throw new DazzleError("outOfRange", `an attribute name of ${name.length} bytes`);
    if (value.byteLength > ATTRIBUTE_VALUE_BYTES_MAX) throw new DazzleError("tooBig", `an attribute of ${value.byteLength} bytes`);
    const node = this.node(ino, true);
    const attributes = this.attributes(node);
    if ((flags & XATTR_CREATE) !== 0 && attributes.has(name)) throw new DazzleError("exists", name);
    if ((flags & XATTR_REPLACE) !== 0 && !attributes.has(name)) throw new DazzleError("noAttribute", name);
    charge.take(CREATE_BYTES + value.byteLength);
    this.room();
    attributes.set(name, Uint8Array.prototype.slice.call(value));
    node.inode.noAttributes = false;
    this.#journal.markAttribute(node, name);
    this.change(node, this.#now());
  }

  removeAttribute(ino: number, name: string): void {
    const node = this.node(ino, true);
    if (!this.attributes(node).has(name)) throw new DazzleError("noAttribute", name);
    this.room();
    this.attributes(node).delete(name);
    this.#journal.markAttribute(node, name);
    this.change(node, this.#now());
  }

  /** The mode after the set-id bits are dropped, as a write by another does. */
  static withoutSetId(mode: number): number {
    const groupExecutes = (mode & 0o10) !== 0;
    return isRegular(mode) ? mode & ~(groupExecutes ? 0o6000 : 0o4000) : mode;
  }
}
