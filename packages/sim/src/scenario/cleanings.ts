import { isDazzleError, type MemberId, type Peers, type Request } from "@dazzle/core";
import { nodeName } from "../cluster.ts";
import type { SeededRandom } from "../random.ts";
import type { Stage } from "./stage.ts";

const CLEAN_CHANCE = 1 / 160;
const UNTIL_MIN = 0.5;
/** Who does not say that it is enough is forgotten a few seconds later. */
const STOP_CHANCE = 0.75;
const STOP_MS_MAX = 4_000;

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

  /** A cleaner is asked, and cleans until it is told that it is enough, or until nobody has asked it again for a few seconds. */
  begin(random: SeededRandom): void {
    const by = random.pick(this.#stage.cleaners);
    if (!this.#stage.cluster.isUp(by)) return;
    const { cluster, world } = this.#stage;
    const { peers, map } = cluster.node(by);
    // It may not know of them yet.
    if (map.current.groups.length === 0) return;
    this.#stage.note(`${nodeName(by)} is to clean`);
    const request = {
      id: `cleaning ${++this.#asked}`,
      group: random.pick(map.current.groups).id,
      until: random.between(UNTIL_MIN, 1),
    };
    void this.#ask(peers, by, { ...request, stop: false });
    if (random.chance(STOP_CHANCE))
      world.after(random.between(0, STOP_MS_MAX), () => void this.#ask(peers, by, { ...request, stop: true }));
  }

  async #ask(peers: Peers, by: number, request: Request<"clean">): Promise<void> {
    try {
      await peers.call(by as MemberId, "clean", request);
      if (!request.stop) this.#stage.count("clean");
    } catch (error) {
      if (!isDazzleError(error)) this.#stage.failed(error);
    }
  }
}
