import {
  assert,
  type Clock,
  decodeInode,
  type Inode,
  isDazzleError,
  joined,
  type KernelNotifier,
  type Logger,
  withDeadline,
} from "@dazzle/core";
import { type Ask, Asks } from "./asks.ts";
import { Closings } from "./closings.ts";
import type { KernelState } from "./expulsion/kernel-state.ts";
import type { LeaseGuard } from "./expulsion/lease-guard.ts";
import type { Handles } from "./handles.ts";
import { Holds } from "./holds.ts";
import type { Journal } from "./journal.ts";
import type { TokenSource } from "./needs.ts";
import { Node, type Token } from "./node.ts";
import { byManager, type SlotLink } from "./slot-link.ts";

/** Clean nodes kept beyond what is open or in use. */
const NODES_MAX = 60_000;
const RELEASE_BATCH = 1_000;
/** How long a revoke waits for the kernel to drop what it cached. */
const INVALIDATE_DEADLINE_MS = 2_000;

/** What a manager granted: see its messages. */
interface Granted {
  readonly exclusive: boolean;
  readonly grant: number;
  readonly open?: boolean;
}

/** The objects in memory, each under its token, and what the kernel refers to. */
export class ObjectTable implements TokenSource {
  readonly #mount: number;
  readonly #links: (ino: number) => SlotLink;
  readonly #journal: Journal;
  readonly #handles: Handles;
  readonly #kernel: KernelState;
  readonly #lease: LeaseGuard;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #nodes = new Map<number, Node>();
  readonly #acquiring = new Map<number, Promise<void>>();
  readonly #asks = new Asks();
  readonly #holds: Holds;
  readonly #closings: Closings;
  #hand: IterableIterator<Node> | null = null;
  #released: number[] = [];
  notifier: KernelNotifier | null = null;

  constructor(options: {
    mount: number;
    links: (ino: number) => SlotLink;
    journal: Journal;
    kernel: KernelState;
    lease: LeaseGuard;
    clock: Clock;
    logger: Logger;
  }) {
    this.#mount = options.mount;
    this.#links = options.links;
    this.#journal = options.journal;
    this.#handles = options.kernel.handles;
    this.#kernel = options.kernel;
    this.#lease = options.lease;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#holds = new Holds(options.clock);
    const { mount, links, clock, logger } = options;
    this.#closings = new Closings({ mount, links, handles: this.#handles, clock, logger });
  }

  /** All that is in memory. */
  get nodes(): Iterable<Node> {
    return this.#nodes.values();
  }

  get size(): number {
    return this.#nodes.size;
  }

  /** The node, where it is here under a token that suffices and is not on its way to another mount, and its lease holds. */
  cached(ino: number, exclusive: boolean): Node | undefined {
    const node = this.#nodes.get(ino);
    if (node === undefined || node.leaving || (exclusive && node.token !== "exclusive") || !this.#lease.holds(ino)) return undefined;
    node.touched = true;
    return node;
  }

  /** Keeps the token of a node that is in use, for an operation that goes on with it soon and waits for no token. */
  pin(node: Node): () => void {
    return this.#holds.pin(node);
  }

  async acquirePinned(ino: number, exclusive: boolean): Promise<() => void> {
    for (;;) {
      const node = this.cached(ino, exclusive);
      // Whoever waits for it waits for the pins of before, and not for one after the other.
      if (node !== undefined && node.revoking === null) return this.#holds.pin(node);
      const revoking = this.#nodes.get(ino)?.revoking;
      if (revoking) {
        await revoking;
        continue;
      }
      await this.#lease.whenHolds(ino);
      let asking = this.#acquiring.get(ino);
      if (asking === undefined) {
        asking = this.#ask(ino, exclusive).finally(() => this.#acquiring.delete(ino));
        this.#acquiring.set(ino, asking);
      }
      await asking;
    }
  }

  async #ask(ino: number, exclusive: boolean): Promise<void> {
    const link = this.#links(ino);
    this.#sendReleased();
    // What this mount changed and the manager has not applied must not be overtaken by the question.
    await link.whenApplied(link.lastQueued);
    const askedMs = this.#clock.nowMs();
    await this.#asks.ask(async (ask) => {
      const { reply, tail } = await link.call("acquire", { mount: this.#mount, ino, exclusive });
      const node = this.learn(ask, decodeInode(joined(tail)), reply);
      if (node !== undefined) this.#holds.granted(node, this.#clock.nowMs() - askedMs);
    });
  }

  /** For questions whose answers bring tokens. */
  ask<T>(question: (ask: Ask) => Promise<T>): Promise<T> {
    return this.#asks.ask(question);
  }

  /** Takes an index node that a manager answered with its token. What is here already is newer. Undefined where the token was taken back
   * since. */
  learn(ask: Ask, inode: Inode, granted: Granted): Node | undefined {
    if (Asks.isVoid(ask, inode.ino, granted.grant)) return undefined;
    const token: Token = granted.exclusive ? "exclusive" : "shared";
    const known = this.#nodes.get(inode.ino);
    if (known !== undefined) {
      if (granted.exclusive) known.token = token;
      known.openElsewhere = granted.open === true;
      return known;
    }
    const node = new Node(inode, token, false);
    node.openElsewhere = granted.open === true;
    this.#add(node);
    return node;
  }

  /** A node made here, under the token of its leased number. */
  create(inode: Inode): Node {
    assert(!this.#nodes.has(inode.ino), `index number ${inode.ino} is given once`);
    const node = new Node(inode, "exclusive", true);
    this.#add(node);
    return node;
  }

  #add(node: Node): void {
    this.#nodes.set(node.ino, node);
    if (this.#nodes.size > NODES_MAX) this.#evict();
  }

  refer(ino: number): void {
    this.#kernel.refer(ino);
  }

  forget(ino: number, references: number): void {
    this.#kernel.forget(ino, references);
    this.dropRemoved(ino);
  }

  /** Drops a removed file's node once nobody needs it. */
  dropRemoved(ino: number): void {
    const node = this.#nodes.get(ino);
    if (node === undefined || !node.removed || node.dirty || this.#handles.isOpen(ino) || this.#kernel.references.has(ino)) return;
    this.#nodes.delete(ino);
  }

  get references(): number {
    return this.#kernel.references.size;
  }

  /** Whether every change to the node is applied at its manager. */
  settled(node: Node): boolean {
    return !node.dirty && node.lastSequence <= this.#links(node.ino).applied;
  }

  /** Makes it so. */
  async settle(node: Node): Promise<void> {
    if (this.settled(node)) return;
    await this.#journal.commit();
    await this.#links(node.ino).whenApplied(node.lastSequence);
  }

  /** Asks a manager for something that the token of the node covers, as of what is here. Where the token went meanwhile, nothing is
   * learned: the next attempt takes it anew. */
  async underToken(node: Node, question: () => Promise<void>): Promise<void> {
    await this.settle(node);
    try {
      await question();
    } catch (error) {
      // Whoever pins it would wait for itself.
      if (!isDazzleError(error, "tokenLost") || node.pins > 0) throw error;
      if (this.#nodes.get(node.ino) === node) await this.giveBack(node.ino, false);
    }
  }

  /** The clock hand passes over some nodes and drops those that nobody needs and nobody touched since it came by. */
  #evict(): void {
    let looked = 0;
    while (this.#nodes.size > NODES_MAX && looked++ < 64) {
      this.#hand ??= this.#nodes.values();
      const next = this.#hand.next();
      if (next.done) {
        this.#hand = null;
        continue;
      }
      const node = next.value;
      if (node.touched) {
        node.touched = false;
        continue;
      }
      if (!this.#idle(node) || !this.settled(node)) continue;
      this.#nodes.delete(node.ino);
      if (!node.removed) this.#released.push(node.ino);
    }
    if (this.#released.length >= RELEASE_BATCH) this.#sendReleased();
  }

  #idle(node: Node): boolean {
    return !this.#handles.isOpen(node.ino) && node.revoking === null && (node.inode.nlink > 0 || node.removed);
  }

  /** Gives the tokens of evicted nodes back. Sent before any later question about them, on the same connection. */
  #sendReleased(): void {
    if (this.#released.length === 0) return;
    const released = this.#released.filter((ino) => !this.#nodes.has(ino));
    this.#released = [];
    for (const { link, inos } of byManager(released, this.#links)) {
      link.call("release", { mount: this.#mount, inos }).catch((error: Error) => {
        this.#logger("warning", "tokens could not be given back", { reason: error.message });
      });
    }
  }

  /** A manager's revoke; `count`: see `Asks`. Answers whether the file is open here. */
  async revoke(ino: number, keepShared: boolean, count: number): Promise<boolean> {
    // Answers that came before it are looked at first: what they brought is pinned by those who asked.
    await new Promise<void>((resolve) => this.#clock.soon(resolve));
    this.#asks.revoked(ino, count);
    await this.giveBack(ino, keepShared);
    return this.#closings.isOpen(ino);
  }

  /** A file that the manager may have to remove: nobody has it open here any more. */
  tellClosed(ino: number): void {
    this.#closings.tell(ino, async () => {
      const node = this.#nodes.get(ino);
      if (node !== undefined) await this.settle(node);
    });
  }

  /** The last handle of a file was closed: the manager is told where it was told that there is one, or where only it can know whether
   * that was the last one of a file without a name. */
  closed(ino: number): void {
    const node = this.#nodes.get(ino);
    if (this.#closings.wasTold(ino) || (node !== undefined && node.inode.nlink === 0 && !node.removed)) this.tellClosed(ino);
  }

  /** Gives a token back, or down to shared: dirty state first made stable and applied, then the kernel drops what it has. */
  async giveBack(ino: number, keepShared: boolean): Promise<void> {
    for (;;) {
      const node = this.#nodes.get(ino);
      if (node === undefined || (keepShared && node.token !== "exclusive")) return;
      if (node.revoking === null) {
        node.revoking = this.#giveBack(node, keepShared).finally(() => {
          node.revoking = null;
          node.leaving = false;
        });
      }
      await node.revoking;
    }
  }

  async #giveBack(node: Node, keepShared: boolean): Promise<void> {
    // Nothing may pin it between the last look and the next line.
    for (let wait = this.#holds.whenFree(node); wait !== undefined; wait = this.#holds.whenFree(node)) await wait;
    node.leaving = true;
    await this.settle(node);
    if (keepShared) {
      node.token = "shared";
      await this.#invalidate(node, false);
      return;
    }
    node.token = "none";
    this.#nodes.delete(node.ino);
    await this.#invalidate(node, true);
  }

  async #invalidate(node: Node, everything: boolean): Promise<void> {
    const notifier = this.notifier;
    if (notifier === null || !this.#kernel.references.has(node.ino)) return;
    const notices = [notifier.invalidateInode(node.ino, 0, everything ? 0 : -1)];
    if (everything && node.directory !== null) {
      for (const name of node.directory.names.keys()) notices.push(notifier.invalidateEntry(node.ino, name));
    }
    try {
      await withDeadline(this.#clock, INVALIDATE_DEADLINE_MS, "the kernel's dropping of its cache", Promise.all(notices));
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      this.#logger("warning", "the kernel was not seen to drop what it cached", { ino: node.ino, reason: error.message });
    }
  }

  checkInvariants(): void {
    for (const node of this.#nodes.values()) if (!node.leaving) node.checkInvariants();
  }
}
