import {
  type Clock,
  type ClusterMap,
  findLog,
  isDazzleError,
  type MapCache,
  type MemberId,
  type Peers,
  type Reply,
  sleep,
} from "@dazzle/core";

const POLL_MS = 250;
const DEADLINE_MS = 10_000;
/** How long a mount may take to hand over what it has done. */
const PATIENCE_MS = 60_000;

/** How far mounts' logs are applied, over all managers. */
export class Settling {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;

  constructor(options: { map: MapCache; peers: Peers; clock: Clock }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
  }

  /** Resolves when everything of which any slot has applied a part by now is applied in all slots that it concerns. What two looks see alike, one
   * before and one after, is then no transaction that is only half applied: had one been applied in between that concerns what was looked at, they would
   * differ. Answers the logs that did not come so far in time. */
  async settle(): Promise<readonly number[]> {
    const due = new Map<number, number>();
    const beganMs = this.#clock.nowMs();
    for (const { logs, applied } of await this.#answers(beganMs))
      for (const [index, log] of logs.entries()) due.set(log, Math.max(due.get(log) ?? 0, applied[index] ?? 0));
    for (;;) {
      await this.#map.refresh();
      for (const log of due.keys()) if (isDone(this.#map.current, log)) due.delete(log);
      if (due.size === 0) return [];
      for (const { logs, trimmedTo } of await this.#answers(beganMs))
        for (const [index, log] of logs.entries())
          if ((trimmedTo[index] ?? 0) >= (due.get(log) ?? Number.POSITIVE_INFINITY)) due.delete(log);
      if (due.size === 0) return [];
      if (this.#clock.nowMs() - beganMs > PATIENCE_MS) return [...due.keys()];
      await sleep(this.#clock, POLL_MS);
    }
  }

  /** Of every manager. Rejects where one does not answer in time. */
  async #answers(beganMs: number): Promise<Array<Reply<"logProgress">>> {
    for (;;) {
      const members = new Set(this.#map.current.slots.flatMap(({ manager }): MemberId[] => (manager === null ? [] : [manager])));
      try {
        return await Promise.all(
          [...members].map(async (member) => (await this.#peers.call(member, "logProgress", {}, { deadlineMs: DEADLINE_MS })).reply),
        );
      } catch (error) {
        if (!isDazzleError(error) || this.#clock.nowMs() - beganMs > PATIENCE_MS) throw error;
        await sleep(this.#clock, POLL_MS);
        await this.#map.refresh();
      }
    }
  }
}

/** Whether nothing of a log is on its way: it is closed, or no mount's. Managers apply what they log themselves to all of its slots in one turn. */
function isDone(map: ClusterMap, log: number): boolean {
  const row = findLog(map, log);
  return row === undefined || row.kind !== "mount" || row.state === "closed";
}
