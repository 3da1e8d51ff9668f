import type { Asks } from "./asks.ts";
import type { KernelState } from "./expulsion/kernel-state.ts";
import type { KernelCache } from "./kernel-cache.ts";
import type { Node } from "./node.ts";
import type { Releases } from "./releases.ts";
import { Removals } from "./removals.ts";

/** Clean nodes kept beyond what is open or in use. */
const NODES_MAX = 60_000;
/** Nodes that the kernel is being told of. */
const LETTING_GO_MAX = 256;
/** Nodes that the hand passes over at a time. */
const LOOKS = 64;

/** Drops nodes that nobody needs from memory, and gives their tokens back. */
export class Eviction {
  readonly #nodes: Map<number, Node>;
  readonly #kernel: KernelState;
  readonly #cache: KernelCache;
  readonly #asks: Asks;
  readonly #releases: Releases;
  readonly #settled: (node: Node) => boolean;
  readonly #removals = new Removals();
  #hand: IterableIterator<Node> | null = null;
  readonly #lettingGo = new Set<Node>();

  /** `settled`: whether every change to a node is applied at its manager. */
  constructor(options: {
    nodes: Map<number, Node>;
    kernel: KernelState;
    cache: KernelCache;
    asks: Asks;
    releases: Releases;
    settled: (node: Node) => boolean;
  }) {
    this.#nodes = options.nodes;
    this.#kernel = options.kernel;
    this.#cache = options.cache;
    this.#asks = options.asks;
    this.#releases = options.releases;
    this.#settled = options.settled;
  }

  /** Where there are too many, the clock hand passes over some nodes and drops those that nobody needs and nobody touched since it came by. */
  evict(): void {
    const isEnough = () => this.#nodes.size - this.#lettingGo.size <= NODES_MAX || this.#lettingGo.size >= LETTING_GO_MAX;
    for (let looked = 0; looked < LOOKS && !isEnough(); looked++) {
      this.#hand ??= this.#nodes.values();
      const next = this.#hand.next();
      if (next.done) {
        this.#hand = null;
        continue;
      }
      const node = next.value;
      if (this.#lettingGo.has(node)) continue;
      if (node.touched) {
        node.touched = false;
        continue;
      }
      if (!this.#isUnneeded(node)) continue;
      if (!node.removed && this.#kernel.references.has(node.ino)) void this.#letGo(node);
      else this.#evict(node);
    }
  }

  #isUnneeded(node: Node): boolean {
    const isOpen = this.#kernel.handles.isOpen(node.ino);
    return !isOpen && node.revoking === null && (node.inode.nlink > 0 || node.removed) && this.#settled(node);
  }

  /** What the kernel caches is cached under the node's token, which a new manager is told of as long as the node is here. So it stays until the kernel has dropped that, and longer
   * where somebody used it meanwhile. */
  async #letGo(node: Node): Promise<void> {
    this.#lettingGo.add(node);
    if (node.directory?.shown === true) await this.#cache.dropNames(node.ino, () => node.directory?.names.keys() ?? []);
    const dropped = await this.#cache.forget(node.ino);
    this.#lettingGo.delete(node);
    if (dropped && !node.touched && this.#nodes.get(node.ino) === node && this.#isUnneeded(node)) this.#evict(node);
  }

  #evict(node: Node): void {
    this.#nodes.delete(node.ino);
    this.#releases.add(node.ino);
    // The answer to a question under way may have it from before it was removed.
    if (node.removed) this.#asks.revoked(node.ino, Number.POSITIVE_INFINITY);
    if (this.#releases.isFull) this.sendReleased();
  }

  /** Drops a removed node where nobody needs it any more; where its removal has yet to be applied, by `dropApplied`: until then its token is here, so that
   * the manager grants nobody what is still there for it. */
  dropRemoved(node: Node): void {
    if (!this.#isApplied(node)) this.#removals.add(node);
    else if (this.#nodes.get(node.ino) === node && this.#isUnneeded(node) && !this.#kernel.references.has(node.ino)) this.#evict(node);
  }

  #isApplied(node: Node): boolean {
    return node.revoking === null && this.#settled(node);
  }

  /** To be called now and then. */
  dropApplied(): void {
    for (const node of this.#removals.takeWhile((next) => this.#isApplied(next))) this.dropRemoved(node);
    this.#releases.again();
    this.sendReleased();
  }

  /** To be called before any later question about them, on the same connection. */
  sendReleased(): void {
    // What a question under way brings of them was granted before they are given back.
    for (const ino of this.#releases.send((ino) => this.#nodes.has(ino))) this.#asks.revoked(ino, Number.POSITIVE_INFINITY);
  }
}
