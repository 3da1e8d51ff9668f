import {
  type Clock,
  findLog,
  isDazzleError,
  type Logger,
  type LogRow,
  type MapCache,
  type MemberId,
  type Peers,
  withLog,
} from "@dazzle/core";
import { ALL_SLOTS } from "./imap/values.ts";
import type { Journal } from "./journal.ts";
import type { SegmentDeleter } from "./segment-deleter.ts";

const PAGE_SEQUENCES = 1_000;
const RETRY_MS = 2_000;
const DEADLINE_MS = 10_000;

export interface AuditEvents {
  /** Which sequences `from … to` of a log are needed. */
  liveAmong(log: number, from: number, to: number): Promise<ReadonlySet<number>>;
  /** Whether anything of a log is needed. */
  isLogLive(log: number): Promise<boolean>;
  trimmedTo(log: number): number;
  /** Logs left the map. */
  left(logs: readonly number[]): Promise<void>;
}

/** Looks through what storage servers hold, and deletes what nobody needs: after a start, when a server missed deletions,
 * and when a log is closed. Logs that are closed and have no segments left leave the map (PROTOCOL rule 28). */
export class Audit {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #journal: Journal;
  readonly #deleter: SegmentDeleter;
  readonly #events: AuditEvents;
  /** What is to be looked through: a server's whole store, or one log of it. */
  readonly #due = new Map<string, { readonly member: MemberId; readonly log: number | null }>();
  #running = false;
  #closed = false;

  constructor(options: {
    map: MapCache;
    peers: Peers;
    clock: Clock;
    logger: Logger;
    journal: Journal;
    deleter: SegmentDeleter;
    events: AuditEvents;
  }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#journal = options.journal;
    this.#deleter = options.deleter;
    this.#events = options.events;
  }

  get due(): number {
    return this.#due.size;
  }

  everything(): void {
    for (const member of this.#storageMembers()) this.server(member);
  }

  server(member: MemberId): void {
    this.#add(member, null);
  }

  log(log: number): void {
    for (const member of this.#storageMembers()) this.#add(member, log);
  }

  #storageMembers(): MemberId[] {
    const { groups } = this.#map.current;
    return [...new Set(groups.flatMap(({ versions }) => versions.flatMap(({ servers }) => servers.map(({ member }) => member))))];
  }

  #add(member: MemberId, log: number | null): void {
    this.#due.set(`${member} ${log ?? ""}`, { member, log });
    if (this.#running || this.#closed) return;
    this.#running = true;
    this.#clock.soon(() => {
      this.#run().catch((error: unknown) => {
        // What is not expected must be seen.
        throw error;
      });
    });
  }

  async #run(): Promise<void> {
    const failed: Array<{ member: MemberId; log: number | null }> = [];
    for (const [key, { member, log }] of this.#due) {
      this.#due.delete(key);
      if (this.#closed) return;
      try {
        if (log === null) await this.#auditServer(member);
        else await this.#auditLog(member, log);
        this.#deleter.flush(member);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        failed.push({ member, log });
        this.#logger("info", "a storage server's segments are looked through later", { member, log, reason: error.message });
      }
    }
    this.#running = false;
    if (failed.length > 0 && !this.#closed)
      this.#clock.after(RETRY_MS, () => {
        for (const { member, log } of failed) if (this.#map.current.members.some(({ id }) => id === member)) this.#add(member, log);
      });
  }

  async #auditServer(member: MemberId): Promise<void> {
    const { reply } = await this.#peers.call(member, "listLogs", {}, { deadlineMs: DEADLINE_MS });
    for (const log of reply.logs) await this.#auditLog(member, log);
  }

  async #auditLog(member: MemberId, log: number): Promise<void> {
    const trimmedTo = this.#events.trimmedTo(log);
    for (let after = 0, more = trimmedTo > 0; more && !this.#closed; ) {
      const { reply } = await this.#peers.call(member, "list", { log, after, limit: PAGE_SEQUENCES }, { deadlineMs: DEADLINE_MS });
      const sequences = [...new Set(reply.fragments.map(({ sequence }) => sequence))].filter((sequence) => sequence <= trimmedTo);
      const last = reply.fragments.at(-1);
      if (last === undefined || sequences.length === 0) return;
      await this.#deleteDead(member, log, sequences);
      after = last.sequence;
      more = reply.more;
    }
  }

  async #deleteDead(member: MemberId, log: number, sequences: readonly number[]): Promise<void> {
    const live = await this.#events.liveAmong(log, sequences[0] as number, sequences.at(-1) as number);
    const dead = sequences.filter((sequence) => !live.has(sequence));
    if (dead.length === 0) return;
    // What emptied them must be stable before they go.
    await this.#journal.settle();
    for (const sequence of dead) this.#deleter.enqueueAt(member, log, sequence, ALL_SLOTS);
  }

  /** Takes closed logs of which no server holds anything out of the map. */
  async compactMap(): Promise<void> {
    const gone: number[] = [];
    if (this.#closed) return;
    for (const row of this.#map.current.logs) {
      if (row.state !== "closed" || (await this.#events.isLogLive(row.id))) continue;
      if (await this.#isGone(row)) gone.push(row.id);
    }
    if (gone.length === 0 || this.#closed) return;
    await this.#map.change((map) => ({ ...map, logs: map.logs.filter((row) => !gone.includes(row.id)) }));
    await this.#events.left(gone);
    this.#logger("info", "closed logs without segments left the cluster map", { logs: gone.join(",") });
  }

  /** Whether every server of the log's groups says that it holds nothing of it. One that does is told to delete it. */
  async #isGone(row: LogRow): Promise<boolean> {
    const groups = this.#map.current.groups.filter(({ id }) => row.groups.includes(id));
    const members = new Set(groups.flatMap(({ versions }) => versions.flatMap(({ servers }) => servers.map(({ member }) => member))));
    for (const member of members) {
      try {
        const { reply } = await this.#peers.call(member, "list", { log: row.id, after: 0, limit: 1 }, { deadlineMs: DEADLINE_MS });
        if (reply.fragments.length === 0) continue;
        this.#add(member, row.id);
        return false;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        return false;
      }
    }
    return true;
  }

  close(): void {
    this.#closed = true;
  }
}

/** The map with a log closed at `end`; undefined where it is, or left the map. */
export function closedLog(map: MapCache["current"], log: number, end: number): MapCache["current"] | undefined {
  const row = findLog(map, log);
  return row === undefined || row.state === "closed" ? undefined : withLog(map, log, { state: "closed", end: row.end ?? end });
}
