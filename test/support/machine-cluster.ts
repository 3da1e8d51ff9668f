import type { ChildProcess } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { DAZZLE, type Status } from "./cluster.ts";
import { type Machine, MachineNetwork } from "./machines.ts";
import { isMounted } from "./mounts.ts";
import type { Result } from "./run.ts";
import { until } from "./until.ts";
import { isRunning, signal, type Workspace } from "./workspace.ts";

/** Nothing else listens on these machines. */
const PORT = 7400;
const UP_DEADLINE_MS = 120_000;
const GONE_DEADLINE_MS = 60_000;
const COMMAND_DEADLINE_MS = 120_000;

export interface MachineClusterOptions {
  /** Where several clusters share a workspace. */
  readonly name?: string;
  /** More arguments of `dazzle init`. */
  readonly init?: readonly string[];
  /** More arguments of every `dazzle join`. */
  readonly join?: readonly string[];
  /** Of every process. */
  readonly environment?: Readonly<Record<string, string>>;
  /** Before a machine becomes a member: for a disk of its own, say. Answers more arguments of its `init` or `join`. */
  readonly prepare?: (machine: ClusterMachine, number: number) => Promise<readonly string[]>;
}

/** A cluster over several machines, made as a user makes it: `dazzle init` on the first, `dazzle join` on the others, and a node on each. */
export class MachineCluster {
  readonly network: MachineNetwork;
  readonly members: ClusterMachine[] = [];
  readonly #options: MachineClusterOptions;

  private constructor(network: MachineNetwork, options: MachineClusterOptions) {
    this.network = network;
    this.#options = options;
  }

  /** All `n` are up, and one stripe group is over all of them, when it resolves. */
  static async start(workspace: Workspace, n: number, options: MachineClusterOptions = {}): Promise<MachineCluster> {
    const cluster = new MachineCluster(await MachineNetwork.create(workspace, options.name ?? "machines"), options);
    for (let number = 1; number <= n; number++) await cluster.join();
    await cluster.healthy();
    return cluster;
  }

  get first(): ClusterMachine {
    const first = this.members[0];
    if (first === undefined) throw new Error("the cluster has no machine");
    return first;
  }

  /** The member of a machine, from 1. */
  member(number: number): ClusterMachine {
    const member = this.members[number - 1];
    if (member === undefined) throw new Error(`the cluster has no machine ${number}`);
    return member;
  }

  /** One more machine becomes a member, the first by `dazzle init`, and its node is started. */
  async join(more: readonly string[] = []): Promise<ClusterMachine> {
    const machine = await this.addMachine();
    const isFirst = this.members.length === 0;
    const prepared = (await this.#options.prepare?.(machine, this.members.length + 1)) ?? [];
    const words = ["--listen", machine.address, "--name", machine.machine.name, "--dir", machine.directory, ...prepared];
    if (isFirst) await machine.must(["init", ...words, ...(this.#options.init ?? []), ...more]);
    else await machine.must(["join", this.first.address, ...words, ...(this.#options.join ?? []), ...more]);
    this.members.push(machine);
    machine.startNode();
    await machine.answering();
    return machine;
  }

  /** A machine on the network, and no member. */
  async addMachine(): Promise<ClusterMachine> {
    return new ClusterMachine(await this.network.add(), this.#options.environment ?? {});
  }

  /** Resolves when every member is up and in the stripe group, and the map's keepers are who they should be, as the first member's node sees it. */
  healthy(deadlineMs = UP_DEADLINE_MS): Promise<void> {
    return until("the cluster to be healthy", deadlineMs, async () => {
      const status = await this.first.status();
      const storing = status.members.filter(({ roles }) => roles.includes("storage")).length;
      const group = status.groups[0];
      const isHealthy = group?.state === "healthy" && group.servers.length === storing && status.members.length === this.members.length;
      const isKept = !status.warnings.some((warning) => /^the (keepers of the )?map /.test(warning));
      if (!isHealthy || !isKept || status.members.some(({ state }) => state !== "up"))
        throw new Error(
          JSON.stringify({ members: status.members.map(({ name, state }) => [name, state]), group, warnings: status.warnings }),
        );
      return true;
    }).then(
      () => {},
      (error: Error) => {
        throw new Error(`${error.message}\n${this.log().slice(-8_000)}`);
      },
    );
  }

  /** As the first machine sees it. */
  status(): Promise<Status> {
    return this.first.status();
  }

  /** Of every process on the machines. */
  pids(): number[] {
    return this.members.flatMap(({ machine }) => machine.pids());
  }

  async killNode(name: string): Promise<void> {
    await this.#named(name).killNode();
  }

  /** Starts a node that died, and waits until it is up. */
  async startNode(name: string): Promise<void> {
    const member = this.#named(name);
    member.startNode();
    await member.answering();
  }

  #named(name: string): ClusterMachine {
    const member = this.members.find(({ machine }) => machine.name === name);
    if (member === undefined) throw new Error(`the cluster has no machine ${name}`);
    return member;
  }

  /** Stops everything, the first machine's node last. */
  async down(): Promise<void> {
    for (const member of [...this.members].reverse()) await member.down();
  }

  log(): string {
    return this.members.map((member) => `== ${member.machine.name}\n${member.log()}`).join("\n");
  }
}

/** A machine with what a user of Dazzle has there: a directory, a node, a mount. */
export class ClusterMachine {
  readonly machine: Machine;
  /** What `--dir` names. */
  readonly directory: string;
  readonly mountpoint: string;
  /** HOST:PORT of its node. */
  readonly address: string;
  readonly #environment: Readonly<Record<string, string>>;
  #node: ChildProcess | undefined;

  constructor(machine: Machine, environment: Readonly<Record<string, string>>) {
    this.machine = machine;
    this.directory = join(machine.directory, "state");
    this.mountpoint = join(machine.directory, "mnt");
    this.address = `${machine.address}:${PORT}`;
    this.#environment = environment;
  }

  path(...parts: string[]): string {
    return join(this.mountpoint, ...parts);
  }

  /** `dazzle` with these arguments, there. */
  dazzle(args: readonly string[], timeoutMs = COMMAND_DEADLINE_MS): Promise<Result> {
    return this.machine.run(process.execPath, [DAZZLE, ...args], { environment: this.#environment, timeoutMs });
  }

  /** As `dazzle`; throws where it fails. Answers its standard output. */
  must(args: readonly string[], timeoutMs = COMMAND_DEADLINE_MS): Promise<string> {
    return this.machine.ok(process.execPath, [DAZZLE, ...args], { environment: this.#environment, timeoutMs });
  }

  /** What `dazzle status` says there. */
  async status(): Promise<Status> {
    return JSON.parse(await this.must(["status", "--dir", this.directory, "--json"])) as Status;
  }

  /** Mounts at `mountpoint`, in the background. */
  async mount(more: readonly string[] = []): Promise<void> {
    await this.must(["mount", this.mountpoint, "--dir", this.directory, ...more]);
    if (!isMounted(this.mountpoint)) throw new Error(`dazzle mount has returned and ${this.mountpoint} is not mounted`);
  }

  async unmount(): Promise<void> {
    await this.must(["unmount", this.mountpoint, "--dir", this.directory]);
  }

  async sync(): Promise<void> {
    await this.must(["sync", this.mountpoint, "--dir", this.directory]);
  }

  /** Of the process that serves the mount. */
  mountPid(): number {
    const pid = this.#records().find(({ mountpoint }) => mountpoint === this.mountpoint)?.pid;
    if (pid === undefined || !isRunning(pid)) throw new Error(`${this.machine.name} has no mount that runs (pid ${pid})`);
    return pid;
  }

  async killMount(): Promise<void> {
    await this.#kill(this.mountPid());
  }

  /** Starts its node as a user does, with the options for Node that its first line names; its output goes to a file (see `log`). */
  startNode(): void {
    const output = openSync(join(this.machine.directory, "node.out"), "a");
    this.#node = this.machine.start(DAZZLE, ["node", "--dir", this.directory], { environment: this.#environment }, [
      "ignore",
      output,
      output,
    ]);
    closeSync(output);
  }

  get nodePid(): number {
    const pid = this.#node?.pid;
    if (pid === undefined || !isRunning(pid))
      throw new Error(`the node of ${this.machine.name} does not run (pid ${pid})\n${this.log().slice(-4_000)}`);
    return pid;
  }

  async killNode(): Promise<void> {
    await this.#kill(this.nodePid);
  }

  /** Resolves when its node answers. Throws where it has ended instead. */
  async answering(): Promise<void> {
    await until(`the node of ${this.machine.name} to answer`, UP_DEADLINE_MS, async () => {
      if (this.#node?.exitCode !== null || this.#node.signalCode !== null) return "ended";
      const { members } = await this.status();
      return members.some(({ name, state }) => name === this.machine.name && state === "up") && "up";
    }).then((how) => {
      if (how === "ended") throw new Error(`the node of ${this.machine.name} ended\n${this.log().slice(-4_000)}`);
    });
  }

  /** Stops what runs of the cluster there. */
  async down(): Promise<void> {
    await this.must(["down", "--dir", this.directory]);
    await until(`the processes of ${this.machine.name} to end`, GONE_DEADLINE_MS, () => this.machine.pids().length === 0);
  }

  /** Everything that its processes have said. */
  log(): string {
    const files = [join(this.machine.directory, "node.out"), join(this.directory, "run", "mounts.log")];
    return files.map((file) => (existsSync(file) ? readFileSync(file, "utf8") : "")).join("");
  }

  #records(): ReadonlyArray<{ readonly pid: number; readonly mountpoint: string }> {
    const run = join(this.directory, "run");
    return readdirSync(run)
      .filter((name) => /^mount-\d+\.json$/.test(name))
      .map((name) => JSON.parse(readFileSync(join(run, name), "utf8")));
  }

  async #kill(pid: number): Promise<void> {
    signal(pid, "SIGKILL");
    await until(`process ${pid} of ${this.machine.name} to be gone`, GONE_DEADLINE_MS, () => !isRunning(pid));
  }
}
