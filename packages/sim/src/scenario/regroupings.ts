import { assert, currentVersion, findMember, type Group, type GroupChange, isDazzleError, type MemberId, PARITY_MAX } from "@dazzle/core";
import { outdatedVersions } from "@dazzle/log";
import { nodeName } from "../cluster.ts";
import type { SeededRandom } from "../random.ts";
import type { Stage } from "./stage.ts";

/** What is done to the servers of the first group while everything goes on. Who lost its storage directory comes back with an empty one. */
export const REGROUPINGS = ["addServer", "removeServer", "replaceServer", "raiseParity", "lowerParity", "emptyServer"] as const;

const REGROUP_CHANCE = 1 / 300;
const EMPTY_CHANCE = 0.3;
const REPLACE_CHANCE = 0.4;
const RAISE_CHANCE = 0.5;
const ADMIT_EVERY_MS = 500;
const ADMIT_WITHIN_MS = 10_000;
const POLL_MS = 500;
const NO_CHANGE = { group: "main", servers: [], parity: 0, force: false } as const;

/** Has servers come into a group and leave it, and lose all that they stored. What was stored moves, into whatever goes wrong next. */
export class Regroupings {
  readonly #stage: Stage;
  /** Whose storage directory was emptied, and which are not admitted yet. */
  readonly #emptied = new Set<number>();

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  due(random: SeededRandom): boolean {
    return random.chance(REGROUP_CHANCE);
  }

  begin(random: SeededRandom): void {
    const { fleet, shape } = this.#stage;
    if (!fleet.isWhole || this.#emptied.size > 0) return;
    if (random.chance(EMPTY_CHANCE)) this.#empty(random);
    else if (shape.spares > 0) this.#regroup(random);
  }

  #regroup(random: SeededRandom): void {
    const { cluster, shape } = this.#stage;
    const spare = cluster.numbers.at(-1) as number;
    const listed = this.#group.wanted.map(Number);
    const leaving = nodeName(random.pick(listed));
    if (listed.length > cluster.genesis.servers.length) {
      // With one server more there may be a second parity, and the group still goes on without one of them.
      const isRaised = currentVersion(this.#group).parityFragments > shape.parity;
      if (isRaised) void this.#change("lowerParity", { change: "parity", servers: [], parity: shape.parity, force: true });
      else if (shape.parity < PARITY_MAX && random.chance(RAISE_CHANCE))
        void this.#change("raiseParity", { change: "parity", servers: [], parity: PARITY_MAX });
      else void this.#change("removeServer", { change: "remove", servers: [leaving] });
    } else {
      const arriving = nodeName([...cluster.genesis.servers, spare].find((number) => !listed.includes(Number(number))) as number);
      if (random.chance(REPLACE_CHANCE)) void this.#change("replaceServer", { change: "replace", servers: [leaving, arriving] });
      else void this.#change("addServer", { change: "add", servers: [arriving] });
    }
  }

  /** Resolves when every server whose storage directory was emptied is admitted. While every node is up. */
  async admitted(): Promise<void> {
    while (this.#emptied.size > 0) await new Promise<void>((resolve) => this.#stage.world.after(POLL_MS, resolve));
  }

  /** Resolves when nothing lies under versions of a group that are to go. While every node is up. */
  async moved(): Promise<void> {
    const { cluster, world } = this.#stage;
    const isOver = async () => {
      const { map } = cluster.node(1);
      await map.refresh().catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
      });
      return map.current.groups.every((group) => outdatedVersions(map.current, group).length === 0);
    };
    while (!(await isOver())) await new Promise<void>((resolve) => world.after(POLL_MS, resolve));
  }

  get #group(): Group {
    const [first] = this.#stage.cluster.node(1).map.current.groups;
    assert(first !== undefined, "there is a group");
    return first;
  }

  /** Refused while what is asked for can't be had. */
  async #change(what: (typeof REGROUPINGS)[number], asked: Pick<GroupChange, "change" | "servers"> & Partial<GroupChange>): Promise<void> {
    const { cluster } = this.#stage;
    this.#stage.note(`${what} ${asked.servers.join(" ")}`.trimEnd());
    try {
      await cluster.node(1).peers.call(1 as MemberId, "changeGroup", { ...NO_CHANGE, ...asked });
      this.#stage.count(what);
    } catch (error) {
      if (!isDazzleError(error)) return this.#stage.failed(error);
      this.#stage.note(`${what} is refused: ${error.message}`);
    }
  }

  /** A server's storage directory is lost, while everything that it held is elsewhere, too. */
  #empty(random: SeededRandom): void {
    const { cluster, disturbances, fleet } = this.#stage;
    const { map } = cluster.node(1);
    const isMoving = map.current.groups.some((group) => outdatedVersions(map.current, group).length > 0);
    if (disturbances.active || isMoving) return;
    const number = disturbances.loser(random);
    const group = map.current.groups.find((row) => currentVersion(row).servers.some(({ member }) => member === number));
    if (group === undefined) return;
    this.#emptied.add(number);
    fleet.lose(number, false, "and loses its storage directory");
    cluster.emptyStorage(number);
    void this.#admit(number, group.name);
  }

  /** As an operator would: asks until the group lists what the server has now. */
  async #admit(number: number, group: string): Promise<void> {
    const { cluster, world } = this.#stage;
    const name = nodeName(number);
    const before = findMember(cluster.node(1).map.current, number).store;
    for (let refusal = ""; ; ) {
      await new Promise<void>((resolve) => world.after(ADMIT_EVERY_MS, resolve));
      if (!cluster.isUp(number)) continue;
      const { peers, map } = cluster.node(number);
      const ask = async () => {
        await map.refresh();
        if (findMember(map.current, number).store !== before) return true;
        await peers.call(number as MemberId, "changeGroup", { ...NO_CHANGE, change: "replace", group, servers: [name, name] });
        return false;
      };
      // A node that is killed meanwhile never answers.
      const givenUp = new Promise<boolean>((resolve) => world.after(ADMIT_WITHIN_MS, () => resolve(false)));
      try {
        if (await Promise.race([ask(), givenUp])) break;
      } catch (error) {
        if (!isDazzleError(error)) return this.#stage.failed(error);
        if (error.message !== refusal) this.#stage.note(`${name} is not admitted yet: ${error.message}`);
        refusal = error.message;
      }
    }
    this.#stage.note(`${name} is admitted`);
    this.#stage.count("emptyServer");
    this.#emptied.delete(number);
  }
}
