import { isDazzleError, type MemberId, SLOTS } from "@dazzle/core";
import { nodeName } from "../cluster.ts";
import type { SeededRandom } from "../random.ts";
import type { Stage } from "./stage.ts";

const MOVE_CHANCE = 1 / 60;
const SLOTS_MAX = 8;

/** Has slots move between managers while everything goes on. */
export class SlotMoves {
  readonly #stage: Stage;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  due(random: SeededRandom): boolean {
    return random.chance(MOVE_CHANCE) && this.#stage.managers.length > 1;
  }

  /** Some slots start to go to another manager. */
  begin(random: SeededRandom): void {
    const slots = new Set<number>();
    for (let count = 1 + random.below(SLOTS_MAX); count > 0; count--) slots.add(random.below(SLOTS));
    const to = random.pick(this.#stage.managers);
    if (!this.#stage.cluster.isUp(to)) return;
    this.#stage.note(`slots ${[...slots].join(",")} are to go to ${nodeName(to)}`);
    void this.#move([...slots], to);
  }

  /** A manager may be away, or a slot on its way elsewhere. */
  async #move(slots: readonly number[], to: number): Promise<void> {
    try {
      await this.#stage.cluster.node(to).peers.call(to as MemberId, "takeSlots", { slots });
      this.#stage.count("moveSlots");
    } catch (error) {
      if (isDazzleError(error)) this.#stage.count("moveRefused");
      else this.#stage.failed(error);
    }
  }
}
