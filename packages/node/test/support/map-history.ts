import { type ClusterMap, isDazzleError, sleep } from "@dazzle/core";
import type { World } from "@dazzle/sim";
import { type MapUser, withLogOf } from "./keeper-machines.ts";

/** What users of the register were told, held against what a single copy of the map would have told them. */
export class MapHistory {
  readonly #world: World;
  /** The map of each version that anybody was told of. */
  readonly #maps = new Map<number, string>();
  /** The newest version that anybody was told of. */
  #floor = 0;
  /** Changes that were answered. */
  readonly done = new Set<string>();
  /** Changes that were tried. */
  readonly tried = new Set<string>();
  reads = 0;

  constructor(world: World) {
    this.#world = world;
  }

  #saw(map: ClusterMap, floor: number): void {
    const told = JSON.stringify(map);
    const before = this.#maps.get(map.version);
    if (before !== undefined && before !== told) this.#fail(`version ${map.version} was ${before} and is ${told}`);
    if (map.version < floor) this.#fail(`version ${map.version} was told after ${floor} had been`);
    this.#maps.set(map.version, told);
    this.#floor = Math.max(this.#floor, map.version);
  }

  #fail(what: string): void {
    this.#world.fail(new Error(what));
  }

  async read(user: MapUser): Promise<void> {
    const floor = this.#floor;
    this.#saw(await user.register.read(), floor);
    this.reads++;
  }

  async change(user: MapUser, label: string): Promise<void> {
    const floor = this.#floor;
    this.tried.add(label);
    const isDone = ({ logs }: ClusterMap) => logs.some((row) => row.label === label);
    const map = await user.map.change((now) => (isDone(now) ? undefined : withLogOf(now, label)));
    // Where the change was found done, an older copy of the map may say so.
    if (map.version >= floor) this.#saw(map, floor);
    this.done.add(label);
  }

  /** Reads and changes, until its process ends. */
  async work(user: MapUser): Promise<void> {
    const { clock, random } = user.instance.ports;
    for (let number = 0; ; number++) {
      try {
        if (random.below(3) === 0) await this.read(user);
        else await this.change(user, `${user.instance.name}/${number}`);
      } catch (error) {
        if (!isDazzleError(error)) this.#fail((error as Error).stack as string);
      }
      await sleep(clock, random.below(600));
    }
  }

  /** Every change that was answered is there, and none is there twice. */
  check(map: ClusterMap): void {
    this.#saw(map, this.#floor);
    const labels = map.logs.map(({ label }) => label);
    for (const label of this.done) if (!labels.includes(label)) throw new Error(`${label} is lost`);
    for (const label of labels) if (!this.tried.has(label)) throw new Error(`nobody wrote ${label}`);
    if (new Set(labels).size !== labels.length) throw new Error("a change is there twice");
  }
}
