import type { Asks } from "./asks.ts";
import type { KernelState } from "./expulsion/kernel-state.ts";
import type { KernelCache } from "./kernel-cache.ts";
import type { Node } from "./node.ts";
import type { Releases } from "./releases.ts";

/** Clean nodes kept beyond what is open or in use. */
const NODES_MAX = 60_000;
/** Evicted nodes that the kernel is being told of. */
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
  #hand: IterableIterator<Node> | null = null;
  #lettingGo = 0;

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
    if (this.#nodes.size <= NODES_MAX) return;
    for (let looked = 0; this.#nodes.size > NODES_MAX && looked < LOOKS && this.#lettingGo < LETTING_GO_MAX; looked++) {
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
      if (!this.#idle(node) || !this.#settled(node)) continue;
      this.#nodes.delete(node.ino);
      if (!node.removed) void this.#letGo(node);
    }
    if (this.#releases.isFull) this.sendReleased();
  }

  #idle(node: Node): boolean {
    return !this.#kernel.handles.isOpen(node.ino) && node.revoking === null && (node.inode.nlink > 0 || node.removed);
  }

  /** The token of an evicted node goes when the kernel has dropped what it cached under it. */
  async #letGo(node: Node): Promise<void> {
    if (this.#kernel.references.has(node.ino)) {
      this.#lettingGo++;
      if (node.directory?.shown === true) await this.#cache.dropNames(node.ino, () => node.directory?.names.keys() ?? []);
      const dropped = await this.#cache.forget(node.ino);
      this.#lettingGo--;
      // Then the manager asks for it when somebody wants it.
      if (!dropped) return;
    }
    this.#releases.add(node.ino);
  }

  /** To be called before any later question about them, on the same connection. */
  sendReleased(): void {
    // What a question under way brings of them was granted before they are given back.
    for (const ino of this.#releases.send((ino) => this.#nodes.has(ino))) this.#asks.revoked(ino, Number.POSITIVE_INFINITY);
  }
}
