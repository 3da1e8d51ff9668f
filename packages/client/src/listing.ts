import { type DirectoryEntry, type Entry, isDazzleError } from "@dazzle/core";
import type { Directories } from "./directory.ts";
import type { Handle, ListedName } from "./handles.ts";
import { Needs, NeedsElsewhere } from "./needs.ts";
import { type Node, S_IFDIR } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";
import type { SlotLink } from "./slot-link.ts";

/** Directory cookies: 1 and 2 are "." and "..", the name at place i of the handle's list is i + 3. */
const FIRST_NAME_COOKIE = 3;
/** Index nodes asked for at once, one by one. */
const NODES_AT_ONCE = 256;

/** Reading directories, page by page. */
export class Listing {
  readonly #objects: ObjectTable;
  readonly #directories: Directories;
  readonly #links: (ino: number) => SlotLink;

  constructor(options: { objects: ObjectTable; directories: Directories; links: (ino: number) => SlotLink }) {
    this.#objects = options.objects;
    this.#directories = options.directories;
    this.#links = options.links;
  }

  /** A directory is read from its start again: before the first attempt to. */
  static begin(handle: Handle): void {
    handle.names = null;
    handle.nodesAsked = 0;
  }

  /** The next entries of an open directory. Part of an attempt. `entryOf`: where entries are to come with attributes, as far as the
   * index node is here. */
  page(handle: Handle, node: Node, cookie: number, limit: number, entryOf: ((child: Node) => Entry) | null): readonly DirectoryEntry[] {
    const state = this.#directories.state(node);
    if (handle.names === null) {
      if (!state.complete) throw new Needs(() => this.#directories.load(node));
      handle.names = sorted([...state.names].map(([name, child]) => ({ name, child })));
    }
    const entries: DirectoryEntry[] = [];
    if (cookie < 1) entries.push({ name: ".", ino: node.ino, type: S_IFDIR >> 12, cookie: 1 });
    if (cookie < 2) entries.push({ name: "..", ino: node.inode.parent, type: S_IFDIR >> 12, cookie: 2 });
    const from = Math.max(0, cookie - FIRST_NAME_COOKIE + 1);
    if (entryOf !== null) this.#needNodes(handle, node, from, Math.min(handle.names.length, from + limit));
    for (let place = from; place < handle.names.length && entries.length < limit; place++) {
      const { name, child } = handle.names[place] as ListedName;
      // It may have been removed since, or something else may be there.
      const now = state.find(name);
      if (now !== undefined && now?.ino !== child.ino) continue;
      const listed = { name, ino: child.ino, type: child.type, cookie: place + FIRST_NAME_COOKIE };
      const cached = entryOf === null ? undefined : this.#objects.cached(child.ino, false);
      entries.push(cached === undefined || entryOf === null ? listed : { ...listed, entry: entryOf(cached) });
    }
    return entries;
  }

  /** Brings the index nodes of names `from … to` into memory where one is missing: asked for once. Those that another mount has in a
   * way that conflicts are listed without attributes: the kernel looks them up if it wants to know. */
  #needNodes(handle: Handle, node: Node, from: number, to: number): void {
    const names = handle.names ?? [];
    for (let place = Math.max(from, handle.nodesAsked); place < to; place++) {
      const { child } = names[place] as ListedName;
      if (this.#objects.cached(child.ino, false) !== undefined) continue;
      throw new NeedsElsewhere(async () => {
        await this.#directories.loadNodes(node, place > 0 ? (names[place - 1] as ListedName).name : "");
        await this.#loadElsewhere(node, names.slice(place, to));
        handle.nodesAsked = Math.max(handle.nodesAsked, to);
      });
    }
  }

  /** The directory's manager does not have index nodes of other managers' shards: those are asked for one by one, all at once. */
  async #loadElsewhere(node: Node, names: readonly ListedName[]): Promise<void> {
    const { member } = this.#links(node.ino);
    const missing = names.filter(({ child }) => this.#links(child.ino).member !== member && this.#objects.present(child.ino) === undefined);
    for (let at = 0; at < missing.length; at += NODES_AT_ONCE)
      await Promise.all(missing.slice(at, at + NODES_AT_ONCE).map(({ child }) => this.#load(child.ino)));
  }

  async #load(ino: number): Promise<void> {
    try {
      (await this.#objects.acquirePinned(ino, false))();
    } catch (error) {
      if (!isDazzleError(error, "notFound")) throw error;
    }
  }
}

function sorted(names: ListedName[]): ListedName[] {
  for (let place = 1; place < names.length; place++) {
    if ((names[place - 1] as ListedName).name > (names[place] as ListedName).name) return names.sort(compareCodeUnits);
  }
  return names;
}

function compareCodeUnits(a: ListedName, b: ListedName): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}
