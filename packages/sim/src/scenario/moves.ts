import { isDazzleError, type MemberId, SLOTS } from "@dazzle/core";
import { nodeName, type SimCluster } from "../cluster.ts";
import type { SeededRandom } from "../random.ts";

const MOVE_CHANCE = 1 / 60;
const SLOTS_MAX = 8;

export interface MoveEvents {
  note(what: string): void;
  count(what: string): void;
  failed(error: unknown): void;
}

/** Has slots move between managers while everything goes on. */
export class SlotMoves {
  readonly #cluster: SimCluster;
  readonly #random: SeededRandom;
  readonly #managers: readonly number[];
  readonly #events: MoveEvents;

  constructor(cluster: SimCluster, random: SeededRandom, managers: readonly number[], events: MoveEvents) {
    this.#cluster = cluster;
    this.#random = random;
    this.#managers = managers;
    this.#events = events;
  }

  /** Now and then some slots start to go to another manager. */
  maybe(): void {
    if (this.#managers.length < 2 || !this.#random.chance(MOVE_CHANCE)) return;
    const slots = new Set<number>();
    for (let count = 1 + this.#random.below(SLOTS_MAX); count > 0; count--) slots.add(this.#random.below(SLOTS));
    const to = this.#random.pick(this.#managers);
    if (!this.#cluster.isUp(to)) return;
    this.#events.note(`slots ${[...slots].join(",")} are to go to ${nodeName(to)}`);
    void this.#move([...slots], to);
  }

  /** A manager may be away, or a slot on its way elsewhere. */
  async #move(slots: readonly number[], to: number): Promise<void> {
    try {
      await this.#cluster.node(to).peers.call(to as MemberId, "takeSlots", { slots });
      this.#events.count("moveSlots");
    } catch (error) {
      if (isDazzleError(error)) this.#events.count("moveRefused");
      else this.#events.failed(error);
    }
  }
}
