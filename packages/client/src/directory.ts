import { DazzleError, decodeInode, joined, NAME_BYTES_MAX, unpackEntries } from "@dazzle/core";
import type { ManagerLink } from "./manager-link.ts";
import { Needs } from "./needs.ts";
import type { Child, DirectoryState, Node } from "./node.ts";
import type { ObjectTable } from "./object-table.ts";

/** Entries asked for at once. A directory of fewer is known whole after the first question. */
const PAGE_ENTRIES = 1_024;

/** Finding and listing names under a directory's token. */
export class Directories {
  readonly #mount: number;
  readonly #objects: ObjectTable;
  readonly #links: (ino: number) => ManagerLink;
  readonly #loading = new Map<number, Promise<void>>();

  constructor(options: { mount: number; objects: ObjectTable; links: (ino: number) => ManagerLink }) {
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
    await this.#objects.settle(node);
    const { reply, tail } = await this.#links(node.ino).call("lookup", { mount: this.#mount, ino: node.ino, name });
    // What was changed here meanwhile is newer.
    if (state.find(name) !== undefined) return;
    if (reply.child === 0) {
      state.noteAbsent(name);
      return;
    }
    state.names.set(name, { ino: reply.child, type: reply.type });
    if (tail.length > 0) this.#objects.learn(decodeInode(joined(tail)), reply.exclusive);
  }

  #loadFirst(node: Node): Promise<void> {
    return this.#once(node, async () => {
      const { more } = await this.#loadPage(node, "");
      if (more) this.state(node).large = true;
      else this.state(node).complete = true;
    });
  }

  /** Loads a directory's names whole; the answer is in `state(node)`. */
  load(node: Node): Promise<void> {
    return this.#once(node, async () => {
      let after = "";
      for (;;) {
        const page = await this.#loadPage(node, after);
        if (!page.more) break;
        after = page.last;
      }
      this.state(node).complete = true;
    });
  }

  #once(node: Node, load: () => Promise<void>): Promise<void> {
    let loading = this.#loading.get(node.ino);
    if (loading === undefined) {
      loading = load().finally(() => this.#loading.delete(node.ino));
      this.#loading.set(node.ino, loading);
    }
    return loading;
  }

  async #loadPage(node: Node, after: string): Promise<{ more: boolean; last: string }> {
    const state = this.state(node);
    await this.#objects.settle(node);
    const changed = new Set<string>();
    state.watchers.add(changed);
    try {
      const request = { mount: this.#mount, ino: node.ino, after, limit: PAGE_ENTRIES, inodes: true };
      const { reply, tail } = await this.#links(node.ino).call("entries", request);
      const entries = unpackEntries(joined(tail));
      let last = after;
      for (const { name, child, type, inode } of entries) {
        last = name;
        // What was changed here while the answer was on its way is newer.
        if (changed.has(name) || state.names.has(name)) continue;
        state.names.set(name, { ino: child, type });
        if (inode !== undefined) this.#objects.learn(inode, reply.exclusive);
      }
      return { more: reply.more && entries.length > 0, last };
    } finally {
      state.watchers.delete(changed);
    }
  }

  /** Brings the index nodes of the names behind `after` into memory. */
  async loadNodes(node: Node, after: string): Promise<void> {
    const state = this.state(node);
    await this.#objects.settle(node);
    const request = { mount: this.#mount, ino: node.ino, after, limit: PAGE_ENTRIES, inodes: true };
    const { reply, tail } = await this.#links(node.ino).call("entries", request);
    for (const { name, child, inode } of unpackEntries(joined(tail))) {
      if (inode !== undefined && state.names.get(name)?.ino === child) this.#objects.learn(inode, reply.exclusive);
    }
  }
}
