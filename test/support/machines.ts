import type { ChildProcess, SpawnOptions } from "node:child_process";
import { mkdirSync, readdirSync, readlinkSync, statSync, writeFileSync } from "node:fs";
import { mountTable } from "./mounts.ts";
import { requirePrograms } from "./programs.ts";
import { ok, type Result, type RunOptions, run, start } from "./run.ts";
import { until } from "./until.ts";
import { isRunning, signal, type Workspace } from "./workspace.ts";

const INTERFACE = "eth0";
const BRIDGE = "bridge0";
const GONE_DEADLINE_MS = 30_000;

/** A network of machines: each is a network namespace with its own address, on a bridge in a namespace of its own. Nothing of it can be seen or reached from
 * outside, so two runs at once never meet, though their addresses are the same. The namespaces are files below the workspace: its
 * janitor unmounts them, and with them goes everything in them, also where the test was killed. */
export class MachineNetwork {
  readonly #workspace: Workspace;
  readonly #name: string;
  readonly #machines: Machine[] = [];

  private constructor(workspace: Workspace, name: string) {
    this.#workspace = workspace;
    this.#name = name;
  }

  static async create(workspace: Workspace, name = "network"): Promise<MachineNetwork> {
    requirePrograms("ip", "nsenter", "unshare");
    const network = new MachineNetwork(workspace, name);
    await network.#namespace("switch");
    await network.#inSwitch("link", "add", BRIDGE, "type", "bridge", "forward_delay", "0");
    await network.#inSwitch("link", "set", BRIDGE, "up");
    return network;
  }

  get machines(): readonly Machine[] {
    return this.#machines;
  }

  /** One more machine, connected. */
  async add(): Promise<Machine> {
    const number = this.#machines.length + 1;
    const name = `m${number}`;
    const file = await this.#namespace(name);
    const directory = this.#workspace.directory(this.#name, name);
    const machine = new Machine(this.#workspace, { name, address: `10.77.0.${number}`, namespace: file, directory });
    this.#machines.push(machine);
    await machine.ip("link", "set", "lo", "up");
    await this.#inSwitch("link", "add", `port${number}`, "type", "veth", "peer", "name", INTERFACE, "netns", file);
    await this.#inSwitch("link", "set", `port${number}`, "master", BRIDGE, "up");
    await machine.ip("address", "add", `${machine.address}/24`, "dev", INTERFACE);
    await machine.linkUp();
    return machine;
  }

  #file(name: string): string {
    return this.#workspace.file(this.#name, `${name}.namespace`);
  }

  /** The namespace lives as long as its file is mounted. */
  async #namespace(name: string): Promise<string> {
    const file = this.#file(name);
    mkdirSync(this.#workspace.file(this.#name), { recursive: true });
    writeFileSync(file, "");
    await ok("unshare", [`--net=${file}`, "true"]);
    return file;
  }

  async #inSwitch(...args: readonly string[]): Promise<void> {
    await ok("nsenter", [`--net=${this.#file("switch")}`, "ip", ...args]);
  }
}

/** A machine as far as the network goes: processes, files and mounts are this machine's, so everybody sees them. */
export class Machine {
  readonly name: string;
  /** IPv4. */
  readonly address: string;
  /** For what belongs to it. */
  readonly directory: string;
  readonly #namespace: string;
  readonly #workspace: Workspace;

  constructor(workspace: Workspace, machine: { name: string; address: string; namespace: string; directory: string }) {
    this.name = machine.name;
    this.address = machine.address;
    this.directory = machine.directory;
    this.#namespace = machine.namespace;
    this.#workspace = workspace;
  }

  /** Runs a command there to its end. */
  run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Result> {
    return run("nsenter", this.#entering(command, args), this.#options(options));
  }

  /** As `run`; throws where it fails. Answers its standard output. */
  ok(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
    return ok("nsenter", this.#entering(command, args), this.#options(options));
  }

  /** A command that goes on beside the test. The process is that of the command itself. */
  start(command: string, args: readonly string[], options: RunOptions, stdio: SpawnOptions["stdio"]): ChildProcess {
    return start("nsenter", this.#entering(command, args), this.#options(options), stdio);
  }

  ip(...args: readonly string[]): Promise<string> {
    return this.ok("ip", args);
  }

  /** Cuts it off: nothing reaches it or leaves it, and nobody is told. */
  async linkDown(): Promise<void> {
    await this.ip("link", "set", INTERFACE, "down");
  }

  async linkUp(): Promise<void> {
    await this.ip("link", "set", INTERFACE, "up");
  }

  /** The processes that run there. */
  pids(): number[] {
    const own = namespaceOf(this.#namespace);
    return readdirSync("/proc")
      .filter((name) => /^[0-9]+$/.test(name) && networkOf(name) === own)
      .map(Number);
  }

  /** The power is cut: its processes are gone without a word, and with them its mounts. The link stays down. */
  async vanish(): Promise<void> {
    await this.linkDown();
    const pids = this.pids();
    for (const pid of pids) signal(pid, "SIGKILL");
    for (const { mountpoint, type } of mountTable())
      if (type.startsWith("fuse") && mountpoint.startsWith(`${this.directory}/`)) await run("umount", ["-l", mountpoint]);
    await until(`the processes of ${this.name} to be gone (${pids.join(", ")})`, GONE_DEADLINE_MS, () => !pids.some(isRunning));
  }

  #entering(command: string, args: readonly string[]): string[] {
    return [`--net=${this.#namespace}`, "--", command, ...args];
  }

  #options(options: RunOptions): RunOptions {
    return { cwd: this.directory, ...options, environment: { ...this.#workspace.environment, ...options.environment } };
  }
}

function namespaceOf(file: string): string {
  return `net:[${statSync(file).ino}]`;
}

/** Undefined where the process has ended. */
function networkOf(pid: string): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/net`);
  } catch {
    return undefined;
  }
}
