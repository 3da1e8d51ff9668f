import { type Clock, type Inode, packInode, ROOT } from "@dazzle/core";
import { EntryKind, idKey, nameKey, packEntry, unpackEntry } from "@dazzle/manager";
import type { Amender } from "./amender.ts";
import { entryOf, inodeOf, type KeptInode } from "./imap-reads.ts";
import type { Imaps } from "./imaps.ts";

const NAME = "lost+found";
/** Index numbers that are never given out, and not the root's. */
const NUMBERS = { first: 2, end: 64 } as const;
const NAMES_MAX = 10;

const DIRECTORY = 4;
export const DIRECTORY_MODE = 0o40700;

/** A new index node of root's, without attributes. */
export function newInode(clock: Clock, ino: number, is: Pick<Inode, "mode" | "nlink" | "size" | "allocatedBlocks" | "parent">): Inode {
  const now = clock.wallTimeNs();
  const times = { atimeNs: now, mtimeNs: now, ctimeNs: now, birthNs: now };
  return { ino, uid: 0, gid: 0, rdev: 0, truncateEpoch: 0, noAttributes: false, target: "", ...times, ...is };
}

/** The directory /lost+found, where what no name leads to gets its index number for a name. */
export class LostAndFound {
  readonly #imaps: Imaps;
  readonly #amender: Amender;
  readonly #clock: Clock;

  constructor(options: { imaps: Imaps; amender: Amender; clock: Clock }) {
    this.#imaps = options.imaps;
    this.#amender = options.amender;
    this.#clock = options.clock;
  }

  /** Its index number; it is made where it is not there. Undefined where it can't be: there is no root, or the name is another's. */
  async find(): Promise<number | undefined> {
    const entry = await entryOf(this.#imaps, ROOT, NAME);
    if (entry === undefined) return await this.#make();
    const { child, type } = unpackEntry(entry.value);
    return type === DIRECTORY && (await inodeOf(this.#imaps, child)) !== undefined ? child : undefined;
  }

  async #make(): Promise<number | undefined> {
    const root = await inodeOf(this.#imaps, ROOT);
    if (root === undefined) return undefined;
    for (let ino = NUMBERS.first; ino < NUMBERS.end; ino++) {
      if ((await inodeOf(this.#imaps, ino)) !== undefined) continue;
      const inode = newInode(this.#clock, ino, { mode: DIRECTORY_MODE, nlink: 2, size: 0, allocatedBlocks: 0, parent: ROOT });
      const made = await this.#amender.ofNumber(ino, [{ key: idKey(EntryKind.inode, ino), seen: null, put: packInode(inode) }]);
      return made && (await this.#name(ROOT, root, NAME, ino, DIRECTORY)) ? ino : undefined;
    }
    return undefined;
  }

  /** Gives what has no name one, and answers it: undefined where something changed meanwhile. */
  async take(lostAndFound: number, ino: number, type: number): Promise<string | undefined> {
    for (let attempt = 0; attempt < NAMES_MAX; attempt++) {
      const name = attempt === 0 ? `${ino}` : `${ino}.${attempt}`;
      if ((await entryOf(this.#imaps, lostAndFound, name)) !== undefined) continue;
      const directory = await inodeOf(this.#imaps, lostAndFound);
      const isNamed = directory !== undefined && (await this.#name(lostAndFound, directory, name, ino, type));
      return isNamed ? `/${NAME}/${name}` : undefined;
    }
    return undefined;
  }

  #name(directory: number, { key, value, inode }: KeptInode, name: string, child: number, type: number): Promise<boolean> {
    const now = this.#clock.wallTimeNs();
    const nlink = inode.nlink + (type === DIRECTORY ? 1 : 0);
    return this.#amender.ofNumber(directory, [
      { key, seen: value, put: packInode({ ...inode, nlink, mtimeNs: now, ctimeNs: now }) },
      { key: nameKey(EntryKind.entry, directory, name), seen: null, put: packEntry({ child, type }) },
    ]);
  }
}
