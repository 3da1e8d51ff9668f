import { BLOCK_BYTES, CLOCK_DRIFT, checkLimits, type FileSystem, REGION_BLOCKS } from "@dazzle/core";
import { SimCluster } from "../cluster.ts";
import { History } from "../model/history.ts";
import { observe } from "../model/observed.ts";
import { SeededRandom } from "../random.ts";
import { World } from "../world.ts";
import { Disturbances } from "./disturbances.ts";
import { Fleet } from "./fleet.ts";
import { SMALL_LIMITS } from "./limits.ts";
import type { ScenarioOptions } from "./outcome.ts";
import { Seat } from "./seat.ts";
import { type Shape, serversOf, shapeOf } from "./shape.ts";
import type { Telling } from "./telling.ts";

export const ROOT = 1;
export const CALLER = { uid: 0, gid: 0, pid: 1 };
/** Where mounts take turns. */
const TURNS = "turns";
const FILE_BYTES = 24 * 1024;
/** Beyond the third of a file's regions. */
const FAR_BYTES = 3.5 * REGION_BLOCKS * BLOCK_BYTES;
/** A mount holds few space credits, so that it soon learns that a disk is full. A look through all shards of a manager finds half of what it reads of runs in
 * memory: without that, it was a quarter of all messages. */
const LIMITS = { ...SMALL_LIMITS, dirtyBytes: 128 * 1024, runCacheBytes: 128 * 1024 };
checkLimits(LIMITS);
const STEP_LIMIT_MS = 90_000;
const START_LIMIT_MS = 180_000;

/** What a scenario plays on: a cluster, its mounts, and the model of what they do. */
export class Stage {
  readonly shape: Shape;
  readonly world: World;
  readonly cluster: SimCluster;
  readonly fleet: Fleet;
  readonly disturbances: Disturbances;
  readonly seats: Seat[] = [];
  readonly trace: string[] = [];
  readonly counts = new Map<string, number>();
  readonly telling: Telling;
  /** The nodes with a manager. */
  readonly managers: readonly number[];
  /** The nodes that clean. */
  readonly cleaners: readonly number[];
  readonly #onTrace: ScenarioOptions["onTrace"];
  readonly #onOperation: ScenarioOptions["onOperation"];
  /** By what it decides; what one part draws does not move another. */
  readonly #random: SeededRandom;
  history!: History;
  step = 0;
  #failure: { readonly error: unknown } | null = null;

  constructor(options: ScenarioOptions) {
    const { seed, onLog, disguise } = options;
    this.#onTrace = options.onTrace;
    this.#onOperation = options.onOperation;
    this.shape = shapeOf(seed, options);
    this.world = new World(seed, { clockDrift: CLOCK_DRIFT, ...(onLog === undefined ? {} : { onLog }) });
    this.#random = new SeededRandom(`${seed}/scenario`);
    this.cluster = new SimCluster(this.world, {
      limits: LIMITS,
      nodes: sum(serversOf(this.shape)) + this.shape.spares,
      servers: serversOf(this.shape)[0] as number,
      second: serversOf(this.shape)[1] ?? 0,
      parity: this.shape.parity,
      ...(this.shape.data === 0 ? {} : { data: this.shape.data }),
      managers: this.shape.managers,
      keepers: this.shape.keepers,
      cleaners: this.shape.cleaners,
      ...(disguise === undefined ? {} : { disguise }),
    });
    this.managers = this.cluster.numbers.slice(0, this.shape.managers);
    this.cleaners = this.cluster.numbers.slice(this.cluster.numbers.length - this.shape.cleaners);
    this.telling = {
      note: (what) => this.note(what),
      count: (what, times) => this.count(what, times),
      failed: (error) => this.failed(error),
    };
    this.fleet = new Fleet(this.cluster, this.fork("fleet"), this.telling);
    this.disturbances = new Disturbances(this.cluster, this.shape.parity, this.fork("disturbances"));
  }

  /** Randomness of its own. */
  fork(what: string): SeededRandom {
    return this.#random.fork(what);
  }

  async begin(): Promise<void> {
    this.fleet.raiseAll();
    await this.fleet.settle();
    await this.cluster.makeGroups();
    for (let number = 1; number <= this.shape.mounts; number++) this.seats.push(new Seat(`m${number}`));
    const [first] = this.seats as [Seat];
    first.took(await this.newMount());
    const making = (async () => first.fileSystem.makeDirectory(CALLER, ROOT, TURNS, 0o755))();
    const { attributes } = await this.await("the first directory", making);
    const owned = { mode: attributes.mode & 0o7777, uid: attributes.uid, gid: attributes.gid };
    await this.await("the first sync", Promise.resolve(first.fileSystem.fsyncDirectory(CALLER, ROOT, false)));
    this.history = new History(attributes.ino, owned, this.#onOperation);
    for (const seat of this.seats) {
      if (seat !== first) seat.took(await this.newMount());
      const fileSystem = await this.entered(seat);
      const random = this.fork(`workload of ${seat.name}`);
      const mayBeFull = () => {
        if (this.disturbances.mayBeFull) this.count("refusedForSpace");
        return this.disturbances.mayBeFull;
      };
      seat.begin({ fileSystem, history: this.history, mount: seat.name, random, fileBytes: FILE_BYTES, farBytes: FAR_BYTES, mayBeFull });
    }
  }

  newMount() {
    const start = this.fleet.retried(
      "a mount",
      () => true,
      () => this.cluster.launchMount(),
    );
    return this.await("a mount", start, START_LIMIT_MS);
  }

  /** A seat's mount that died gets another. */
  async remount(seat: Seat): Promise<void> {
    seat.took(await this.newMount());
  }

  /** The filesystem of a seat's mount, which has looked up where mounts take turns. */
  async entered({ fileSystem }: Seat): Promise<FileSystem> {
    await this.await("the first lookup", Promise.resolve(fileSystem.lookup(CALLER, ROOT, TURNS)));
    return fileSystem;
  }

  /** Some mounts were lost with what was not durable: what the first of them sees now must be what an allowed history leaves. */
  async recovered(lost: readonly Seat[]): Promise<void> {
    const [first] = lost as [Seat];
    const names = lost.map(({ name }) => name);
    const { ino } = (await this.await("a lookup", Promise.resolve(first.fileSystem.lookup(CALLER, ROOT, TURNS)))).attributes;
    const observed = await this.await("observe", observe(first.fileSystem, ino, CALLER));
    const { kept, lost: count } = this.history.recovered(observed, names);
    this.note(`${names.join(" and ")} back: ${kept} operations kept, ${count} lost`);
    this.count("operationsLost", count);
  }

  // Waiting.

  async await<T>(what: string, promise: Promise<T>, limitMs = STEP_LIMIT_MS): Promise<T> {
    promise.catch(() => {});
    try {
      return await this.world.run(promise, limitMs);
    } catch (error) {
      if ((error as Error).name === "SimulationError") (error as Error).message += ` (${what})`;
      throw error;
    } finally {
      this.checkFailure();
    }
  }

  /** Ends what goes wrong, and waits until all nodes are up: so that no more are missing at once than there are parities. */
  async settle(): Promise<void> {
    this.disturbances.end();
    await this.fleet.settle();
    this.checkFailure();
  }

  failed(error: unknown): void {
    this.#failure ??= { error };
  }

  checkFailure(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  // Telling.

  count(what: string, times = 1): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + times);
  }

  note(what: string): void {
    const line = `step ${this.step} at ${Math.round(this.world.nowMs)} ms: ${what}`;
    this.trace.push(line);
    this.#onTrace?.(line);
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((one, other) => one + other, 0);
}
