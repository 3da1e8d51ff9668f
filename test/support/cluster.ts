import type { ChildProcess } from "node:child_process";
import { closeSync, existsSync, openSync, readdirSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { isPassing } from "./fsck-report.ts";
import { isMounted } from "./mounts.ts";
import { type Result, run, start } from "./run.ts";
import { until } from "./until.ts";
import { isRunning, processesWith, signal, type Workspace } from "./workspace.ts";

/** The command under test; another build of it where DAZZLE_COMMAND names one. */
export const DAZZLE = process.env.DAZZLE_COMMAND ?? resolve(import.meta.dirname, "../../packages/cli/bin/dazzle.mjs");

const MARK = "DAZZLE_TEST_CLUSTER";
const UP_DEADLINE_MS = 60_000;
const DOWN_DEADLINE_MS = 60_000;
const HEALED_DEADLINE_MS = 120_000;
const SOUND_DEADLINE_MS = 5 * 60_000;

export interface MemberStatus {
  readonly name: string;
  readonly id: number;
  readonly roles: readonly string[];
  readonly pid: number | null;
  readonly state: string;
  readonly bytesUsed: number;
  readonly bytesFree: number;
}

export interface MountStatus {
  readonly pid: number;
  readonly mountpoint: string;
  readonly member: string;
  readonly state: string;
  readonly engine?: string;
}

export interface Status {
  readonly members: readonly MemberStatus[];
  readonly groups: readonly {
    readonly servers: readonly string[];
    readonly version: number;
    readonly state: string;
    readonly dataFragments: number;
    readonly parityFragments: number;
  }[];
  readonly mounts: readonly MountStatus[];
  readonly warnings: readonly string[];
}

export interface ClusterOptions {
  readonly nodes?: number;
  readonly engine?: "addon" | "node";
  /** Of the cluster's processes. */
  readonly environment?: Readonly<Record<string, string>>;
  /** More arguments of `dazzle up`. */
  readonly more?: readonly string[];
  /** Where several clusters share a workspace. */
  readonly name?: string;
}

/** How long each file of the log was. */
export type LogMark = ReadonlyMap<string, number>;

/** A cluster of real processes with a real mount, as `dazzle up` starts it. */
export class Cluster {
  readonly directory: string;
  readonly mountpoint: string;
  readonly #workspace: Workspace;
  readonly #options: ClusterOptions;
  #environment: Readonly<Record<string, string>>;
  #up: ChildProcess | undefined;
  #logs = 0;
  /** How long the last `up` took until a first call at the mount was answered, within what `until` can tell. */
  usableAfterMs = 0;

  constructor(workspace: Workspace, options: ClusterOptions = {}) {
    const name = options.name ?? "cluster";
    this.directory = workspace.file(name);
    this.mountpoint = workspace.file(`${name}-mnt`);
    this.#workspace = workspace;
    this.#options = options;
    this.#environment = options.environment ?? {};
  }

  static async start(workspace: Workspace, options: ClusterOptions = {}): Promise<Cluster> {
    const cluster = new Cluster(workspace, options);
    await cluster.up();
    return cluster;
  }

  get #nodes(): number {
    return this.#options.nodes ?? 3;
  }

  /** The directory of one node, made by the first `up` or before it. */
  nodeDirectory(name: string): string {
    return join(this.directory, "nodes", name);
  }

  path(...parts: string[]): string {
    return join(this.mountpoint, ...parts);
  }

  /** Starts it and waits until it is usable. Throws with the end of what it said where it ends instead. */
  async up(environment: Readonly<Record<string, string>> = this.#environment): Promise<void> {
    this.#environment = environment;
    const args = ["up", "--dir", this.directory, "--mount", this.mountpoint, "--nodes", String(this.#nodes)];
    if (this.#options.engine !== undefined) args.push("--fuse-engine", this.#options.engine);
    const started = performance.now();
    const up = this.#spawn([...args, ...(this.#options.more ?? [])]);
    this.#up = up;
    this.usableAfterMs = 0;
    await until("the cluster to come up", UP_DEADLINE_MS, async () => {
      if (up.exitCode !== null || up.signalCode !== null) return "ended";
      if (this.usableAfterMs === 0) {
        if (!isMounted(this.mountpoint) || (await this.#asked()).code !== 0) return false;
        this.usableAfterMs = performance.now() - started;
      }
      return (await this.#isComplete()) && "usable";
    }).then(
      (end) => {
        if (end === "ended") throw new Error(`dazzle up ended with ${up.exitCode ?? up.signalCode}:\n${this.log().slice(-4_000)}`);
      },
      (error: Error) => {
        throw new Error(`${error.message}\n${this.log().slice(-4_000)}`, { cause: error });
      },
    );
  }

  async #isComplete(): Promise<boolean> {
    const status = await this.status();
    if (status.members.filter((member) => isAlive(member)).length < this.#nodes) return false;
    return status.mounts.some((mount) => mount.mountpoint === this.mountpoint);
  }

  #asked(): Promise<Result> {
    return run("stat", [this.mountpoint], { timeoutMs: 15_000 });
  }

  /** `dazzle` with these arguments and `--dir`. */
  command(args: readonly string[], timeoutMs = 30_000): Promise<Result> {
    return run(process.execPath, [DAZZLE, ...args], { environment: this.#fullEnvironment(), cwd: this.#workspace.path, timeoutMs });
  }

  /** As `command`, for one that goes on; what it says is in the log. */
  start(args: readonly string[]): ChildProcess {
    return this.#spawn(args);
  }

  /** Stops it cleanly and waits for every process to end. */
  async down(): Promise<void> {
    const result = await this.command(["down", "--dir", this.directory], DOWN_DEADLINE_MS);
    if (result.code !== 0) throw new Error(`dazzle down failed (${result.code}): ${result.stderr}`);
    await this.#allGone();
    if (isMounted(this.mountpoint)) throw new Error(`${this.mountpoint} is still mounted after dazzle down`);
  }

  async sync(): Promise<void> {
    const result = await this.command(["sync", this.mountpoint], 120_000);
    if (result.code !== 0) throw new Error(`dazzle sync failed (${result.code}): ${result.stderr}`);
  }

  async status(): Promise<Status> {
    const result = await this.command(["status", "--dir", this.directory, "--json"]);
    if (result.code !== 0) throw new Error(`dazzle status failed (${result.code}): ${result.stderr}`);
    return JSON.parse(result.stdout) as Status;
  }

  async member(name: string): Promise<MemberStatus> {
    const status = await this.status();
    const member = status.members.find((row) => row.name === name);
    if (member === undefined) throw new Error(`no member ${name} in ${JSON.stringify(status.members)}`);
    return member;
  }

  async pidOf(name: string): Promise<number> {
    const { pid } = await this.member(name);
    if (!pid || !isRunning(pid)) throw new Error(`${name} is not running (pid ${pid})`);
    return pid;
  }

  async mountPid(): Promise<number> {
    const { mounts } = await this.status();
    const mount = mounts.find((row) => row.mountpoint === this.mountpoint);
    if (mount === undefined || !isRunning(mount.pid)) throw new Error(`no running mount in ${JSON.stringify(mounts)}`);
    return mount.pid;
  }

  /** Names of the nodes that may die in a cluster with one manager and one keeper. */
  async expendable(): Promise<string[]> {
    const { members } = await this.status();
    const names = members.filter((row) => !row.roles.includes("manager") && !row.roles.includes("keeper")).map((row) => row.name);
    if (names.length < this.#nodes - 1) throw new Error(`nodes with storage alone: ${names.join(", ")}`);
    return names;
  }

  async remountCold(): Promise<void> {
    const unmounted = await this.command(["unmount", this.mountpoint, "--dir", this.directory]);
    if (unmounted.code !== 0) throw new Error(`dazzle unmount failed (${unmounted.code}): ${unmounted.stderr}`);
    await dropCaches();
    await this.mount();
  }

  async mount(): Promise<void> {
    const engine = this.#options.engine === undefined ? [] : ["--fuse-engine", this.#options.engine];
    const result = await this.command(["mount", this.mountpoint, "--dir", this.directory, ...engine], 60_000);
    if (result.code !== 0) throw new Error(`dazzle mount failed (${result.code}): ${result.stderr}`);
    if (!isMounted(this.mountpoint)) throw new Error(`dazzle mount has returned and ${this.mountpoint} is not mounted`);
  }

  async killNode(name: string): Promise<void> {
    const pid = await this.pidOf(name);
    signal(pid, "SIGKILL");
    await until(`${name} to be gone`, 10_000, () => !isRunning(pid));
  }

  /** `fsck` finds nothing wrong, but for what died last, or was moved last, and is not deleted yet, and has looked at everything: that is waited for. */
  async sound(...options: readonly string[]): Promise<void> {
    const wrong = await until("fsck to look at everything and find nothing", SOUND_DEADLINE_MS, async () => {
      const { code, stdout, stderr } = await this.command(["fsck", "--json", ...options, "--dir", this.directory], 240_000);
      if (code === 0) return "";
      const said = `fsck ended with ${code}: ${stdout}${stderr}`;
      if (isPassing(stdout)) throw new Error(said);
      return said;
    });
    if (wrong !== "") throw new Error(wrong);
  }

  /** Starts a node that died, and waits until nothing is warned of any more. */
  async startNode(name: string): Promise<void> {
    this.beginNode(name);
    await this.healed();
  }

  beginNode(name: string): void {
    this.#spawn(["node", "--dir", this.nodeDirectory(name)]);
  }

  async healed(): Promise<void> {
    await until("a status without warnings", HEALED_DEADLINE_MS, async () => {
      const { warnings } = await this.status();
      if (warnings.length > 0) throw new Error(`warnings: ${warnings.join("; ")}`);
      return true;
    });
  }

  /** Every process of the cluster, `up` and what it started. */
  pids(): number[] {
    return processesWith(MARK, this.directory);
  }

  async killAll(): Promise<void> {
    for (const pid of this.pids()) signal(pid, "SIGKILL");
    await this.#allGone();
  }

  async #allGone(): Promise<void> {
    await until(`the cluster's processes to end (${this.pids().join(", ")})`, DOWN_DEADLINE_MS, () => !this.pids().some(isRunning));
  }

  /** After its server was killed: what a supervisor would do, here by the test. */
  async clearMountpoint(): Promise<void> {
    while (isMounted(this.mountpoint)) await run("umount", ["-l", this.mountpoint]);
  }

  /** Stops everything and starts it again: no cache of any process or of the kernel is left. */
  async restartCold(): Promise<void> {
    await this.down();
    await dropCaches();
    await this.up();
  }

  /** Everything that the cluster's processes have written for people: standard output and error of `up` and nodes, and log files in the
   * directory; with `since`, what came after that. */
  log(since: LogMark = new Map()): string {
    return [...this.#logTexts()].map(([path, text]) => text.slice(since.get(path) ?? 0)).join("\n");
  }

  /** How far the log goes now. */
  logMark(): LogMark {
    return new Map([...this.#logTexts()].map(([path, text]) => [path, text.length]));
  }

  #logTexts(): Map<string, string> {
    const files = Array.from({ length: this.#logs }, (_, index) => this.#logFile(index + 1));
    if (existsSync(this.directory)) {
      for (const name of readdirSync(this.directory, { recursive: true, encoding: "utf8" })) {
        if (/(^|\/|\.)log$/.test(name)) files.push(join(this.directory, name));
      }
    }
    return new Map(files.map((path) => [path, readLog(path)]));
  }

  #logFile(index: number): string {
    return join(this.#workspace.directory("logs"), `${this.#options.name ?? "cluster"}-${index}.out`);
  }

  #fullEnvironment(): Record<string, string> {
    return { ...this.#workspace.environment, [MARK]: this.directory, ...this.#environment };
  }

  #spawn(args: readonly string[]): ChildProcess {
    this.#logs++;
    const output = openSync(this.#logFile(this.#logs), "w");
    const options = { environment: this.#fullEnvironment(), cwd: this.#workspace.path };
    const child = start(DAZZLE, args, options, ["ignore", output, output]);
    closeSync(output);
    return child;
  }

  /** How `up` ended; undefined while it runs. */
  get ended(): number | NodeJS.Signals | undefined {
    return this.#up?.exitCode ?? this.#up?.signalCode ?? undefined;
  }
}

/** Nothing where it can't be read: what it was to explain is the failure. */
function readLog(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function isAlive(member: MemberStatus): boolean {
  return typeof member.pid === "number" && isRunning(member.pid);
}

/** Empties the kernel's caches of everything that is clean. */
export async function dropCaches(): Promise<void> {
  await run("sh", ["-c", "sync; echo 3 >/proc/sys/vm/drop_caches"], { timeoutMs: 120_000 });
}
