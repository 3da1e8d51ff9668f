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
  readonly writeCost: number;
}

/** How the cluster's only group is cleaned. */
export async function cleanerRow(cluster: Cluster): Promise<CleanerRow> {
  const { cleaner } = (await cluster.status()) as unknown as { readonly cleaner: { readonly groups: readonly CleanerRow[] } };
  const row = cleaner.groups[0];
  if (row === undefined) throw new Error("status tells of no cleaner");
  return row;
}

/** Kills the node that leads the cleaning, and cleans, every so often, and starts it again. */
export class LeaderKills {
  readonly #cluster: Cluster;
  readonly #everyMs: number;
  readonly #running: Promise<void>;
  #over = false;
  #failure: unknown;
  kills = 0;
  /** Of those that were killed: they are counted by the leader, and die with it. */
  segmentsCleaned = 0;

  constructor(cluster: Cluster, everyMs: number) {
    this.#cluster = cluster;
    this.#everyMs = everyMs;
    this.#running = this.#run().catch((error: unknown) => {
      this.#failure = error;
    });
  }

  async #run(): Promise<void> {
    while (!this.#over) {
      const beganMs = performance.now();
      const { leader, segmentsCleaned } = await until("somebody to lead the cleaning", LEADER_DEADLINE_MS, async () => {
        const row = await cleanerRow(this.#cluster);
        return row.leader !== null && { ...row, leader: row.leader };
      });
      await this.#cluster.killNode(leader);
      this.kills++;
      this.segmentsCleaned += segmentsCleaned;
      await this.#cluster.startNode(leader);
      for (const nextMs = beganMs + this.#everyMs; !this.#over && performance.now() < nextMs; ) await sleep(100);
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
