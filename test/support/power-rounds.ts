import { mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { basename } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Cluster } from "./cluster.ts";
import { cutPower, LoopDisk, restorePower } from "./loop-disk.ts";
import { checkPrefix, randomFrom, type Tree } from "./operations.ts";
import { readTree } from "./operations-reader.ts";
import { run, signalGroup } from "./run.ts";
import { startScript } from "./script.ts";
import { until } from "./until.ts";
import type { Workspace } from "./workspace.ts";

const DISK_BYTES = 2 * 1024 ** 3;
/** Trees of earlier rounds that are kept and looked at again; older ones are removed, so that the disks don't fill up. */
const ROUNDS_KEPT = 6;
const NODES = ["node1", "node2", "node3"];
const WRITER = new URL("./operations-writer.ts", import.meta.url).pathname;

export interface RoundReport {
  readonly seed: number;
  readonly synced: number;
  readonly begun: number;
  /** How many operations survived; undefined with a complaint. */
  readonly prefix: number | undefined;
  readonly complaint: string;
}

/** A cluster with a disk of its own for each node, whose power can be cut. */
export class PowerRounds {
  readonly cluster: Cluster;
  readonly #workspace: Workspace;
  readonly #disks: LoopDisk[] = [];
  readonly #rounds: { root: string; seed: number; tree: Tree }[] = [];

  constructor(workspace: Workspace) {
    this.#workspace = workspace;
    this.cluster = new Cluster(workspace);
  }

  async begin(): Promise<void> {
    for (const name of NODES) {
      this.#disks.push(await LoopDisk.create(this.#workspace, name, this.cluster.nodeDirectory(name), DISK_BYTES));
    }
    await this.cluster.up();
  }

  /** One life: operations until the power fails, at a moment that follows from the seed, then up again and a look at what is there. `environment` is
   * for the cluster that comes up after the cut. */
  async round(seed: number, environment: Readonly<Record<string, string>> = {}): Promise<RoundReport> {
    const name = `round-${seed}`;
    const list = this.#workspace.file(`${name}.list`);
    for (const { root } of this.#rounds.splice(0, Math.max(0, this.#rounds.length - ROUNDS_KEPT))) rmSync(root, { recursive: true });
    mkdirSync(this.cluster.path(name));
    await this.cluster.sync();
    const writer = startScript(WRITER, [this.cluster.path(name), list, String(seed)], { environment: this.#workspace.environment });
    await until("the first fsync to return", 60_000, () => readList(list).synced > 0);
    await sleep(200 + randomFrom(seed)(2_800));
    await cutPower(this.#disks, this.cluster.pids());
    await this.cluster.killAll();
    await this.cluster.clearMountpoint();
    signalGroup(writer, "SIGKILL");
    const { synced, begun } = readList(list);
    await restorePower(this.#disks);
    await this.cluster.up(environment);
    return { seed, synced, begun, ...(await this.#inspect(name, seed, synced, begun)) };
  }

  async #inspect(name: string, seed: number, synced: number, begun: number): Promise<{ prefix: number | undefined; complaint: string }> {
    const root = this.cluster.path(name);
    const expected = [...this.#rounds.map((earlier) => basename(earlier.root)), name].sort().join(" ");
    const found = readdirSync(this.cluster.mountpoint).sort().join(" ");
    if (found !== expected) return { prefix: undefined, complaint: `seed ${seed}: there are ${found}, not ${expected}` };
    const dangling = await run("bash", [
      "-c",
      'set -o pipefail; find "$1" -print0 | xargs -0 stat >/dev/null',
      "_",
      this.cluster.mountpoint,
    ]);
    if (dangling.code !== 0) return { prefix: undefined, complaint: `seed ${seed}: dangling names: ${dangling.stderr.slice(0, 2_000)}` };
    for (const earlier of this.#rounds) {
      const again = await readTree(earlier.root, earlier.seed);
      const verdict = JSON.stringify([...again].sort()) === JSON.stringify([...earlier.tree].sort());
      if (!verdict) return { prefix: undefined, complaint: `seed ${seed}: ${earlier.root}, of an earlier round, has changed` };
    }
    const tree = await readTree(root, seed);
    const verdict = checkPrefix(seed, tree, synced, begun);
    this.#rounds.push({ root, seed, tree });
    return verdict;
  }
}

/** The last operation whose fsync has returned, and the last one begun. */
function readList(path: string): { synced: number; begun: number } {
  let text = "";
  try {
    text = readFileSync(path, "latin1");
  } catch {
    return { synced: 0, begun: 0 };
  }
  const last = (word: string) => Number(text.slice(text.lastIndexOf(`${word} `)).split(/\s/)[1] ?? 0);
  return { synced: text.includes("synced ") ? last("synced") : 0, begun: text.includes("begun ") ? last("begun") : 0 };
}
