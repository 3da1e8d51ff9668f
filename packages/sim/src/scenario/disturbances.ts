import { isDazzleError, watermarkBytes, withLog } from "@dazzle/core";
import { nodeName, type SimCluster } from "../cluster.ts";
import type { DriveOperation } from "../drive.ts";
import type { SeededRandom } from "../random.ts";
import type { Instance } from "../world.ts";
import { loseWrite, rot } from "./rot.ts";

/** What may go wrong between two crashes. The first three touch everybody; the others one storage server alone. */
export const DISTURBANCES = [
  "slowNetwork",
  "resets",
  "refusals",
  "cut",
  "slowServer",
  "partition",
  "partitionOneWay",
  "partitionOfServers",
  "freezeNode",
  "freezeMount",
  "wallClockJump",
  "diskFull",
  "slowDisk",
  "readError",
  "writeError",
  "syncError",
  "commitError",
  "bitFlip",
  "writeMissed",
  "expelManager",
] as const;

export type Disturbance = (typeof DISTURBANCES)[number];

const LASTS_MIN_MS = 50;
const LASTS_MAX_MS = 4_000;
const SLOW_SERVER_MS_MAX = 300;
const SLOW_DISK_MS_MAX = 400;
const WALL_CLOCK_JUMP_MS_MAX = 86_400_000;
/** Below the watermark of new promises, above that of the ones given. */
const FULL_FREE_BYTES = watermarkBytes("data", 0) - 128 * 1024;
const FULL_TIMES_LONGER = 3;
/** A server asks its disk again by then, and a mount its server. */
const FULL_LASTS_MS = 3_000;

/** Disturbs a cluster, one server at a time. */
export class Disturbances {
  readonly #cluster: SimCluster;
  /** Who may lose bits, and nobody else ever: as many servers as there are parities. */
  readonly #rotten: readonly number[];
  #hasRotted = false;
  /** Until then a change may be refused for want of space. */
  #fullUntilMs = 0;
  /** What is going on, with what ends it. */
  #ending: (() => void) | null = null;
  #generation = 0;

  constructor(cluster: SimCluster, parity: number, random: SeededRandom) {
    this.#cluster = cluster;
    this.#rotten = different(random, cluster.numbers, parity);
  }

  /** So many servers that may be missing or disturbed: where some have lost bits, only those. */
  victims(random: SeededRandom, from: readonly number[], count = 1): readonly number[] {
    return different(random, this.#hasRotted ? this.#rotten : from, count);
  }

  /** Who may lose all that it stores. From then on nobody else may be missing. */
  loser(random: SeededRandom): number {
    this.#hasRotted = true;
    return random.pick(this.#rotten);
  }

  get active(): boolean {
    return this.#ending !== null;
  }

  get mayBeFull(): boolean {
    return this.#cluster.world.nowMs < this.#fullUntilMs;
  }

  /** Starts one for a while. Answers what, in words; undefined where it could not be done. */
  begin(kind: Disturbance, server: number, frozen: Instance, random: SeededRandom): string | undefined {
    const mount = frozen.name;
    const lastsMs = random.between(LASTS_MIN_MS, LASTS_MAX_MS);
    const { network } = this.#cluster.world;
    const { faults } = network;
    const drive = this.#cluster.world.drive(nodeName(server));
    const other = random.pick(this.#cluster.numbers.filter((number) => number !== server));
    switch (kind) {
      case "slowNetwork":
        return this.#with(faults, { maxDelayMs: random.between(5, 60) }, "network slow", lastsMs);
      case "resets":
        return this.#with(faults, { resetChance: 0.01 }, "resets", lastsMs);
      case "refusals":
        network.cut([mount], [nodeName(server)]);
        return this.#with(faults, { refuseChance: 0.5 }, "refusals", lastsMs);
      case "cut":
        network.cut([mount, nodeName(other)], [nodeName(server)]);
        return `connections of ${nodeName(server)} to ${mount} and ${nodeName(other)} cut`;
      case "slowServer": {
        const extraMs = random.between(10, SLOW_SERVER_MS_MAX);
        network.slow(nodeName(server), extraMs);
        return this.#until(lastsMs, () => network.slow(nodeName(server), 0), `${nodeName(server)} ${Math.round(extraMs)} ms slower`);
      }
      case "partition":
        network.partition([mount], [nodeName(server)]);
        return this.#until(lastsMs, () => network.heal(), `${mount} and ${nodeName(server)} parted`);
      case "partitionOneWay": {
        const [from, to] = random.shuffle([mount, nodeName(server)]) as [string, string];
        network.partitionOneWay([from], [to]);
        return this.#until(lastsMs, () => network.heal(), `nothing passes from ${from} to ${to}`);
      }
      case "freezeNode":
        this.#cluster.freeze(server, lastsMs);
        return this.#until(lastsMs, () => {}, `${nodeName(server)} frozen`);
      case "freezeMount":
        frozen.freeze(lastsMs);
        return this.#until(lastsMs, () => {}, `${mount} frozen`);
      case "wallClockJump": {
        const name = random.pick([mount, nodeName(server)]);
        const byMs = Math.round(random.between(-WALL_CLOCK_JUMP_MS_MAX, WALL_CLOCK_JUMP_MS_MAX));
        this.#cluster.world.jumpWallClock(name, byMs);
        return `the wall clock of ${name} jumps by ${byMs} ms`;
      }
      case "diskFull": {
        const { capacityBytes } = drive;
        drive.capacityBytes += FULL_FREE_BYTES - drive.freeBytes;
        this.#fullUntilMs = Number.POSITIVE_INFINITY;
        const ending = () => {
          drive.capacityBytes = capacityBytes;
          this.#fullUntilMs = this.#cluster.world.nowMs + FULL_LASTS_MS;
        };
        return this.#until(FULL_TIMES_LONGER * lastsMs, ending, `disk of ${nodeName(server)} nearly full`);
      }
      case "partitionOfServers":
        network.partition([nodeName(other)], [nodeName(server)]);
        return this.#until(lastsMs, () => network.heal(), `${nodeName(other)} and ${nodeName(server)} parted`);
      case "slowDisk": {
        const maxDelayMs = random.between(10, SLOW_DISK_MS_MAX);
        return this.#with(drive.faults, { maxDelayMs }, `disk of ${nodeName(server)} slow, ${Math.round(maxDelayMs)} ms`, lastsMs);
      }
      case "readError":
        return this.#with(drive.faults, { readErrorChance: random.fraction() }, `reads fail at ${nodeName(server)}`, lastsMs);
      case "writeError":
      case "syncError":
      case "commitError": {
        const operation = kind.slice(0, -"Error".length) as DriveOperation;
        drive.failNext(operation);
        return `the next ${operation} at ${nodeName(server)} fails`;
      }
      case "expelManager":
        return this.#expelManager(random);
      case "bitFlip":
        return this.#rot(rot, "a bit turned over in", random);
      case "writeMissed":
        return this.#rot(loseWrite, "sectors were never written of", random);
    }
  }

  /** Ends what is going on. */
  end(): void {
    this.#ending?.();
    this.#ending = null;
    this.#generation++;
  }

  #rot(how: typeof rot, what: string, random: SeededRandom): string | undefined {
    const [rotten] = different(random, this.#rotten, 1) as [number];
    const header = how(this.#cluster.world.drive(nodeName(rotten)), this.#cluster.storageDirectory(rotten), random);
    if (header === undefined) return undefined;
    this.#hasRotted = true;
    return `${what} ${header.log}/${header.sequence}/${header.index} at ${nodeName(rotten)}`;
  }

  /** As an operator would: the node goes on, with another incarnation of its manager. */
  #expelManager(random: SeededRandom): string | undefined {
    const { map } = this.#cluster.node(1);
    const rows = map.current.logs.filter(({ kind, state }) => kind === "manager" && state === "live");
    if (rows.length === 0) return undefined;
    const row = random.pick(rows);
    map
      .change((now) => withLog(now, row.id, { state: "expelled" }))
      .catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
      });
    return `the manager's log ${row.id} is expelled`;
  }

  #with<T extends object>(faults: T, changes: Partial<T>, what: string, lastsMs: number): string {
    const before = { ...faults };
    Object.assign(faults, changes);
    return this.#until(lastsMs, () => Object.assign(faults, before), what);
  }

  #until(lastsMs: number, ending: () => void, what: string): string {
    this.end();
    this.#ending = ending;
    const generation = this.#generation;
    this.#cluster.world.after(lastsMs, () => {
      if (this.#generation === generation) this.end();
    });
    return `${what} for ${Math.round(lastsMs)} ms`;
  }
}

/** So many of the numbers, or all. */
function different(random: SeededRandom, numbers: readonly number[], count: number): number[] {
  const left = [...numbers];
  const drawn: number[] = [];
  while (left.length > 0 && drawn.length < count) drawn.push(...left.splice(left.length === 1 ? 0 : left.indexOf(random.pick(left)), 1));
  return drawn;
}
