import { BLOCK_BYTES, type FileSystem, isDazzleError, REGION_BLOCKS } from "@dazzle/core";
import type { ManagerStatus } from "@dazzle/manager";
import { nodeName, SimCluster, type SimMount } from "../cluster.ts";
import { History } from "../model/history.ts";
import { observe } from "../model/observed.ts";
import { Workload } from "../model/workload.ts";
import { World } from "../world.ts";
import { DISTURBANCES, Disturbances } from "./disturbances.ts";
import { noLeaks } from "./leaks.ts";
import { SMALL_LIMITS } from "./limits.ts";
import { SlotMoves } from "./moves.ts";
import { explain, ScenarioError, type ScenarioOptions, type ScenarioResult } from "./outcome.ts";

/** What ends, in the middle of an operation. */
export const CRASHES = ["killMount", "killStorage", "killManager", "killAll", "cutOne", "cutAll", "restartNode"] as const;

export type Crash = (typeof CRASHES)[number];

const ENDS_MOUNT: ReadonlySet<Crash> = new Set(["killMount", "killAll", "cutAll"]);
const CRASH_AGAIN_CHANCE = 0.25;
const CRASH_AGAIN_MS_MAX = 600;
export const OPERATIONS = 2_000;
const NODES = 3;
const CRASHES_MIN = 3;
const CRASHES_MAX = 8;
const ROOT = 1;
const CALLER = { uid: 0, gid: 0, pid: 1 };
const FILE_BYTES = 24 * 1024;
/** Beyond the third of a file's regions. */
const FAR_BYTES = 3.5 * REGION_BLOCKS * BLOCK_BYTES;
const STEP_LIMIT_MS = 90_000;
const START_LIMIT_MS = 180_000;
const ATTEMPTS_MAX = 30;
const RETRY_MS = 300;
const VERIFY_EVERY = 400;
const CHECK_EVERY = 20;
const DISTURBANCE_CHANCE = 1 / 40;
const SYNC_BESIDE_CHANCE = 1 / 30;
const SYNCS_BESIDE_MAX = 3;
const THINK_MS_MAX = 8;
const PAUSE_CHANCE = 1 / 60;
const PAUSE_MS_MAX = 2_500;
const AWAY_MS_MAX = 5_000;
const LEAK_LIMIT_MS = 400_000;

/** One cluster from one seed: random operations on a mount, crashes and faults, and everything that comes back held against the
 * model. Rejects a `ScenarioError`. */
export function runScenario(options: ScenarioOptions): Promise<ScenarioResult> {
  return new Scenario(options).run();
}

class Scenario {
  readonly #options: ScenarioOptions;
  readonly #operations: number;
  readonly #world: World;
  readonly #cluster: SimCluster;
  readonly #disturbances: Disturbances;
  readonly #crashes: ReadonlyMap<number, Crash>;
  readonly #counts = new Map<string, number>();
  readonly #trace: string[] = [];
  /** Nodes on their way up. */
  readonly #rising = new Map<number, Promise<void>>();
  /** Which start of a node counts: a power cut ends those under way. */
  readonly #lifeOf = new Map<number, number>();
  #lives = 0;
  /** Raised when all nodes end at once: what was to happen to one of them does not. */
  #era = 0;
  /** Fsyncs that go on beside other operations. */
  readonly #syncs = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | null = null;
  /** The nodes with a manager. */
  readonly #managers: readonly number[];
  readonly #moves: SlotMoves;
  #history!: History;
  #workload!: Workload;
  #mount!: SimMount;
  #step = 0;

  constructor(options: ScenarioOptions) {
    this.#options = options;
    this.#operations = options.operations ?? OPERATIONS;
    this.#world = new World(options.seed, options.onLog === undefined ? {} : { onLog: options.onLog });
    const { disguise } = options;
    this.#cluster = new SimCluster(this.#world, {
      limits: SMALL_LIMITS,
      nodes: NODES,
      parity: 1,
      managers: options.managers ?? 1,
      ...(disguise === undefined ? {} : { disguise }),
    });
    this.#disturbances = new Disturbances(this.#cluster, this.#world.random.fork("disturbances"));
    this.#crashes = this.#plan();
    this.#managers = this.#cluster.numbers.slice(0, options.managers ?? 1);
    this.#moves = new SlotMoves(this.#cluster, this.#world.random.fork("moves"), this.#managers, {
      note: (what) => this.#note(what),
      count: (what) => this.#count(what),
      failed: (error) => {
        this.#failure ??= { error };
      },
    });
  }

  async run(): Promise<ScenarioResult> {
    const rejected = (error: unknown) => this.#world.fail(error);
    process.on("unhandledRejection", rejected);
    try {
      await this.#run();
    } catch (error) {
      throw new ScenarioError(this.#options.seed, explain(this.#options, this.#step, this.#world, this.#trace, error), error);
    } finally {
      process.off("unhandledRejection", rejected);
    }
    for (const [fault, count] of Object.entries(this.#world.counters.all())) this.#count(`fault.${fault}`, count);
    const { seed } = this.#options;
    return { seed, operations: this.#operations, counts: this.#counts, fingerprint: this.#world.fingerprint, virtualMs: this.#world.nowMs };
  }

  async #run(): Promise<void> {
    await this.#begin();
    for (this.#step = 1; this.#step <= this.#operations; this.#step++) {
      await this.#think();
      this.#disturb();
      this.#moves.maybe();
      const crash = this.#crashes.get(this.#step);
      if (crash === undefined) await this.#operate();
      else await this.#crash(crash);
      if (this.#step % CHECK_EVERY === 0) this.#mount.client.checkInvariants();
      if (this.#step % VERIFY_EVERY === 0) await this.#verify();
    }
    await this.#finish();
  }

  /** Which crash comes in the middle of which operation. */
  #plan(): ReadonlyMap<number, Crash> {
    const random = this.#world.random.fork("crashes");
    const crashes = new Map<number, Crash>();
    const count = CRASHES_MIN + random.below(CRASHES_MAX - CRASHES_MIN + 1);
    while (crashes.size < Math.min(count, this.#operations - 1)) crashes.set(1 + random.below(this.#operations), random.pick(CRASHES));
    return crashes;
  }

  async #verify(): Promise<void> {
    await this.#await("verify", this.#workload.verify());
    await this.#settleNodes();
    for (const number of this.#managers) {
      const node = this.#cluster.node(number);
      await this.#await("the manager", node.managing);
      const check = this.#retried(
        "the check of the manager",
        () => true,
        () => node.checkInvariants(),
      );
      await this.#await("the manager's invariants", check);
    }
  }

  async #begin(): Promise<void> {
    this.#raiseAll();
    await this.#settleNodes();
    this.#mount = await this.#newMount();
    const fileSystem: FileSystem = this.#mount.client.fileSystem;
    const { attributes } = await this.#await("stat of the root", Promise.resolve(fileSystem.getAttributes(CALLER, ROOT, undefined)));
    const owned = { mode: attributes.mode & 0o7777, uid: attributes.uid, gid: attributes.gid };
    this.#history = new History(ROOT, owned, this.#options.onOperation);
    const random = this.#world.random.fork("workload");
    this.#workload = new Workload({
      fileSystem,
      history: this.#history,
      mount: "mount",
      random,
      fileBytes: FILE_BYTES,
      farBytes: FAR_BYTES,
    });
  }

  async #think(): Promise<void> {
    const { random } = this.#world;
    await this.#world.advance(random.chance(PAUSE_CHANCE) ? random.between(0, PAUSE_MS_MAX) : random.between(0, THINK_MS_MAX));
    this.#checkFailure();
  }

  async #operate(): Promise<void> {
    const { random } = this.#world;
    if (this.#syncs.size < SYNCS_BESIDE_MAX && random.chance(SYNC_BESIDE_CHANCE)) this.#syncBeside();
    await this.#await("an operation", this.#workload.step());
    this.#checkFailure();
  }

  #syncBeside(): void {
    const sync = this.#workload.sync();
    this.#syncs.add(sync);
    sync.then(
      () => this.#syncs.delete(sync),
      (error) => {
        if (this.#syncs.delete(sync)) this.#failure ??= { error };
      },
    );
  }

  #disturb(): void {
    const { random } = this.#world;
    if (!random.chance(DISTURBANCE_CHANCE) || this.#disturbances.active || this.#rising.size > 0 || !this.#isWhole()) return;
    const kind = random.pick(DISTURBANCES);
    const server = this.#victim();
    const what = this.#disturbances.begin(kind, server, this.#mount.instance.name);
    if (what === undefined) return;
    this.#count(kind);
    this.#note(what);
    // A store whose index failed takes nothing more: somebody starts it again.
    if (kind === "commitError") this.#hold(server, this.#replaced(server));
  }

  async #replaced(server: number): Promise<void> {
    const era = this.#era;
    await this.#sleep(this.#world.random.between(0, AWAY_MS_MAX));
    if (this.#era !== era) return;
    this.#note(`${nodeName(server)} is killed`);
    this.#cluster.kill(server);
    await this.#bringUp(server, 0);
  }

  #isWhole(): boolean {
    return this.#cluster.numbers.every((number) => this.#cluster.isUp(number));
  }

  /** One server that may be missing for a while. */
  #victim(): number {
    return this.#disturbances.hasRotted ? this.#disturbances.rotten : this.#world.random.pick(this.#cluster.numbers);
  }

  // Crashes.

  async #crash(kind: Crash): Promise<void> {
    const { random } = this.#world;
    // A server that goes must be the only one that is missing; what ends with the mount may come at any moment.
    if (!ENDS_MOUNT.has(kind) || random.chance(0.5)) await this.#settleNodes();
    this.#count(kind);
    const operation = this.#workload.step();
    let settled = false;
    const done = () => {
      settled = true;
    };
    operation.then(done, (error) => {
      done();
      this.#failure ??= { error };
    });
    await this.#world.advance(random.chance(0.3) ? 0 : random.between(0, 30));
    this.#checkFailure();
    const middle = settled ? "after an operation" : "in the middle of an operation";
    switch (kind) {
      case "killMount":
        this.#note(`${this.#mount.instance.name} is killed ${middle}`);
        this.#killMount();
        return this.#recover();
      case "killAll":
        this.#note(`every process is killed ${middle}`);
        this.#killMount();
        this.#nodesEnd();
        for (const number of random.shuffle([...this.#cluster.numbers])) this.#cluster.kill(number);
        return this.#recover();
      case "cutAll":
        this.#note(`power of everything is cut ${middle}`);
        this.#killMount();
        this.#powerCut();
        return this.#recover();
      case "killStorage":
        this.#lose(this.#storageVictim(), false, middle);
        break;
      case "killManager":
        this.#lose(this.#disturbances.hasRotted ? this.#disturbances.rotten : this.#world.random.pick(this.#managers), false, middle);
        break;
      case "cutOne":
        this.#lose(this.#victim(), true, middle);
        break;
      case "restartNode":
        this.#restart(this.#victim(), middle);
        break;
    }
    await this.#await("an operation", operation);
  }

  #storageVictim(): number {
    if (this.#disturbances.hasRotted) return this.#disturbances.rotten;
    return this.#world.random.pick(this.#cluster.numbers.filter((number) => number !== 1));
  }

  /** A node goes, and comes back after a while. The mount stays. */
  #lose(number: number, power: boolean, middle: string): void {
    const awayMs = this.#world.random.between(0, AWAY_MS_MAX);
    this.#note(`${nodeName(number)} ${power ? "loses power" : "is killed"} ${middle}, for ${Math.round(awayMs)} ms`);
    this.#countManager(number);
    this.#cluster.kill(number);
    if (power) this.#world.drive(nodeName(number)).crash();
    this.#raise(number, awayMs);
  }

  /** A node stops as it should, and comes back. */
  #restart(number: number, middle: string): void {
    this.#note(`${nodeName(number)} stops ${middle}`);
    this.#countManager(number);
    const failed = (error: Error) => this.#note(`${nodeName(number)} stops with an error: ${error.message}`);
    const stopped = this.#cluster.node(number).stop().catch(failed);
    const era = this.#era;
    this.#hold(
      number,
      stopped.then(() => {
        if (this.#era !== era) return undefined;
        this.#note(`${nodeName(number)} has stopped`);
        this.#cluster.kill(number);
        return this.#bringUp(number, this.#world.random.between(0, AWAY_MS_MAX));
      }),
    );
  }

  #killMount(): void {
    this.#countMount();
    this.#mount.instance.kill();
    this.#syncs.clear();
  }

  /** After the mount has gone, and maybe everything: what comes back must be a prefix with all that was synced. */
  async #recover(): Promise<void> {
    this.#disturbances.end();
    const { random } = this.#world;
    while (random.chance(CRASH_AGAIN_CHANCE)) {
      this.#raiseAll();
      await this.#world.advance(random.between(0, CRASH_AGAIN_MS_MAX));
      this.#count("cutAgain");
      this.#note("power of everything is cut again");
      this.#powerCut();
    }
    this.#raiseAll();
    this.#mount = await this.#newMount();
    const { fileSystem } = this.#mount.client;
    const { kept, lost } = this.#history.recovered(await this.#await("observe", observe(fileSystem, ROOT, CALLER)), ["mount"]);
    this.#note(`${this.#mount.instance.name} is there: ${kept} operations kept, ${lost} lost`);
    this.#count("operationsLost", lost);
    this.#workload.remounted(fileSystem);
  }

  #powerCut(): void {
    this.#nodesEnd();
    this.#world.powerCut();
  }

  #nodesEnd(): void {
    for (const number of this.#managers) this.#countManager(number);
    this.#rising.clear();
    this.#era++;
  }

  #raiseAll(): void {
    const { random } = this.#world;
    for (const number of random.shuffle([...this.#cluster.numbers]))
      if (!this.#cluster.isAlive(number) && !this.#rising.has(number)) this.#raise(number, random.between(0, 500));
  }

  /** Waits until what is down is up again: one server at a time. */
  async #settleNodes(): Promise<void> {
    this.#disturbances.end();
    await this.#await("the nodes", Promise.all([...this.#rising.values()]), START_LIMIT_MS);
    await this.#awaitGroup();
  }

  /** Waits until every server is in the current version of the group again. */
  async #awaitGroup(): Promise<void> {
    const isFull = () => this.#isWhole() && this.#cluster.node(1).map.current.groups[0]?.versions.at(-1)?.servers.length === NODES;
    await this.#world.run(isFull, START_LIMIT_MS);
  }

  #raise(number: number, afterMs: number): void {
    this.#hold(number, this.#bringUp(number, afterMs));
  }

  #hold(number: number, rising: Promise<void>): void {
    this.#rising.set(number, rising);
    rising.then(
      () => this.#risen(number, rising),
      (error) => {
        this.#risen(number, rising);
        this.#failure ??= { error };
      },
    );
  }

  #risen(number: number, rising: Promise<void>): void {
    if (this.#rising.get(number) === rising) this.#rising.delete(number);
  }

  async #bringUp(number: number, afterMs: number): Promise<void> {
    const life = ++this.#lives;
    this.#lifeOf.set(number, life);
    const era = this.#era;
    const isCurrent = () => this.#lifeOf.get(number) === life && this.#era === era;
    await this.#sleep(afterMs);
    const node = await this.#retried(nodeName(number), isCurrent, () => this.#cluster.launchNode(number));
    this.#note(`${nodeName(number)} is up`);
    node.managing.catch((error: Error) => {
      if (!isCurrent()) return;
      this.#note(`${nodeName(number)} ends: ${error.message}`);
      this.#cluster.kill(number);
      this.#raise(number, RETRY_MS);
    });
  }

  #newMount(): Promise<SimMount> {
    const start = this.#retried(
      "a mount",
      () => true,
      () => this.#cluster.launchMount(),
    );
    return this.#await("a mount", start, START_LIMIT_MS);
  }

  /** Starts a process as its supervisor would: again, where it failed for a reason that may pass. Never settles once
   * `isCurrent` does not hold any more. */
  async #retried<T>(what: string, isCurrent: () => boolean, start: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      if (!isCurrent()) return new Promise(() => {});
      try {
        return await start();
      } catch (error) {
        if (!isDazzleError(error) || attempt === ATTEMPTS_MAX) throw error;
        this.#note(`${what} did not start: ${error.message}`);
        this.#count("startFailed");
        await this.#sleep(RETRY_MS);
      }
    }
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.#world.after(delayMs, resolve));
  }

  // The end.

  /** A clean unmount, then a power cut, loses nothing. */
  async #finish(): Promise<void> {
    await this.#settleNodes();
    await this.#await("fsyncs", Promise.all([...this.#syncs]));
    await this.#verify();
    await this.#await("quit", this.#workload.quit());
    this.#note("a clean unmount");
    this.#countMount();
    await this.#await("close", this.#mount.client.close());
    this.#mount.instance.kill();
    this.#history.synced("mount", this.#history.lastNumber);
    await this.#settleNodes();
    await this.#await("what nobody needs to be gone", noLeaks(this.#cluster), LEAK_LIMIT_MS);
    await this.#compareAnew();
    this.#note("power of everything is cut");
    this.#mount.instance.kill();
    this.#powerCut();
    await this.#recover();
    await this.#compareAnew();
  }

  async #compareAnew(): Promise<void> {
    this.#mount.instance.kill();
    this.#mount = await this.#newMount();
    this.#workload.remounted(this.#mount.client.fileSystem);
    await this.#verify();
  }

  // Counting and telling.

  async #await<T>(what: string, promise: Promise<T>, limitMs = STEP_LIMIT_MS): Promise<T> {
    promise.catch(() => {});
    try {
      return await this.#world.run(promise, limitMs);
    } catch (error) {
      if ((error as Error).name === "SimulationError") (error as Error).message += ` (${what})`;
      throw error;
    }
  }

  #checkFailure(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }

  #countMount(): void {
    for (const [name, value] of Object.entries(this.#mount.client.counters())) this.#count(`mount.${name}`, value);
  }

  #countManager(number: number): void {
    if (!this.#cluster.isUp(number)) return;
    const status = this.#cluster.node(number).status().manager as ManagerStatus | null;
    for (const [name, value] of Object.entries(status?.counters ?? {})) this.#count(`manager.${name}`, value);
  }

  #count(what: string, times = 1): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + times);
  }

  #note(what: string): void {
    const line = `step ${this.#step} at ${Math.round(this.#world.nowMs)} ms: ${what}`;
    this.#trace.push(line);
    this.#options.onTrace?.(line);
  }
}
