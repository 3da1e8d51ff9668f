import { type GroupId, isDazzleError, type MemberId, type Peers } from "@dazzle/core";
import { nodeName } from "../cluster.ts";
import type { SeededRandom } from "../random.ts";
import type { Stage } from "./stage.ts";

const CLEAN_CHANCE = 1 / 160;
const UNTIL_MIN = 0.5;

/** Has cleaners clean while everything goes on. Whoever is asked leads: also two of them at once. */
export class Cleanings {
  readonly #stage: Stage;
  #asked = 0;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  due(random: SeededRandom): boolean {
    return random.chance(CLEAN_CHANCE) && this.#stage.cleaners.length > 0;
  }

  /** A cleaner is asked, and cleans until nobody has asked it again for a few seconds. */
  begin(random: SeededRandom): void {
    const by = random.pick(this.#stage.cleaners);
    if (!this.#stage.cluster.isUp(by)) return;
    const { peers, map } = this.#stage.cluster.node(by);
    // It may not know of them yet.
    if (map.current.groups.length === 0) return;
    this.#stage.note(`${nodeName(by)} is to clean`);
    void this.#ask(peers, by, random.pick(map.current.groups).id, random.between(UNTIL_MIN, 1));
  }

  async #ask(peers: Peers, by: number, group: GroupId, until: number): Promise<void> {
    try {
      await peers.call(by as MemberId, "clean", { id: `cleaning ${++this.#asked}`, group, until, stop: false });
      this.#stage.count("clean");
    } catch (error) {
      if (!isDazzleError(error)) this.#stage.failed(error);
    }
  }
}
