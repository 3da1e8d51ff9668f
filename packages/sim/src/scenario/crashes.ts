import { findLog, isDazzleError, withLog } from "@dazzle/core";
import { nodeName } from "../cluster.ts";
import type { Fabric } from "../network.ts";
import type { SeededRandom } from "../random.ts";
import type { Seat } from "./seat.ts";
import type { Stage } from "./stage.ts";

/** What ends, in the middle of an operation. The last four: a mount is unmounted while managers go; a living mount is cut off or stopped until it may be
 * expelled, and is expelled outright; a living node is cut off or stopped until another one has taken over. */
export const CRASHES = [
  "killMount",
  "killMounts",
  "killStorage",
  "killManager",
  "killAll",
  "cutOne",
  "cutAll",
  "restartNode",
  "unmount",
  "partMount",
  "expelMount",
  "partNode",
] as const;

export type Crash = (typeof CRASHES)[number];

const ENDS_MOUNTS: ReadonlySet<Crash> = new Set(["killMount", "killMounts", "killAll", "cutAll"]);
const CRASH_AGAIN_CHANCE = 0.25;
const CRASH_AGAIN_MS_MAX = 600;
const GROUP_LOST_CHANCE = 0.3;
/** Longer than it takes a manager to come back, or another one to take over. */
const UNMOUNT_AFTER_MS_MAX = 6_000;
const MIDDLE_EVENTS_MAX = 150;
const MIDDLE_MS_MAX = 30;
const PARTED_MS_MIN = 500;
const PARTED_MS_MAX = 30_000;
const PARTED_STEP_MS_MAX = 1_500;
const HEARD_MS = 5_000;
/** Longer than it takes to give a silent manager up, and too short to expel a mount that only hears nobody. */
const NODE_PARTED_MS_MAX = 5_500;
/** Who does not run counts no silence. */
const NODE_FROZEN_MS_MAX = 12_000;
const ABSENCES = ["parted", "unheard", "deaf", "frozen"] as const;
const REJOIN_LIMIT_MS = 120_000;

/** Ends processes of a scenario, or takes mounts for dead that are not. */
export class Crashes {
  readonly #stage: Stage;

  constructor(stage: Stage) {
    this.#stage = stage;
  }

  async happen(kind: Crash, random: SeededRandom): Promise<void> {
    const { fleet, seats } = this.#stage;
    // Servers that go must be the only ones that are missing; what ends with the mounts may come at any moment.
    if (!ENDS_MOUNTS.has(kind) || random.chance(0.5)) await this.#stage.settle();
    this.#stage.count(kind);
    const seat = random.pick(seats);
    if (kind === "unmount") return this.#unmount(seat, random);
    if (kind === "partMount") return this.#part(seat, random);
    if (kind === "expelMount") return this.#expel(seat);
    if (kind === "partNode") return this.#partNodes(random);
    const operation = seat.workload.step();
    const when = await this.#middle(operation, random);
    switch (kind) {
      case "killMount":
        return this.#endMounts([seat], () => {}, when, random);
      case "killMounts": {
        const others = seats.filter((other) => other !== seat && random.chance(0.7));
        return this.#endMounts([seat, ...others], () => {}, when, random);
      }
      case "killAll":
        return this.#endMounts(seats, () => fleet.killAll(), when, random);
      case "cutAll":
        return this.#endMounts(seats, () => fleet.powerCut(), when, random);
      case "killStorage":
        for (const victim of this.#victims(random, this.#stage.cluster.numbers.slice(1))) fleet.lose(victim, false, when);
        break;
      case "killManager":
        for (const victim of this.#victims(random, this.#stage.managers)) fleet.lose(victim, false, when);
        break;
      case "cutOne":
        for (const victim of this.#victims(random, this.#stage.cluster.numbers)) fleet.lose(victim, true, when);
        break;
      case "restartNode":
        for (const victim of this.#victims(random, this.#stage.cluster.numbers)) fleet.restart(victim, when);
        break;
    }
    await this.#stage.await("an operation", operation);
  }

  /** After the last operation: power of everything is cut, and comes back. */
  async lastCut(random: SeededRandom): Promise<void> {
    await this.#endMounts(this.#stage.seats, () => this.#stage.fleet.powerCut(), "in the end", random);
  }

  /** A mount is unmounted while nodes with a manager go and come back: where it says that this was clean, all that it did is durable. */
  async #unmount(seat: Seat, random: SeededRandom): Promise<void> {
    const { fleet, world, managers, history } = this.#stage;
    await this.#stage.await("fsyncs", Promise.all(seat.syncs));
    await this.#stage.await("quit", seat.workload.quit());
    for (const victim of this.#victims(random, managers)) {
      if (random.chance(0.5)) fleet.restart(victim, "before an unmount");
      else fleet.lose(victim, false, "before an unmount");
    }
    await world.advance(random.between(0, UNMOUNT_AFTER_MS_MAX));
    const clean = await this.#stage.await("an unmount", seat.mount.mount.close());
    if (clean) history.synced(seat.name, history.lastNumber);
    this.#stage.count(clean ? "unmounted" : "unmountedLate");
    await this.#endMounts([seat], () => {}, clean ? "after a clean unmount" : "after an unmount that left its log to recovery", random);
  }

  /** Lets an operation begin, and maybe end: in words, how far it came. */
  async #middle(operation: Promise<void>, random: SeededRandom): Promise<string> {
    let settled = false;
    const done = () => {
      settled = true;
    };
    operation.then(done, (error) => {
      done();
      this.#stage.failed(error);
    });
    const { world } = this.#stage;
    if (random.chance(0.5)) await world.happen(random.below(MIDDLE_EVENTS_MAX));
    else await world.advance(random.between(0, MIDDLE_MS_MAX));
    this.#stage.checkFailure();
    return settled ? "after an operation" : "in the middle of an operation";
  }

  /** Servers that are missing for a while: one, or at most as many as there are parities; or a whole group of two. */
  #victims(random: SeededRandom, from: readonly number[]): readonly number[] {
    const { shape, cluster } = this.#stage;
    if (shape.groups > 1 && random.chance(GROUP_LOST_CHANCE)) {
      this.#stage.count("groupLost");
      return cluster.second;
    }
    const { parity } = shape;
    const victims = this.#stage.disturbances.victims(random, from, parity > 1 ? 1 + random.below(parity) : 1);
    if (victims.length > 1) this.#stage.count("severalLost");
    return victims;
  }

  /** Some mounts die, and what else ends with them: what comes back must be a prefix of each one's operations, with all that was synced. */
  async #endMounts(seats: readonly Seat[], others: () => void, when: string, random: SeededRandom): Promise<void> {
    const { fleet, world, disturbances } = this.#stage;
    const names = seats.map(({ name }) => name).join(" and ");
    this.#stage.note(`${names} ${seats.length === 1 ? "ends" : "end"} ${when}`);
    for (const seat of seats) {
      for (const [name, value] of Object.entries(seat.mount.mount.counters())) this.#stage.count(`mount.${name}`, value);
      seat.kill();
    }
    others();
    disturbances.end();
    while (seats.length === this.#stage.seats.length && random.chance(CRASH_AGAIN_CHANCE)) {
      fleet.raiseAll();
      await world.advance(random.between(0, CRASH_AGAIN_MS_MAX));
      this.#stage.count("cutAgain");
      this.#stage.note("power of everything is cut");
      fleet.powerCut();
    }
    fleet.raiseAll();
    for (const seat of seats) await this.#stage.remount(seat);
    await this.#stage.recovered(seats);
    for (const seat of seats) seat.workload.remounted(await this.#stage.entered(seat));
  }

  /** A mount with nothing to lose is cut off, or stopped, while the others go on and want what it holds. */
  async #part(seat: Seat, random: SeededRandom): Promise<void> {
    const { world, cluster } = this.#stage;
    await this.#stage.await("fsyncs", Promise.all(seat.syncs));
    await this.#stage.await("an fsync", seat.workload.sync());
    const { expulsions } = seat.mount.mount;
    const lastsMs = random.between(PARTED_MS_MIN, PARTED_MS_MAX);
    const { name } = seat.mount.instance;
    const nodes = cluster.numbers.map(nodeName);
    const kind = random.pick(ABSENCES);
    this.#stage.note(`${name} is ${kind} for ${Math.round(lastsMs)} ms`);
    if (kind === "frozen") seat.mount.instance.freeze(lastsMs);
    else part(world.network, kind, [name], nodes);
    const others = this.#stage.seats.filter((other) => other !== seat);
    for (const endMs = world.nowMs + lastsMs; world.nowMs < endMs; ) {
      if (others.length > 0) await this.#stage.await("an operation beside a mount that is away", random.pick(others).workload.step());
      await world.advance(random.between(0, PARTED_STEP_MS_MAX));
    }
    world.network.heal();
    // By then every manager has heard of it, or one has expelled it.
    await world.advance(HEARD_MS);
    await this.#whenServing(seat);
    if (seat.mount.mount.expulsions === expulsions) return;
    this.#stage.count("expulsions");
    this.#stage.note(`${name} was expelled, and is back`);
    await this.#stage.await("what was open", seat.workload.rejoined());
  }

  /** Servers that live, so many as may be missing, are cut off from everybody or stopped; mounts go on. */
  async #partNodes(random: SeededRandom): Promise<void> {
    const { world, cluster, seats } = this.#stage;
    const victims = this.#victims(random, cluster.numbers);
    const kind = random.pick(ABSENCES);
    const lastsMs = random.between(PARTED_MS_MIN, kind === "frozen" ? NODE_FROZEN_MS_MAX : NODE_PARTED_MS_MAX);
    this.#stage.note(`${victims.map(nodeName).join(" and ")} ${victims.length === 1 ? "is" : "are"} ${kind} for ${Math.round(lastsMs)} ms`);
    if (kind === "frozen") for (const victim of victims) cluster.freeze(victim, lastsMs);
    else {
      const others = cluster.numbers.filter((number) => !victims.includes(number)).map(nodeName);
      part(world.network, kind, victims.map(nodeName), [...others, ...seats.map(({ mount }) => mount.instance.name)]);
    }
    let over = false;
    world.after(lastsMs, () => {
      world.network.heal();
      over = true;
    });
    while (!over) {
      await this.#stage.await("an operation while a node is away", random.pick(seats).workload.step());
      await world.advance(random.between(0, PARTED_STEP_MS_MAX));
    }
  }

  /** A living mount is expelled: for all it has lost, it is one that died. */
  async #expel(seat: Seat): Promise<void> {
    const { map } = this.#stage.cluster.node(1);
    await this.#stage.await("fsyncs", Promise.all(seat.syncs));
    const { log } = seat.mount.mount;
    this.#stage.note(`${seat.mount.instance.name}, log ${log}, is expelled`);
    const expelling = map.change((now) => withLog(now, log, { state: "expelled" }));
    await this.#stage.await("the expulsion", expelling);
    await this.#whenServing(seat);
    await this.#stage.await("what was open", seat.workload.rejoined());
    await this.#stage.recovered([seat]);
    await this.#stage.entered(seat);
  }

  /** Resolves when the mount serves under a log that lives. */
  async #whenServing({ mount: { mount } }: Seat): Promise<void> {
    const { map } = this.#stage.cluster.node(1);
    const isLive = () => mount.present !== null && findLog(map.current, mount.log)?.state === "live";
    const refreshed = async () => {
      for (;;) {
        await map.refresh().catch((error: unknown) => {
          if (!isDazzleError(error)) throw error;
        });
        if (isLive()) return;
        await new Promise<void>((resolve) => this.#stage.world.after(100, resolve));
      }
    };
    await this.#stage.await("the mount to serve", refreshed(), REJOIN_LIMIT_MS);
  }
}

function part(network: Fabric, kind: "parted" | "unheard" | "deaf", those: readonly string[], others: readonly string[]): void {
  if (kind === "parted") network.partition(those, others);
  else if (kind === "unheard") network.partitionOneWay(those, others);
  else network.partitionOneWay(others, those);
}
