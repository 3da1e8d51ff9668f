import {
  type Clock,
  DazzleError,
  findLog,
  isDazzleError,
  type Logger,
  type LogRow,
  type MapCache,
  type MemberId,
  type Peers,
  type Timer,
} from "@dazzle/core";
import { decider } from "../liveness/liveness.ts";
import type { LogAccess } from "../log-access.ts";
import { type EndedLogs, isClosed } from "../mounts/ended-logs.ts";

const WATCH_MS = 2_000;
const ASK_DEADLINE_MS = 1_000;
/** Looks at which a cleaner's machine did not answer, one after the other, after which its log is ended: the cleaner begins another one. */
const SILENT_LOOKS_MAX = 15;
/** So often it is asked what the cleaner told other managers and not this one, which was away then, or did not look after the log. */
const LOOKS_A_QUESTION = 5;
const BEHIND_ALL = Number.MAX_SAFE_INTEGER - 1;

export interface CleanerLogsOptions {
  readonly map: MapCache;
  readonly member: MemberId;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly logs: LogAccess;
  readonly ended: EndedLogs;
  /** Whether the manager's own lease runs. */
  readonly isServing: () => boolean;
  /** A live log is trimmed up to there. */
  readonly onTrimmed: (log: number, to: number) => void;
  /** A log is closed: what nobody names of it can go. */
  readonly onClosed: (log: number) => void;
}

/** Cleaners' logs, of which nothing is replayed. The one of a cleaner that is gone is ended, and an ended one closed once no manager moves anything into it any more. Each is
 * looked after by one manager. */
export class CleanerLogs {
  readonly #options: CleanerLogsOptions;
  readonly #looking = new Set<number>();
  /** By live log. */
  readonly #silentLooks = new Map<number, number>();
  /** That were looked at, and are not seen closed yet. */
  readonly #open = new Set<number>();
  #looks = 0;
  #timer: Timer | null = null;
  #closed = false;

  constructor(options: CleanerLogsOptions) {
    this.#options = options;
  }

  /** Whether blocks may be moved into it, as far as the map is known here. */
  isLive(log: number): boolean {
    const row = findLog(this.#options.map.current, log);
    return row?.kind === "cleaner" && row.state === "live";
  }

  /** Throws `expelled` where nothing may be moved into it. */
  check(log: number): void {
    if (!this.isLive(log)) throw new DazzleError("expelled", `log ${log} is no live cleaner's`);
  }

  start(): void {
    const { map, member, clock, isServing, onClosed } = this.#options;
    this.#timer = clock.after(WATCH_MS, () => {
      this.#looks++;
      for (const log of this.#silentLooks.keys()) if (!isServing() || !this.isLive(log)) this.#silentLooks.delete(log);
      for (const log of this.#open) {
        if (!isClosed(map.current, log)) continue;
        this.#open.delete(log);
        onClosed(log);
      }
      for (const row of map.current.logs)
        if (row.kind === "cleaner" && row.state !== "closed" && decider(map.current, row.id) === member) this.#lookAt(row);
      this.start();
    });
  }

  #lookAt(row: LogRow): void {
    if (this.#looking.has(row.id)) return;
    this.#looking.add(row.id);
    this.#open.add(row.id);
    this.#look(row)
      .catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
        if (!this.#closed) this.#options.logger("warning", "a cleaner's log is closed later", { log: row.id, reason: error.message });
      })
      .finally(() => this.#looking.delete(row.id));
  }

  async #look(row: LogRow): Promise<void> {
    const { logs, ended, logger } = this.#options;
    if (row.state === "live") {
      if (this.#looks % LOOKS_A_QUESTION === 0) await this.#askHowFarTrimmed(row.id);
      const reason = await this.#whyGone(row);
      if (reason === undefined || this.#closed) return;
      logger("info", "the log of a cleaner is ended", { log: row.id, member: row.member, reason });
    }
    if (row.state !== "ended") await logs.recover(row.id);
    else await ended.close(row.id);
  }

  async #askHowFarTrimmed(log: number): Promise<void> {
    const { map, member, peers, onTrimmed } = this.#options;
    const others = new Set(map.current.slots.flatMap(({ manager }) => (manager === null || manager === member ? [] : [manager])));
    for (const other of others) {
      try {
        const { reply } = await peers.call(other, "liveBytes", { log, after: BEHIND_ALL, limit: 1 }, { deadlineMs: ASK_DEADLINE_MS });
        // Of a log that is closed in a newer map it is told that all of it is trimmed.
        await map.reach(reply.version);
        if (this.isLive(log)) onTrimmed(log, reply.trimmedTo);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
      }
    }
  }

  /** Undefined where the cleaner may be there. */
  async #whyGone({ id, member, process }: LogRow): Promise<string | undefined> {
    try {
      const { reply } = await this.#options.peers.call(member, "vouchGone", { process }, { deadlineMs: ASK_DEADLINE_MS });
      this.#silentLooks.delete(id);
      return reply.gone ? "its process is gone" : undefined;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      const looks = (this.#silentLooks.get(id) ?? 0) + 1;
      this.#silentLooks.set(id, looks);
      return looks > SILENT_LOOKS_MAX && this.#options.isServing() ? error.message : undefined;
    }
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}
