import { readFileSync } from "node:fs";
import type { Cluster } from "../test/support/cluster.ts";

const TICKS_PER_SECOND = 100;

/** CPU seconds, user and system, by the name of the process: node1, node2, …, mount, and "load" for what drives them. */
export type ProcessorTime = Record<string, number>;

/** Watches the cluster's processes: every process of it has a name, also those that came and went in between. */
export class ProcessorClock {
  readonly #pids: ReadonlyMap<number, string>;
  readonly #before = new Map<number, number>();

  private constructor(pids: ReadonlyMap<number, string>) {
    this.#pids = pids;
    for (const pid of pids.keys()) this.#before.set(pid, usedSeconds(pid) ?? 0);
  }

  static async start(cluster: Pick<Cluster, "status" | "pids">): Promise<ProcessorClock> {
    const { members, mounts } = await cluster.status();
    const pids = new Map(cluster.pids().map((pid) => [pid, "up"]));
    for (const { name, pid } of members) if (pid) pids.set(pid, name);
    for (const { pid } of mounts) pids.set(pid, pids.has(pid) && pids.get(pid) !== "up" ? `${pids.get(pid)}+mount` : "mount");
    return new ProcessorClock(pids);
  }

  read(): ProcessorTime {
    const times: ProcessorTime = {};
    for (const [pid, name] of this.#pids) {
      const used = usedSeconds(pid);
      if (used !== undefined) times[name] = (times[name] ?? 0) + used - (this.#before.get(pid) ?? 0);
    }
    return times;
  }
}

function usedSeconds(pid: number): number | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, "latin1")
      .replace(/^.*\) /s, "")
      .split(" ");
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  } catch {
    return undefined;
  }
}
