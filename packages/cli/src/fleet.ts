import { join } from "node:path";
import { pidOf, realProcesses } from "@dazzle/runtime";
import { Child, exitText } from "./child.ts";
import { addressOf, type ClusterFile, type NodeRow, nodeDirectory, runDirectory } from "./cluster-directory.ts";
import { lockHolder } from "./lock.ts";
import type { MountFlags } from "./mount-options.ts";
import { clearDeadMounts } from "./mount-records.ts";
import { failure, Progress, print } from "./output.ts";

const READY_DEADLINE_MS = 90_000;
/** Longer than a mount gives itself to write what is not durable yet. */
const MOUNT_STOP_DEADLINE_MS = 45_000;
const NODE_STOP_DEADLINE_MS = 25_000;

/** What `dazzle up` runs: a process a node, and one for the mount. */
export class Fleet {
  readonly #directory: string;
  readonly #cluster: ClusterFile;
  readonly #nodes = new Map<string, Child>();
  #mount: Child | null = null;
  #mountpoint = "";
  #stopping = false;
  #told: (() => void) | null = null;

  constructor(directory: string, cluster: ClusterFile) {
    this.#directory = directory;
    this.#cluster = cluster;
  }

  /** All nodes at once: each waits for the others. Rejects with the line of the first that fails. */
  async startNodes(): Promise<void> {
    const progress = new Progress("starting", this.#cluster.nodes.length);
    try {
      await Promise.all(this.#cluster.nodes.map((row) => this.#startNode(row, progress)));
    } finally {
      progress.end();
    }
  }

  async #startNode(row: NodeRow, progress: Progress): Promise<void> {
    const node = nodeDirectory(this.#directory, row.name);
    const holder = lockHolder(join(node, "lock"));
    if (holder !== undefined && !realProcesses.isGone(holder)) {
      progress.print(`${row.name} was up already: pid ${pidOf(holder)}`);
      progress.step(row.name);
      return;
    }
    const child = Child.start(row.name, ["node", "--dir", node], { logPath: join(node, "log"), supervision: "bound" });
    this.#nodes.set(row.name, child);
    void child.exited.then((exit) => {
      if (this.#stopping) return;
      print(`${row.name} (pid ${child.pid}) is down: ${exitText(exit)}; bring it back with dazzle node --dir ${node}`);
      this.#ended();
    });
    await inTime(child, READY_DEADLINE_MS);
    progress.print(`${row.name} is up: pid ${child.pid}, ${addressOf(this.#directory, row)}, ${row.roles.join(" ")}`);
    progress.step(row.name);
  }

  async mount(mountpoint: string, flags: MountFlags): Promise<void> {
    const options = [...(flags.readOnly ? ["-o", "ro"] : []), ...(flags.allowOther === true ? ["-o", "allow_other"] : [])];
    const progress = new Progress("mounting", 1);
    const child = Child.start(
      "the mount",
      ["mount", mountpoint, "-f", "--dir", this.#directory, "--fuse-engine", flags.engine, ...options],
      {
        logPath: join(runDirectory(this.#directory), "mounts.log"),
        supervision: "bound",
      },
    );
    this.#mount = child;
    void child.exited.then((exit) => this.#mountEnded(child, exitText(exit), exit.code === 0));
    try {
      const fields = await inTime(child, READY_DEADLINE_MS);
      this.#mountpoint = String(fields.mountpoint);
      progress.print(`mounted at ${this.#mountpoint}: pid ${child.pid}`);
    } finally {
      progress.end();
    }
  }

  #mountEnded(child: Child, how: string, clean: boolean): void {
    this.#mount = null;
    if (this.#stopping || this.#mountpoint === "") return;
    print(clean ? `${this.#mountpoint} is unmounted` : `the mount at ${this.#mountpoint} (pid ${child.pid}) is down: ${how}`);
    clearDeadMounts(this.#directory).catch((error: Error) => print(`${this.#mountpoint} can't be unmounted: ${error.message}`));
  }

  /** The processes that it started and that run. */
  get running(): number {
    return [...this.#nodes.values(), ...(this.#mount === null ? [] : [this.#mount])].filter((child) => child.running).length;
  }

  /** Resolves when none of what it started runs any more. */
  allEnded(): Promise<void> {
    return new Promise((resolve) => {
      this.#told = resolve;
      this.#ended();
    });
  }

  #ended(): void {
    if (this.running === 0) this.#told?.();
  }

  /** The mount first, then the manager, whose last words go to the storage of the others. Resolves to whether all ended by themselves. */
  async stop(): Promise<boolean> {
    this.#stopping = true;
    const progress = new Progress("stopping", this.running);
    try {
      let clean = (await this.#mount?.stop(MOUNT_STOP_DEADLINE_MS)) ?? true;
      await clearDeadMounts(this.#directory);
      const first = this.#cluster.nodes.filter(({ roles }) => roles.includes("manager"));
      const others = this.#cluster.nodes.filter((row) => !first.includes(row));
      for (const rows of [first, others]) {
        const ends = rows.map(({ name }) => this.#nodes.get(name)?.stop(NODE_STOP_DEADLINE_MS) ?? true);
        clean = (await Promise.all(ends)).every(Boolean) && clean;
        progress.step("", rows.length);
      }
      return clean;
    } finally {
      progress.end();
    }
  }

  kill(): void {
    this.#stopping = true;
    for (const child of [...this.#nodes.values(), ...(this.#mount === null ? [] : [this.#mount])]) child.kill("SIGKILL");
  }
}

async function inTime(child: Child, deadlineMs: number): Promise<Readonly<Record<string, unknown>>> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(failure(`${child.name} was not up after ${deadlineMs / 1_000} s: see its log`)), deadlineMs);
  });
  try {
    return await Promise.race([child.ready, late]);
  } finally {
    clearTimeout(timer);
  }
}
