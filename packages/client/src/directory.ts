import { DazzleError, decodeInode, joined, type ListedEntry, NAME_BYTES_MAX, unpackEntries } from "@dazzle/core";
import type { Ask } from "./asks.ts";
import { Needs } from "./needs.ts";
import type { Child, DirectoryState, Node } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";
import type { SlotLink } from "./slot-link.ts";

/** Entries asked for at once. A directory of fewer is known whole after the first question. */
const PAGE_ENTRIES = 1_024;
/** The same without index nodes. */
const PAGE_NAMES = 4_096;
/** Pages of names asked for at a time, for one name of a directory that is being changed here, while fewer are known than NAMES_MAX. */
const PAGES_A_NAME = 16;
const NAMES_MAX = 250_000;

/** Finding and listing names under a directory's token. */
export class Directories {
  readonly #mount: number;
  readonly #objects: ObjectTable;
  readonly #links: (ino: number) => SlotLink;
  readonly #loading = new Map<Node, Promise<void>>();

  constructor(options: { mount: number; objects: ObjectTable; links: (ino: number) => SlotLink }) {
    this.#mount = options.mount;
    this.#objects = options.objects;
    this.#links = options.links;
  }

  /** The names of a directory node; throws `notDirectory`. */
  state(node: Node): DirectoryState {
    if (node.directory === null) throw new DazzleError("notDirectory", `index number ${node.ino}`);
    return node.directory;
  }

  /** The child of that name, or null. Throws `Needs` where it must be asked for. */
  find(node: Node, name: string): Child | null {
    if (name.length > NAME_BYTES_MAX) throw new DazzleError("nameTooLong", `${name.length} bytes`);
    const child = this.state(node).find(name);
    if (child === undefined) throw new Needs(() => this.#ask(node, name));
    return child;
  }

  async #ask(node: Node, name: string): Promise<void> {
    const state = this.state(node);
    if (state.knownTo === "") {
      await this.#loadFirst(node);
      if (state.find(name) !== undefined) return;
    }
    if (this.#isWorthKnowing(node) && state.names.size < NAMES_MAX) {
      await this.#loadMore(node);
      if (state.find(name) !== undefined) return;
    }
    await this.#objects.underToken(node, () => this.#objects.ask((ask) => this.#lookup(ask, node, name)));
  }

  /** Each question has everything stable first that was changed here, and keeps other mounts waiting that want the directory: one about many names
   * saves many. */
  #isWorthKnowing(node: Node): boolean {
    return !this.#objects.settled(node) || this.#objects.isContended(node.ino);
  }

  async #lookup(ask: Ask, node: Node, name: string): Promise<void> {
    const state = this.state(node);
    const { reply, tail } = await this.#links(node.ino).call("lookup", { mount: this.#mount, ino: node.ino, name });
    // What was changed here meanwhile is newer.
    if (state.find(name) !== undefined) return;
    if (reply.child === 0) {
      state.noteAbsent(name);
      return;
    }
    state.learn(name, { ino: reply.child, type: reply.type });
    if (tail.length > 0) this.#objects.learn(ask, decodeInode(joined(tail)), reply);
  }

  #loadFirst(node: Node): Promise<void> {
    return this.#once(node, async () => {
      if (!(await this.#recall(node))) await this.#loadPage(node, { inodes: true });
    });
  }

  #loadMore(node: Node): Promise<void> {
    return this.#once(node, async () => {
      for (let page = 0; page < PAGES_A_NAME; page++) if (!(await this.#loadPage(node, { inodes: false }))) return;
    });
  }

  /** Loads a directory's names whole, unless its token goes meanwhile. */
  load(node: Node): Promise<void> {
    return this.#once(node, async () => {
      if (this.state(node).knownTo === "") await this.#recall(node);
      while (!this.state(node).complete) if (!(await this.#loadPage(node, { inodes: true }))) return;
    });
  }

  /** Names that were known when the token was here before, with what has changed since. Answers whether there are any. */
  async #recall(node: Node): Promise<boolean> {
    const state = this.state(node);
    const { shelved } = state;
    if (shelved === null) return false;
    state.shelved = null;
    await this.#objects.underToken(node, async () => {
      const request = { mount: this.#mount, ino: node.ino, since: shelved.since };
      const { reply, tail } = await this.#links(node.ino).call("nameChanges", request);
      if (reply.known) state.recall(shelved, changesOf(unpackEntries(joined(tail))));
    });
    return state.knownTo !== "";
  }

  #once(node: Node, load: () => Promise<void>): Promise<void> {
    let loading = this.#loading.get(node);
    if (loading === undefined) {
      // The token stays until they are here, though another mount waits for it: they are of use the next time, too.
      const unpin = this.#objects.pin(node);
      loading = this.#objects.unlessLost(node, () => load().finally(unpin)).finally(() => this.#loading.delete(node));
      this.#loading.set(node, loading);
    }
    return loading;
  }

  /** The names behind those that are known. Answers whether there are more; false where the directory's token went meanwhile. */
  async #loadPage(node: Node, { inodes }: { inodes: boolean }): Promise<boolean> {
    const state = this.state(node);
    const changed = new Set<string>();
    let hasMore = false;
    state.watchers.add(changed);
    try {
      // A directory that goes back and forth between mounts that change it is not here for long: its names will do.
      await this.#entries(node, state.knownTo, inodes && !this.#objects.isContended(node.ino), (entries, more, learn) => {
        for (const entry of entries) {
          // What was changed here while the answer was on its way is newer.
          if (changed.has(entry.name) || state.names.has(entry.name)) continue;
          state.learn(entry.name, { ino: entry.child, type: entry.type });
          learn(entry);
        }
        hasMore = more && entries.length > 0;
        state.learnedTo(hasMore ? entries.at(-1)?.name : undefined);
      });
    } finally {
      state.watchers.delete(changed);
    }
    return hasMore;
  }

  #entries(
    node: Node,
    after: string,
    inodes: boolean,
    take: (entries: readonly ListedEntry[], more: boolean, learn: (entry: ListedEntry) => void) => void,
  ): Promise<void> {
    const question = async (ask: Ask) => {
      const request = { mount: this.#mount, ino: node.ino, after, limit: inodes ? PAGE_ENTRIES : PAGE_NAMES, inodes };
      const { reply, tail } = await this.#links(node.ino).call("entries", request);
      const entries = unpackEntries(joined(tail));
      take(entries, reply.more, ({ inode }) => {
        if (inode !== undefined) this.#objects.learn(ask, inode, reply);
      });
    };
    return this.#objects.underToken(node, () => this.#objects.ask(question));
  }

  /** Brings the index nodes of the names behind `after` into memory, as far as no other mount is in the way. */
  loadNodes(node: Node, after: string): Promise<void> {
    const state = this.state(node);
    return this.#entries(node, after, true, (entries, _more, learn) => {
      for (const entry of entries) if (state.names.get(entry.name)?.ino === entry.child) learn(entry);
    });
  }
}

function* changesOf(entries: readonly ListedEntry[]): Generator<readonly [string, Child | null]> {
  for (const { name, child, type } of entries) yield [name, child === 0 ? null : { ino: child, type }];
}
