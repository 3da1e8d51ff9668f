import { type Address, assert, type Deferred, type Inode, REGION_BLOCKS, type RegionRange, WHOLE_FILE } from "@dazzle/core";
import { ExtentMap } from "./extent-map.ts";
import type { Held } from "./holds.ts";
import type { ShelvedNames } from "./name-shelf.ts";

/** `range`: a part of a file is here alone, while other mounts have other parts. */
export type Token = "none" | "shared" | "exclusive" | "range";

export type MutableInode = { -readonly [Field in keyof Inode]: Inode[Field] };

export interface Child {
  readonly ino: number;
  /** `mode >> 12`. */
  readonly type: number;
}

/** Behind every name: names are bytes. */
const ALL_NAMES = "\u0100";

/** A directory's names, as far as they are known here. */
export class DirectoryState {
  #names = new Map<string, Child>();
  /** Up to here, by name bytes, every name is known. */
  #knownTo = "";
  /** Changed since the last seal: the new child, or null where the name was removed. */
  readonly dirty = new Map<string, Child | null>();
  /** Names known not to be there, behind `knownTo`. Bounded by ABSENT_MAX. */
  readonly #absent = new Set<string>();
  /** Collect the names that change while an answer is on its way. */
  readonly watchers = new Set<Set<string>>();
  /** What was known when the token was here before.
   * INVARIANT: nothing was asked or changed as long as it is here. */
  shelved: ShelvedNames | null = null;
  /** The kernel may have cached some of the names, or that they are not there. */
  shown = false;

  constructor(complete: boolean) {
    if (complete) this.#knownTo = ALL_NAMES;
  }

  /** Known names; with `complete`, all of them. */
  get names(): ReadonlyMap<string, Child> {
    return this.#names;
  }

  get complete(): boolean {
    return this.#knownTo === ALL_NAMES;
  }

  get knownTo(): string {
    return this.#knownTo;
  }

  /** The child of that name, null where there is none, undefined where it is not known here. */
  find(name: string): Child | null | undefined {
    const child = this.#names.get(name);
    if (child !== undefined) return child;
    return name <= this.#knownTo || this.#absent.has(name) ? null : undefined;
  }

  /** A manager answered it. */
  learn(name: string, child: Child): void {
    this.#names.set(name, child);
  }

  noteAbsent(name: string): void {
    if (this.#absent.size >= ABSENT_MAX) this.#absent.clear();
    this.#absent.add(name);
  }

  /** Every name up to this one was learned; all of them where none is told. */
  learnedTo(name = ALL_NAMES): void {
    this.#knownTo = name;
    if (this.complete) this.#absent.clear();
  }

  set(name: string, child: Child): void {
    this.#names.set(name, child);
    this.#absent.delete(name);
    this.#changed(name, child);
  }

  remove(name: string): void {
    this.#names.delete(name);
    if (name > this.#knownTo) this.noteAbsent(name);
    this.#changed(name, null);
  }

  #changed(name: string, child: Child | null): void {
    assert(this.shelved === null, "names are known before they are changed");
    this.dirty.set(name, child);
    for (const watcher of this.watchers) watcher.add(name);
  }

  /** What is known, for the next time when the token is here; null where that is little. `since`: see `ShelvedNames`. Nothing is known here then:
   * answers may still be on their way. */
  shelve(since: number): ShelvedNames | null {
    const shelved = this.shelved ?? (this.#knownTo === "" ? null : { names: this.#names, knownTo: this.#knownTo, since });
    this.shelved = null;
    this.#names = new Map();
    this.#knownTo = "";
    return shelved;
  }

  /** Takes what was known before, and what has changed since. Null: the name is gone. */
  recall({ names, knownTo }: ShelvedNames, changes: Iterable<readonly [string, Child | null]>): void {
    assert(this.#names.size === 0 && this.#knownTo === "" && this.dirty.size === 0, "names are recalled before any is known");
    for (const [name, child] of changes) {
      if (child === null) names.delete(name);
      else names.set(name, child);
    }
    this.#names = names;
    this.#knownTo = knownTo;
  }
}

const ABSENT_MAX = 10_000;

/** Changes of a file's data since the last seal, beyond the blocks that lie in the open segment. */
export interface PendingCuts {
  /** Bytes from here to the end were dropped; FILE_END: none. */
  truncateFrom: number;
  /** Whole blocks dropped, `[from, to)` in bytes. */
  punched: Array<readonly [number, number]>;
}

/** One file, directory or link in memory, under a token. */
export class Node implements Held {
  readonly ino: number;
  readonly inode: MutableInode;
  token: Token;
  /** What of the file the token covers: all of it but under a `range`. What the index node says of size and times is then what is known here: it may be more. */
  range: RegionRange = WHOLE_FILE;
  /** The last write here. */
  written: { readonly region: number; readonly atMs: number } | null = null;
  /** Set where the index node itself changed since the last seal. */
  inodeDirty = false;
  /** Whether any segment holds this node: one that was made and removed within one segment is never logged. */
  logged: boolean;
  removed = false;
  /** Set until a segment holds that it is removed. */
  removalDirty = false;
  /** Another mount had it open when the token was granted: it outlives its last name. */
  openElsewhere = false;
  /** The last sequence whose transaction names this node; 0: none of this mount. */
  lastSequence = 0;
  /** Second chance of the eviction clock. */
  touched = true;
  readonly directory: DirectoryState | null;
  /** Mounts that may have bytes of it in memory. */
  caches: readonly Address[] = [];
  readonly extents: ExtentMap;
  cuts: PendingCuts | null = null;
  /** Blocks written in the open segment lie in here: `from <= block < to`. */
  openFrom = Number.POSITIVE_INFINITY;
  openTo = 0;
  /** The short block that was last placed with a whole block's room to grow in, and the segment it lies in. */
  roomBlock = -1;
  roomSequence = 0;
  attributes: Map<string, Uint8Array> | null;
  readonly attributesDirty = new Set<string>();
  /** While a revoke is on: resolves when the token is given back. */
  revoking: Promise<void> | null = null;
  /** The kernel drops what it cached of it: what it is told from now on it may not cache. */
  dropping = false;
  /** The token is on its way back: the node is not to be used any more. */
  leaving = false;
  pins = 0;
  heldUntilMs = 0;
  usedMs = 0;
  unpinned: Deferred<void> | null = null;

  /** `fresh`: made here just now, so that nothing about it has to be asked for. */
  constructor(inode: Inode, token: Token, fresh: boolean) {
    assert(token !== "none", `index number ${inode.ino} is cached under a token`);
    this.ino = inode.ino;
    this.inode = { ...inode };
    this.token = token;
    this.logged = !fresh;
    this.directory = isDirectory(inode.mode) ? new DirectoryState(fresh) : null;
    this.extents = new ExtentMap(fresh);
    this.attributes = fresh || inode.noAttributes ? new Map() : null;
  }

  get dirty(): boolean {
    return (
      this.inodeDirty ||
      this.removalDirty ||
      this.openTo > 0 ||
      this.cuts !== null ||
      this.attributesDirty.size > 0 ||
      (this.directory !== null && this.directory.dirty.size > 0)
    );
  }

  /** All is settled. From now on only this part of the file is here. */
  narrow(kept: RegionRange): void {
    this.token = "range";
    this.range = kept;
  }

  checkInvariants(): void {
    // INVARIANT: what is cached is under a token, what is changed under an exclusive one, or under a range where only that was written.
    assert(this.token !== "none", `index number ${this.ino} is cached without a token`);
    assert(!this.dirty || this.token !== "shared", `index number ${this.ino} is changed under a shared token`);
    if (this.token !== "range") return;
    const { inodeDirty, openTo, openFrom, cuts, removalDirty, attributesDirty } = this;
    const isWritten = cuts === null && !removalDirty && attributesDirty.size === 0 && (openTo === 0 || inodeDirty);
    assert(isWritten, `index number ${this.ino} is only written under a range`);
    const { from, to } = this.range;
    const within = openTo === 0 || (openFrom >= from * REGION_BLOCKS && openTo <= to * REGION_BLOCKS);
    assert(within, `index number ${this.ino} is written within its range ${from}-${to}`);
  }
}

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;

export function isDirectory(mode: number): boolean {
  return (mode & S_IFMT) === S_IFDIR;
}

export function isRegular(mode: number): boolean {
  return (mode & S_IFMT) === S_IFREG;
}
