import { type Attributes, BLOCK_BYTES, type Entry, type Inode } from "@dazzle/core";
import { isRegular, type Node } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";

const SECTORS_PER_BLOCK = BLOCK_BYTES / 512;

/** What the kernel is told of names and attributes, and for how long it may keep that. */
export class Entries {
  readonly #objects: ObjectTable;
  readonly #validMs: (ino: number) => number;

  /** `validMs`: never past the lease. */
  constructor(options: { objects: ObjectTable; validMs: (ino: number) => number }) {
    this.#objects = options.objects;
    this.#validMs = options.validMs;
  }

  /** What the kernel is dropping, for another mount, is not to be cached any more. */
  of(node: Node): Entry {
    return {
      attributes: attributesOf(node.inode),
      attributesValidMs: node.dropping ? 0 : this.#validMs(node.ino),
      nameValidMs: 0,
    };
  }

  /** Not to be cached: as it was a moment ago where another mount changes it; or in an answer that the kernel takes without a look at whether it was told
   * meanwhile to drop what it knows (SETATTR, LINK). */
  uncached(inode: Inode): Entry {
    return { attributes: attributesOf(inode), attributesValidMs: 0, nameValidMs: 0 };
  }

  /** An entry that the kernel takes as one lookup. */
  referred(node: Node, parent: number): Entry {
    this.#objects.refer(node.ino);
    return { ...this.of(node), nameValidMs: this.#nameValidMs(parent) };
  }

  uncachedByName(inode: Inode, parent: number): Entry {
    this.#objects.refer(inode.ino);
    return { ...this.uncached(inode), nameValidMs: this.#nameValidMs(parent) };
  }

  absent(parent: number): Entry {
    const attributes = { ino: 0, mode: 0, nlink: 0, uid: 0, gid: 0, rdev: 0, size: 0, blocks: 0, atimeNs: 0n, mtimeNs: 0n, ctimeNs: 0n };
    return { attributes, attributesValidMs: 0, nameValidMs: this.#objects.cache.mayCacheAbsence ? this.#nameValidMs(parent) : 0 };
  }

  /** How long the kernel may keep a name of this directory, or that there is none. */
  #nameValidMs(parent: number): number {
    const node = this.#objects.cached(parent, false);
    if (node?.directory == null || node.revoking !== null || !this.#objects.cache.mayCacheNames(parent)) return 0;
    node.directory.shown = true;
    return this.#validMs(parent);
  }
}

function attributesOf(inode: Inode): Attributes {
  const { ino, mode, nlink, uid, gid, rdev, size, allocatedBlocks, atimeNs, mtimeNs, ctimeNs } = inode;
  const blocks = isRegular(mode) ? allocatedBlocks * SECTORS_PER_BLOCK : 0;
  return { ino, mode, nlink, uid, gid, rdev, size, blocks, atimeNs, mtimeNs, ctimeNs };
}
