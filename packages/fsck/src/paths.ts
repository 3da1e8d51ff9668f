import { decodeInode, ROOT, slotOf } from "@dazzle/core";
import { behindKey, behindPrefix, EntryKind, idKey, keyName, unpackEntry } from "@dazzle/manager";
import type { Imaps } from "./imaps.ts";

/** Deeper than any path that the kernel takes. */
const DEPTH_MAX = 4_096;

/** Finds the names of files, as far as the directories that hold them can be read. */
export class Paths {
  readonly #imaps: Imaps;
  /** Of directories. */
  readonly #known = new Map<number, string | undefined>([[ROOT, ""]]);

  constructor(imaps: Imaps) {
    this.#imaps = imaps;
  }

  /** One of the file's paths, from the root, of latin1 characters. */
  async of(ino: number): Promise<string | undefined> {
    if (ino === ROOT) return "/";
    return this.#find(ino, DEPTH_MAX);
  }

  async #find(ino: number, depth: number): Promise<string | undefined> {
    if (depth === 0) return undefined;
    const inode = await this.#inode(ino);
    if (inode === undefined) return undefined;
    const { parent } = decodeInode(inode);
    const name = await this.#nameIn(parent, ino);
    if (name === undefined) return undefined;
    if (!this.#known.has(parent)) {
      // A loop ends here.
      this.#known.set(parent, undefined);
      this.#known.set(parent, await this.#find(parent, depth - 1));
    }
    const above = this.#known.get(parent);
    return above === undefined ? undefined : `${above}/${name}`;
  }

  async #inode(ino: number): Promise<Buffer | undefined> {
    const key = idKey(EntryKind.inode, ino);
    return (await this.#imaps.first(slotOf(ino), idKey(EntryKind.inode, ino - 1), behindKey(key)))?.[1];
  }

  async #nameIn(directory: number, ino: number): Promise<string | undefined> {
    const prefix = idKey(EntryKind.entry, directory);
    for await (const [key, value] of this.#imaps.entries(slotOf(directory), prefix, behindPrefix(prefix)))
      if (unpackEntry(value).child === ino) return keyName(key);
    return undefined;
  }
}
