import { setTimeout as sleep } from "node:timers/promises";
import type { Cluster } from "./cluster.ts";
import { until } from "./until.ts";

const LEADER_DEADLINE_MS = 120_000;

export interface CleanerRow {
  readonly group: string;
  readonly leader: string | null;
  readonly state: string;
  readonly segments: number;
  readonly liveBytes: number;
  readonly utilisation: number;
  readonly segmentsCleaned: number;
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly writeCost: number;
}

/** What was done, as its leaders count it. */
export type Cleaned = Pick<CleanerRow, "segmentsCleaned" | "bytesRead" | "bytesWritten">;

/** What it takes of a cluster. */
export type KillableCluster = Pick<Cluster, "status" | "killNode" | "startNode">;

/** How the cluster's only group is cleaned. */
export async function cleanerRow(cluster: Pick<Cluster, "status">): Promise<CleanerRow> {
  const { cleaner } = (await cluster.status()) as unknown as { readonly cleaner: { readonly groups: readonly CleanerRow[] } };
  const row = cleaner.groups[0];
  if (row === undefined) throw new Error("status tells of no cleaner");
  return row;
}

/** Kills the node that leads the cleaning, and cleans, every so often, and starts it again. */
export class LeaderKills {
  readonly #cluster: KillableCluster;
  readonly #everyMs: number;
  readonly #running: Promise<void>;
  #killing: Promise<void> = Promise.resolve();
  #over = false;
  #failure: unknown;
  kills = 0;
  /** What those had counted that were killed: it dies with them. What was under way is missing. */
  lost: Cleaned = { segmentsCleaned: 0, bytesRead: 0, bytesWritten: 0 };

  constructor(cluster: KillableCluster, everyMs: number) {
    this.#cluster = cluster;
    this.#everyMs = everyMs;
    this.#running = this.#run().catch((error: unknown) => {
      this.#failure = error;
    });
  }

  async #run(): Promise<void> {
    while (!this.#over) {
      const beganMs = performance.now();
      const row = await until("somebody to lead the cleaning", LEADER_DEADLINE_MS, async () => {
        const { leader, ...counted } = await cleanerRow(this.#cluster);
        return leader !== null && { leader, counted };
      });
      this.#killing = this.#kill(row.leader, row.counted);
      await this.#killing;
      await this.#cluster.startNode(row.leader);
      for (const nextMs = beganMs + this.#everyMs; !this.#over && performance.now() < nextMs; ) await sleep(100);
    }
  }

  /** `counted`: by all who led, a moment ago. What the others say of themselves afterwards was not lost. */
  async #kill(leader: string, counted: Cleaned): Promise<void> {
    this.kills++;
    await this.#cluster.killNode(leader);
    const left = await until("the others to tell what they cleaned", LEADER_DEADLINE_MS, () => cleanerRow(this.#cluster));
    const more = (of: keyof Cleaned) => this.lost[of] + Math.max(0, counted[of] - left[of]);
    this.lost = { segmentsCleaned: more("segmentsCleaned"), bytesRead: more("bytesRead"), bytesWritten: more("bytesWritten") };
  }

  /** By all who led, also those that were killed. */
  async cleaned(): Promise<Cleaned> {
    for (;;) {
      await this.#killing;
      const { kills, lost } = this;
      const { segmentsCleaned, bytesRead, bytesWritten } = await cleanerRow(this.#cluster);
      if (kills !== this.kills) continue;
      return {
        segmentsCleaned: lost.segmentsCleaned + segmentsCleaned,
        bytesRead: lost.bytesRead + bytesRead,
        bytesWritten: lost.bytesWritten + bytesWritten,
      };
    }
  }

  /** Throws what went wrong, if something has. */
  check(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** Resolves when the last one that was killed is back. */
  async end(): Promise<void> {
    this.#over = true;
    await this.#running;
    this.check();
  }
}
