import { join } from "node:path";
import { pidOf } from "@dazzle/runtime";
import { Child, exitText } from "./child.ts";
import { addressOf, type ClusterFile, type NodeRow, nodeDirectory, nodeLog, runDirectory } from "./cluster-directory.ts";
import type { MountFlags } from "./mount-options.ts";
import { clearDeadMounts } from "./mount-records.ts";
import { failure, Progress, print } from "./output.ts";
import { runningNode, stopCluster } from "./stop-cluster.ts";

const READY_DEADLINE_MS = 90_000;
/** Of what was started and has not got so far as to be known by its lock or its record. */
const EARLY_STOP_DEADLINE_MS = 5_000;

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

  /** All nodes at once: each waits for the others. Rejects with the line of the first that fails; but a cluster that has been
   * up before goes on without a node that only stores. */
  async startNodes(hasBeenUp: boolean): Promise<void> {
    const progress = new Progress("starting", this.#cluster.nodes.length);
    const start = (row: NodeRow) =>
      this.#startNode(row, progress).catch((error: Error) => {
        if (!hasBeenUp || row.roles.includes("keeper")) throw error;
        progress.print(`${row.name} is not up, the others go on without it: ${error.message}`);
      });
    try {
      await Promise.all(this.#cluster.nodes.map(start));
    } finally {
      progress.end();
    }
  }

  async #startNode(row: NodeRow, progress: Progress): Promise<void> {
    const node = nodeDirectory(this.#directory, row.name);
    const holder = runningNode(this.#directory, row);
    if (holder !== undefined) {
      progress.print(`${row.name} was up already: pid ${pidOf(holder)}`);
      progress.step(row.name);
      return;
    }
    const child = Child.start(row.name, ["node", "--dir", node], { logPath: nodeLog(node), supervision: "bound" });
    this.#nodes.set(row.name, child);
    void child.exited.then((exit) => {
      if (this.#stopping) return;
      print(`${row.name} (pid ${child.pid}) is down: ${exitText(exit)}; bring it back with dazzle node --dir ${node}`);
      this.#ended();
    });
    await inTime(child, READY_DEADLINE_MS);
    progress.print(`${row.name} is up: pid ${child.pid}, ${await addressOf(this.#directory, row)}, ${row.roles.join(" ")}`);
    progress.step(row.name);
  }

  async mount(mountpoint: string, flags: MountFlags): Promise<void> {
    if (this.#stopping) return;
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
    return this.#children.filter((child) => child.running).length;
  }

  /** Resolves when none of what it started runs any more. */
  allEnded(): Promise<"ended"> {
    return new Promise((resolve) => {
      this.#told = () => resolve("ended");
      this.#ended();
    });
  }

  #ended(): void {
    if (this.running === 0) this.#told?.();
  }

  get #children(): readonly Child[] {
    return [...this.#nodes.values(), ...(this.#mount === null ? [] : [this.#mount])];
  }

  /** Stops everything of the cluster in order. Resolves to whether all ended by themselves. */
  async stop(): Promise<boolean> {
    this.#stopping = true;
    const progress = new Progress("stopping", this.running);
    try {
      const { clean } = await stopCluster(this.#directory, this.#cluster);
      const early = await Promise.all(this.#children.map((child) => child.stop(EARLY_STOP_DEADLINE_MS)));
      return clean && early.every(Boolean);
    } finally {
      progress.end();
    }
  }

  kill(): void {
    this.#stopping = true;
    for (const child of this.#children) child.kill("SIGKILL");
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
