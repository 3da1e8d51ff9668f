import { DazzleError, decodeInode, joined, type ListedEntry, NAME_BYTES_MAX, unpackEntries } from "@dazzle/core";
import type { Ask } from "./asks.ts";
import { Needs } from "./needs.ts";
import type { Child, DirectoryState, Node } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";
import type { SlotLink } from "./slot-link.ts";

/** Entries asked for at once. A directory of fewer is known whole after the first question. */
const PAGE_ENTRIES = 1_024;

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
    if (!state.large) {
      await this.#loadFirst(node);
      if (state.find(name) !== undefined) return;
    }
    await this.#objects.underToken(node, () => this.#objects.ask((ask) => this.#lookup(ask, node, name)));
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
    state.names.set(name, { ino: reply.child, type: reply.type });
    if (tail.length > 0) this.#objects.learn(ask, decodeInode(joined(tail)), reply);
  }

  #loadFirst(node: Node): Promise<void> {
    return this.#once(node, async () => {
      const page = await this.#loadPage(node, "");
      if (page?.more === true) this.state(node).large = true;
      else if (page !== undefined) this.state(node).complete = true;
    });
  }

  /** Loads a directory's names whole; the answer is in `state(node)`, unless its token went meanwhile. */
  load(node: Node): Promise<void> {
    return this.#once(node, async () => {
      for (let after = ""; ; ) {
        const page = await this.#loadPage(node, after);
        if (page === undefined) return;
        if (!page.more) break;
        after = page.last;
      }
      this.state(node).complete = true;
    });
  }

  #once(node: Node, load: () => Promise<void>): Promise<void> {
    let loading = this.#loading.get(node);
    if (loading === undefined) {
      loading = load().finally(() => this.#loading.delete(node));
      this.#loading.set(node, loading);
    }
    return loading;
  }

  /** Undefined where the directory's token went meanwhile. */
  async #loadPage(node: Node, after: string): Promise<{ more: boolean; last: string } | undefined> {
    const state = this.state(node);
    const changed = new Set<string>();
    let page: { more: boolean; last: string } | undefined;
    state.watchers.add(changed);
    try {
      // A directory that goes back and forth between mounts that change it is not here for long: its names will do.
      await this.#entries(node, after, !this.#objects.isContended(node.ino), (entries, more, learn) => {
        let last = after;
        for (const entry of entries) {
          last = entry.name;
          // What was changed here while the answer was on its way is newer.
          if (changed.has(entry.name) || state.names.has(entry.name)) continue;
          state.names.set(entry.name, { ino: entry.child, type: entry.type });
          learn(entry);
        }
        page = { more: more && entries.length > 0, last };
      });
    } finally {
      state.watchers.delete(changed);
    }
    return page;
  }

  #entries(
    node: Node,
    after: string,
    inodes: boolean,
    take: (entries: readonly ListedEntry[], more: boolean, learn: (entry: ListedEntry) => void) => void,
  ): Promise<void> {
    const question = async (ask: Ask) => {
      const request = { mount: this.#mount, ino: node.ino, after, limit: PAGE_ENTRIES, inodes };
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
