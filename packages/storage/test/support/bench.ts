import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Clock, type Disk, LIMITS, type Limits, type Logger, type Random } from "@dazzle/core";
import { openDisk, realClock, realRandom } from "@dazzle/runtime";
import { type Instance, SeededRandom, World } from "@dazzle/sim";
import type { ExecutionContext } from "ava";
import { FragmentStore } from "../../src/index.ts";
import { CLUSTER } from "./fragments.ts";

export const SMALL_LIMITS: Limits = { ...LIMITS, fragmentBytes: 16 * 1024, mirrorBytes: 4 * 1024, volumeBytes: 128 * 1024 };

/** A store on some disk, whichever it is. */
export interface Bench {
  readonly random: Random;
  readonly store: FragmentStore;
  readonly disk: Disk;
  /** Waits for what the disk has to do for it. */
  run<T>(promise: Promise<T>): Promise<T>;
  /** Closes the store and opens it again. */
  reopen(): Promise<void>;
}

export interface BenchOptions {
  readonly limits?: Limits;
  readonly wrap?: (disk: Disk) => Disk;
}

/** A store in a simulated process. */
export class SimBench implements Bench {
  readonly world: World;
  readonly random: Random;
  /** From the next start on. */
  options: BenchOptions;
  #node: Instance;
  #store: FragmentStore | null = null;

  constructor(seed: number | string, options: BenchOptions = {}) {
    this.world = new World(seed);
    this.random = this.world.random;
    this.options = options;
    this.#node = this.world.spawn("node");
  }

  static async open(seed: number | string, options: BenchOptions = {}): Promise<SimBench> {
    const bench = new SimBench(seed, options);
    await bench.start();
    return bench;
  }

  get node(): Instance {
    return this.#node;
  }

  get store(): FragmentStore {
    return this.#store as FragmentStore;
  }

  get disk(): Disk {
    return this.#node.disk;
  }

  run<T>(promise: Promise<T>): Promise<T> {
    return this.world.run(promise);
  }

  async start(): Promise<void> {
    this.#store = await this.run(
      openStore(this.options, this.disk, this.#node.ports.clock, this.#node.ports.random, this.#node.ports.logger),
    );
  }

  async reopen(): Promise<void> {
    await this.run(this.store.close());
    await this.start();
  }

  /** The process ends where it stands; with `powerCut` the disk loses what was not synced. */
  stop(how: "kill" | "powerCut"): void {
    if (how === "kill") this.#node.kill();
    else this.world.powerCut();
    this.#node = this.world.spawn("node");
  }
}

/** A store in a directory of this machine. */
export async function realBench(t: ExecutionContext, options: BenchOptions = {}): Promise<Bench> {
  const path = mkdtempSync(join(tmpdir(), "dazzle-storage-"));
  const disk = await openDisk(path);
  const opened = () => openStore(options, disk, realClock, realRandom, () => {});
  let store = await opened();
  t.teardown(async () => {
    await store.close();
    rmSync(path, { recursive: true, force: true });
  });
  return {
    random: new SeededRandom("real"),
    disk,
    get store() {
      return store;
    },
    run: (promise) => promise,
    reopen: async () => {
      await store.close();
      store = await opened();
    },
  };
}

function openStore(options: BenchOptions, disk: Disk, clock: Clock, random: Random, logger: Logger): Promise<FragmentStore> {
  const wrapped = options.wrap?.(disk) ?? disk;
  return FragmentStore.open({ disk: wrapped, random, clock, logger, limits: options.limits ?? SMALL_LIMITS, clusterId: CLUSTER });
}
