import {
  assert,
  type Clock,
  covers,
  decodeInode,
  type Inode,
  isDazzleError,
  joined,
  type Limits,
  type Logger,
  NO_REGIONS,
  overlaps,
  packInode,
  type RegionRange,
  slotOf,
  unpackInodes,
  WHOLE_FILE,
} from "@dazzle/core";
import { type Ask, Asks } from "./asks.ts";
import type { Holdings } from "./claims.ts";
import { Closings } from "./closings.ts";
import { Eviction } from "./eviction.ts";
import type { KernelState } from "./expulsion/kernel-state.ts";
import type { LeaseGuard } from "./expulsion/lease-guard.ts";
import type { Handles } from "./handles.ts";
import { Holds } from "./holds.ts";
import type { Journal } from "./journal.ts";
import { KernelCache } from "./kernel-cache.ts";
import { NameShelf } from "./name-shelf.ts";
import type { TokenSource } from "./needs.ts";
import { Node, type Token } from "./node.ts";
import { type Asked, keptBeside, UNASKED } from "./ranges.ts";
import { Recent } from "./recent.ts";
import { Releases } from "./releases.ts";
import type { SlotLink } from "./slot-link.ts";

/** What a manager granted: see its messages. */
interface Granted {
  readonly exclusive: boolean;
  readonly grant: number;
  readonly open?: boolean;
  /** All of it where nothing is said. */
  readonly range?: RegionRange;
}

/** Asks a manager for a token, and answers the index node with it. */
type Question = (link: SlotLink, askedMs: number) => Promise<{ granted: Granted; tail: readonly Uint8Array[] }>;

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
  /** Given back of late: changed here, or wanted by another mount to change it. */
  readonly #changed = new Recent();
  readonly #contended = new Recent();
  readonly #shelf = new NameShelf();
  readonly #eviction: Eviction;
  readonly cache: KernelCache;

  constructor(options: {
    mount: number;
    links: (ino: number) => SlotLink;
    journal: Journal;
    kernel: KernelState;
    lease: LeaseGuard;
    clock: Clock;
    logger: Logger;
    limits: Limits;
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
    const { mount, links, clock, logger, limits } = options;
    this.cache = new KernelCache({ clock, logger, references: options.kernel.references, deadlineMs: limits.writeDeadlineMs });
    this.#eviction = new Eviction({
      ...{ nodes: this.#nodes, kernel: options.kernel, cache: this.cache, asks: this.#asks },
      ...{ releases: new Releases({ mount, links, logger }), settled: (node) => this.settled(node) },
    });
    const settle = async (ino: number) => {
      const node = this.#nodes.get(ino);
      if (node !== undefined) await this.settle(node);
    };
    this.#closings = new Closings({ mount, links, handles: this.#handles, settle, clock, logger });
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
    return this.#used(ino, ({ token }) => token === "exclusive" || (token === "shared" && !exclusive));
  }

  /** As `cached`, where these regions of the file are here alone. */
  cachedRange(ino: number, wanted: RegionRange): Node | undefined {
    return this.#used(ino, ({ token, range }) => token !== "shared" && covers(range, wanted));
  }

  /** As `cached`, under any token: for what stays while mounts write parts of a file, which is all but its size, times and blocks. */
  present(ino: number): Node | undefined {
    return this.#used(ino, () => true);
  }

  #used(ino: number, suffices: (node: Node) => boolean): Node | undefined {
    const node = this.#nodes.get(ino);
    if (node === undefined || node.leaving || !suffices(node) || !this.#lease.holds(ino)) return undefined;
    node.touched = true;
    node.usedMs = this.#clock.nowMs();
    return node;
  }

  /** Keeps the token of a node that is in use, for an operation that goes on with it soon and waits for no token. */
  pin(node: Node): () => void {
    return this.#holds.pin(node);
  }

  acquirePinned(ino: number, exclusive: boolean): Promise<() => void> {
    return this.#acquirePinned(
      ino,
      () => this.cached(ino, exclusive),
      async (link, askedMs) => {
        const alone = exclusive || this.#changed.has(ino, askedMs);
        const { reply, tail } = await link.call("acquire", { mount: this.#mount, ino, exclusive: alone });
        return { granted: reply, tail };
      },
    );
  }

  /** As `acquirePinned`, for a write of these regions of the file: nobody else need stop writing others. */
  acquireRangePinned(ino: number, { from, to }: RegionRange): Promise<() => void> {
    return this.#acquirePinned(
      ino,
      () => this.cachedRange(ino, { from, to }),
      async (link) => {
        const { reply, tail } = await link.call("acquireRange", { mount: this.#mount, ino, from, to });
        return { granted: { ...reply, exclusive: covers(reply, WHOLE_FILE), range: reply }, tail };
      },
    );
  }

  async #acquirePinned(ino: number, cached: () => Node | undefined, question: Question): Promise<() => void> {
    for (;;) {
      const node = cached();
      // Whoever waits for it waits for the pins of before, and not for one after the other.
      if (node !== undefined && node.revoking === null) return this.#holds.pin(node);
      const revoking = this.#nodes.get(ino)?.revoking;
      if (revoking) {
        await revoking;
        continue;
      }
      if (await this.#holdsAnew(ino)) continue;
      let asking = this.#acquiring.get(ino);
      if (asking === undefined) {
        asking = this.#ask(ino, question).finally(() => this.#acquiring.delete(ino));
        this.#acquiring.set(ino, asking);
      }
      await asking;
    }
  }

  /** Waits for the lease. Answers whether that is what was missing: what is here counts again, and a manager may not know of it yet. */
  async #holdsAnew(ino: number): Promise<boolean> {
    if (this.#lease.holds(ino)) return false;
    await this.#lease.whenHolds(ino);
    return true;
  }

  async #ask(ino: number, question: Question): Promise<void> {
    // What is known of a file that is here in part does not grow into more: it goes, and comes back with what others made of it.
    if (this.#nodes.get(ino)?.token === "range") await this.giveBack(ino);
    const link = this.#links(ino);
    this.#eviction.sendReleased();
    // What this mount changed and the manager has not applied must not be overtaken by the question.
    await link.whenApplied(link.lastQueued);
    const askedMs = this.#clock.nowMs();
    await this.#asks.ask(async (ask) => {
      const { granted, tail } = await question(link, askedMs);
      const node = this.learn(ask, decodeInode(joined(tail)), granted);
      if (node !== undefined) this.#holds.granted(node, this.#clock.nowMs() - askedMs);
    });
  }

  /** For a look at attributes: the index node as the mount that changes it has it now. Undefined where there is a token, or can be one, so that
   * `cached` tells. Rejects `notFound`. */
  async peek(ino: number): Promise<Inode | undefined> {
    const revoking = this.#nodes.get(ino)?.revoking;
    if (revoking) await revoking;
    if ((await this.#holdsAnew(ino)) && this.cached(ino, false) !== undefined) return undefined;
    return this.#asks.ask(async (ask) => {
      const { reply, tail } = await this.#links(ino).call("peek", { mount: this.#mount, ino });
      const [looked, ...ahead] = unpackInodes(joined(tail));
      for (const inode of ahead) this.learn(ask, inode, { exclusive: false, grant: reply.grant });
      if (looked === undefined || !reply.granted) return looked;
      // A manager that takes the part that is here for more: see `#ask`.
      if (this.#nodes.get(ino)?.token === "range") await this.giveBack(ino);
      else this.learn(ask, looked, reply);
      return undefined;
    });
  }

  /** Whether the token went to another mount a moment ago, and this one had changed the object under it, so that it will need it again. */
  wasChanged(ino: number): boolean {
    return this.#nodes.get(ino)?.token !== "range" && this.#changed.has(ino, this.#clock.nowMs());
  }

  /** For a manager: the index node of the first, where it is being changed here, and which of them are shared from now on: those that are
   * applied, and that nobody uses here. `count`: see `Asks`. */
  async peeked(inos: readonly number[], count: number): Promise<{ inode: Buffer | undefined; shared: readonly number[] }> {
    await this.#answersSeen();
    const first = inos[0] as number;
    const here = this.#nodes.get(first);
    // What is written of a part is told, even on its way to another mount, until the manager has it.
    const node = here?.token === "range" ? here : this.cached(first, true);
    const inode = node === undefined || this.settled(node) ? undefined : packInode(node.inode);
    return { inode, shared: inos.filter((ino) => this.#share(ino, count)) };
  }

  #share(ino: number, count: number): boolean {
    const node = this.#nodes.get(ino);
    if (node?.token !== "exclusive" || node.leaving || node.revoking !== null || node.removed) return false;
    if (this.#handles.isOpen(ino) || !this.#holds.isFree(node) || !this.settled(node)) return false;
    this.#asks.revoked(ino, count);
    if (node.lastSequence > 0) this.#changed.add(ino, this.#clock.nowMs());
    node.token = "shared";
    return true;
  }

  /** Answers that came before a manager's question are looked at first: what they brought is pinned by those who asked. */
  #answersSeen(): Promise<void> {
    return new Promise((resolve) => this.#clock.soon(resolve));
  }

  /** For questions whose answers bring tokens. */
  ask<T>(question: (ask: Ask) => Promise<T>): Promise<T> {
    return this.#asks.ask(question);
  }

  /** Takes an index node that a manager answered with its token. What is here already is newer. Undefined where the token was taken back
   * since. */
  learn(ask: Ask, inode: Inode, granted: Granted): Node | undefined {
    if (Asks.isVoid(ask, inode.ino, granted.grant)) return undefined;
    const { exclusive, range = WHOLE_FILE } = granted;
    const token: Token = exclusive ? "exclusive" : covers(range, WHOLE_FILE) ? "shared" : "range";
    const known = this.#nodes.get(inode.ino);
    // The answer lacks what was written here: see `#ask`.
    if (known?.token === "range") return undefined;
    if (known !== undefined) {
      if (granted.exclusive) known.token = token;
      known.openElsewhere = granted.open === true;
      return known;
    }
    const node = new Node(inode, token, false);
    node.range = range;
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
    if (node.directory !== null) node.directory.shelved = this.#shelf.take(node.ino);
    this.#eviction.evict();
  }

  refer(ino: number): void {
    this.#kernel.refer(ino);
  }

  forget(ino: number, references: number): void {
    this.#kernel.forget(ino, references);
    this.#dropRemoved(ino);
  }

  remove(node: Node): void {
    this.#journal.markRemoved(node);
    this.#eviction.dropRemoved(node);
  }

  #dropRemoved(ino: number): void {
    const node = this.#nodes.get(ino);
    if (node?.removed) this.#eviction.dropRemoved(node);
  }

  /** See `Eviction` and `Closings`. To be called now and then. */
  dropApplied(): void {
    this.#eviction.dropApplied();
    this.#closings.retry();
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
  underToken(node: Node, question: () => Promise<void>): Promise<void> {
    return this.unlessLost(node, async () => {
      await this.settle(node);
      await question();
    });
  }

  /** Several such questions. */
  async unlessLost(node: Node, ask: () => Promise<void>): Promise<void> {
    try {
      await ask();
    } catch (error) {
      // Whoever pins it would wait for itself.
      if (!isDazzleError(error, "tokenLost") || node.pins > 0) throw error;
      if (this.#nodes.get(node.ino) === node) await this.giveBack(node.ino);
    }
  }

  /** A manager's revoke; `count`: see `Asks`. Answers whether the file is open here, and what is kept of it. */
  async revoke({ ino, count, ...asked }: Asked & { ino: number }): Promise<RegionRange & { open: boolean }> {
    await this.#answersSeen();
    this.#asks.revoked(ino, count);
    await this.giveBack(ino, { ...asked, count });
    const open = await this.#closings.isOpen(ino);
    const node = this.#nodes.get(ino);
    return { open, ...(node?.token === "range" ? node.range : NO_REGIONS) };
  }

  /** A file that the manager may have to remove: nobody has it open here any more. */
  tellClosed(ino: number): void {
    this.#closings.tell(ino);
  }

  /** The last handle of a file was closed: the manager is told where it was told that there is one, or where only it can know whether
   * that was the last one of a file without a name. */
  closed(ino: number): void {
    const node = this.#nodes.get(ino);
    if (this.#closings.wasTold(ino) || (node !== undefined && node.inode.nlink === 0 && !node.removed)) this.tellClosed(ino);
    this.#dropRemoved(ino);
  }

  /** Gives a token back, or down to shared, or to a range beside what is wanted: dirty state first made stable and applied, then the kernel drops what
   * it has. */
  async giveBack(ino: number, asked = UNASKED): Promise<void> {
    for (;;) {
      const node = this.#nodes.get(ino);
      if (node === undefined || (asked.keepShared && node.token === "shared") || !overlaps(node.range, asked.wanted)) return;
      if (node.revoking === null) {
        const keepShared = asked.keepShared && node.token === "exclusive";
        node.revoking = this.#giveBack(node, { ...asked, keepShared }).finally(() => {
          node.revoking = null;
          node.dropping = false;
          node.leaving = false;
        });
      }
      await node.revoking;
    }
  }

  async #giveBack(node: Node, { keepShared, wanted, count }: Asked): Promise<void> {
    const nowMs = this.#clock.nowMs();
    const isWhole = node.token !== "range" && covers(wanted, WHOLE_FILE);
    if (!keepShared) this.#contended.add(node.ino, nowMs);
    let freeMs = nowMs;
    while (!node.leaving) {
      // Nothing may pin it between the last look and when it leaves.
      for (let wait = this.#holds.whenFree(node); wait !== undefined; wait = this.#holds.whenFree(node)) await wait;
      freeMs = this.#clock.nowMs();
      if (keepShared) node.leaving = true;
      else await this.#dropCached(node);
    }
    // Whoever changes what another mount wants looks at it first: then the shared token alone would have to be asked for, too.
    if (isWhole && (node.dirty || node.lastSequence > 0)) this.#changed.add(node.ino, this.#clock.nowMs());
    await this.settle(node);
    this.#holds.gaveBack(this.#clock.nowMs() - freeMs);
    if (keepShared) node.token = "shared";
    else this.#dropOrNarrow(node, wanted, count);
  }

  #dropOrNarrow(node: Node, wanted: RegionRange, count: number): void {
    const kept = keptBeside(node, wanted, this.#clock.nowMs());
    if (kept.from < kept.to) {
      node.narrow(kept);
      return;
    }
    node.token = "none";
    this.#nodes.delete(node.ino);
    const names = count > 0 && !node.removed ? node.directory?.shelve(count) : null;
    if (names) this.#shelf.put(node.ino, names);
  }

  /** Whether another mount took it away a moment ago to change it. */
  isContended(ino: number): boolean {
    return this.#contended.has(ino, this.#clock.nowMs());
  }

  /** Has the kernel drop what it cached of the node, which goes on being used until all of that is gone. What the kernel is told meanwhile
   * it may not cache: see `dropping`. */
  async #dropCached(node: Node): Promise<void> {
    node.dropping = true;
    while (node.directory?.shown === true) {
      node.directory.shown = false;
      await this.cache.dropNames(node.ino, () => node.directory?.names.keys() ?? []);
    }
    await this.cache.dropFile(node.ino, () => {
      node.leaving = node.pins === 0 && node.directory?.shown !== true;
    });
  }

  /** What is held in these slots, for new managers of theirs. Answers that are on their way bring nothing more there. */
  claimed(slots: ReadonlySet<number>, held: (slot: number) => Holdings): void {
    this.#asks.moved(slots);
    for (const { ino, token, range } of this.#nodes.values()) {
      const slot = slotOf(ino);
      if (!slots.has(slot)) continue;
      if (token === "exclusive") held(slot).exclusive.push(ino);
      else if (token === "range") held(slot).ranges.push(ino, range.from, range.to);
      else held(slot).shared.push(ino);
    }
    for (const ino of this.#handles.inos()) {
      const slot = slotOf(ino);
      if (!slots.has(slot) || this.#nodes.has(ino)) continue;
      held(slot).opens.push(ino);
      this.#closings.told(ino);
    }
  }

  checkInvariants(): void {
    for (const node of this.#nodes.values()) if (!node.leaving) node.checkInvariants();
  }
}
