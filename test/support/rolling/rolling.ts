import { rm } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { Load } from "../load.ts";
import { cutPower, LoopDisk, restorePower } from "../loop-disk.ts";
import { type ClusterMachine, MachineCluster } from "../machine-cluster.ts";
import { isMounted } from "../mounts.ts";
import { randomFrom } from "../operations.ts";
import { until } from "../until.ts";
import type { Workspace } from "../workspace.ts";

const NODES = 5;
const MOUNTS = 3;
const MANAGERS = 3;
const KILL_EVERY_MS = 5_000;
const LOAD_MS = 15_000;
const DISK_BYTES = 8 * 1024 ** 3;
const GONE_DEADLINE_MS = 60_000;
const BACK_DEADLINE_MS = 240_000;
const FSCK_DEADLINE_MS = 300_000;
/** Trees of each mount that are kept, and looked at again at the end. */
const KEPT = 2;

export interface RollingReport {
  readonly nodesKilled: number;
  readonly mountsKilled: number;
  readonly loads: number;
  readonly operations: number;
}

/** Five machines that store, of which three manage and three mount, each on a disk of its own: their processes are killed one after the other and started again, while programs work at the
 * mounts, and the power of all of them fails. What is wrong throws. */
export class Rolling {
  readonly #workspace: Workspace;
  readonly #log: (line: string) => void;
  readonly #random: (bound: number) => number;
  readonly #disks: LoopDisk[] = [];
  readonly #kept: Load[][] = Array.from({ length: MOUNTS }, () => []);
  /** How often each mount was killed: what failed at one that was killed meanwhile says nothing. */
  readonly #lives: number[] = Array.from({ length: MOUNTS }, () => 0);
  readonly #away = new Set<number>();
  #cluster: MachineCluster | undefined;
  /** Resolves when the node that was killed is back; null where none is away. */
  #nodeAway: Promise<void> | null = null;
  #failure: Error | null = null;
  #over = false;
  #nextSeed: number;
  #report = { nodesKilled: 0, mountsKilled: 0, loads: 0, operations: 0 };

  constructor(workspace: Workspace, seed: number, log: (line: string) => void) {
    this.#workspace = workspace;
    this.#log = log;
    this.#random = randomFrom(seed);
    this.#nextSeed = seed * 1_000;
  }

  get cluster(): MachineCluster {
    if (this.#cluster === undefined) throw new Error("the cluster has not begun");
    return this.#cluster;
  }

  get #mounts(): readonly ClusterMachine[] {
    return this.cluster.members.slice(0, MOUNTS);
  }

  async begin(): Promise<void> {
    const prepare = async (machine: ClusterMachine, number: number) => {
      this.#disks.push(await LoopDisk.create(this.#workspace, `disk${number}`, machine.directory, DISK_BYTES));
      return number <= MANAGERS ? [] : ["--roles", "storage,client"];
    };
    this.#cluster = await MachineCluster.start(this.#workspace, NODES, { prepare });
    for (const machine of this.#mounts) await machine.mount();
  }

  /** Kills something every 5 s for so long, and waits until all is back. */
  async kill(durationMs: number): Promise<RollingReport> {
    this.#over = false;
    const work = [...this.#mounts.keys()].map((index) => this.#work(index).catch((error: unknown) => this.#fail(error)));
    for (const endMs = performance.now() + durationMs; performance.now() < endMs && !this.#over; ) {
      this.#killOne();
      await sleep(KILL_EVERY_MS);
    }
    this.#over = true;
    await Promise.all(work);
    await this.#nodeAway?.catch(() => {});
    await until("every mount to be back", BACK_DEADLINE_MS, () => this.#away.size === 0 || this.#failure !== null);
    if (this.#failure !== null) throw this.#failure;
    await this.cluster.healthy(BACK_DEADLINE_MS);
    await this.#checkAll();
    return this.#report;
  }

  /** A node where none is away, and else a mount: so never is more than one storage server missing. */
  #killOne(): void {
    const choice = this.#random(NODES + MOUNTS);
    if (choice < NODES && this.#nodeAway === null) {
      this.#nodeAway = this.#killNode(this.cluster.members[choice] as ClusterMachine);
      this.#nodeAway.then(
        () => {
          this.#nodeAway = null;
        },
        (error: unknown) => this.#fail(error),
      );
      return;
    }
    const index = choice % MOUNTS;
    if (this.#away.size < MOUNTS - 1 && !this.#away.has(index)) this.#killMount(index).catch((error: unknown) => this.#fail(error));
  }

  #fail(error: unknown): void {
    this.#failure ??= error as Error;
    this.#over = true;
  }

  /** Resolves when it is fully back. */
  async #killNode(machine: ClusterMachine): Promise<void> {
    this.#log(`the node of ${machine.machine.name} is killed`);
    this.#report.nodesKilled++;
    await machine.killNode();
    await sleep(this.#random(KILL_EVERY_MS));
    machine.startNode();
    await machine.answering();
    await this.cluster.healthy(BACK_DEADLINE_MS);
  }

  async #killMount(index: number): Promise<void> {
    const machine = this.#mounts[index] as ClusterMachine;
    this.#log(`the mount of ${machine.machine.name} is killed`);
    this.#report.mountsKilled++;
    this.#lives[index] = (this.#lives[index] as number) + 1;
    this.#away.add(index);
    await machine.killMount();
    await until(`${machine.mountpoint} to be gone`, GONE_DEADLINE_MS, () => !isMounted(machine.mountpoint));
    await this.#mountAgain(machine);
    this.#away.delete(index);
  }

  /** Whoever mounts while the map's keepers come and go may be told to try again. */
  async #mountAgain(machine: ClusterMachine): Promise<void> {
    await until(`${machine.mountpoint} to be mounted`, BACK_DEADLINE_MS, async () => {
      await machine.mount();
      return true;
    });
  }

  /** Works at a mount: a tree, and another one. */
  async #work(index: number): Promise<void> {
    while (!this.#over) {
      const kept = this.#kept[index] as Load[];
      const life = this.#lives[index];
      if (this.#away.has(index)) {
        await sleep(100);
        continue;
      }
      const load = await this.#atLiving(index, (machine) => Load.begin(this.#workspace, machine, this.#nextSeed++));
      if (load === undefined) continue;
      this.#report.loads++;
      for (const endMs = performance.now() + LOAD_MS; performance.now() < endMs && load.running && !this.#over; ) await sleep(100);
      const isAlive = life === this.#lives[index];
      if (isAlive && load.failure !== undefined) throw new Error(`at a mount that lives: ${load.failure} (seed ${load.seed})`);
      await load.end();
      if (life === this.#lives[index]) await this.#atLiving(index, (machine) => machine.sync());
      if (life === this.#lives[index]) load.allSynced();
      this.#report.operations += load.operations;
      await this.#check(load);
      kept.push(load);
      for (const old of kept.splice(0, Math.max(0, kept.length - KEPT)))
        await this.#anywhere((machine) => rm(machine.path(old.name), { recursive: true, force: true }));
    }
  }

  /** Undefined where the mount was killed meanwhile: else what fails is an error at a mount that lives. */
  async #atLiving<T>(index: number, action: (machine: ClusterMachine) => T | Promise<T>): Promise<T | undefined> {
    const life = this.#lives[index];
    try {
      return await action(this.#mounts[index] as ClusterMachine);
    } catch (error) {
      if (life === this.#lives[index] && !this.#away.has(index)) throw error;
      return undefined;
    }
  }

  /** At any mount; where it is killed, at another one: what was seen below a mountpoint that is none any more says nothing. */
  async #anywhere<T>(action: (machine: ClusterMachine) => T | Promise<T>): Promise<T> {
    for (;;) {
      const index = this.#random(MOUNTS);
      const life = this.#lives[index];
      let done: { readonly answer: T } | undefined;
      if (!this.#away.has(index)) done = await this.#atLiving(index, async (machine) => ({ answer: await action(machine) }));
      if (done !== undefined && life === this.#lives[index]) return done.answer;
      await sleep(100);
    }
  }

  async #check(load: Load): Promise<void> {
    const complaint = await this.#anywhere((machine) => load.check(machine));
    if (complaint !== "") throw new Error(complaint);
  }

  async #checkAll(): Promise<void> {
    for (const load of this.#kept.flat()) await this.#check(load);
  }

  /** Everything is read, and nothing is wrong. */
  async fsck(): Promise<void> {
    const words = ["fsck", "--data", "--json", "--dir", this.cluster.first.directory];
    const { code, stdout, stderr } = await this.cluster.first.dazzle(words, FSCK_DEADLINE_MS);
    if (code !== 0) throw new Error(`dazzle fsck ended with ${code}: ${stdout.slice(0, 8_000)} ${stderr.slice(-2_000)}`);
  }

  /** The power of all machines fails while their mounts are worked at. */
  async cutPower(): Promise<void> {
    const loads = await Promise.all(this.#mounts.map((machine) => Load.begin(this.#workspace, machine, this.#nextSeed++)));
    await until("an fsync at every mount", GONE_DEADLINE_MS, () => loads.every((load) => load.least > 0));
    await sleep(this.#random(3_000));
    const { members } = this.cluster;
    await cutPower(
      this.#disks,
      members.flatMap(({ machine }) => machine.pids()),
    );
    for (const { machine } of members) await machine.vanish();
    for (const load of loads) await load.end();
    await restorePower(this.#disks);
    for (const member of members) {
      await member.machine.linkUp();
      member.startNode();
    }
    for (const member of members) await member.answering();
    await this.cluster.healthy(BACK_DEADLINE_MS);
    for (const machine of this.#mounts) await this.#mountAgain(machine);
    for (const [index, load] of loads.entries()) this.#kept[index]?.push(load);
    await this.#checkAll();
  }
}
