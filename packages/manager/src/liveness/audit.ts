import {
  type Clock,
  DazzleError,
  isDazzleError,
  type Logger,
  type LogRow,
  type MapCache,
  type MemberId,
  type MessageName,
  type Peers,
  type Reply,
  type Request,
  type Timer,
} from "@dazzle/core";
import { type Segment, slotsOfLog } from "./live-here.ts";
import { ASKED_MAX, type Verdict } from "./live-in-cluster.ts";
import type { SegmentDeleter } from "./segment-deleter.ts";
import { serversOf } from "./servers.ts";

/** After slots changed hands: several change together. */
const SETTLED_MS = 5_000;
const RETRY_MS = 2_000;
/** Who does not answer is asked again after twice as long each time, up to this. */
const SILENT_RETRY_MAX_MS = 30_000;
const COMPACT_FIRST_MS = 5_000;
const COMPACT_MAX_MS = 60_000;
const DEADLINE_MS = 10_000;

export interface AuditEvents {
  /** Whether the cluster needs these segments of a log. Who is `silent` is not asked; who does not answer becomes it. */
  judge(log: number, segments: readonly Segment[], silent: Set<MemberId>): Promise<ReadonlyMap<number, Verdict>>;
  /** Whether the cluster needs anything of a closed log. */
  isLogLive(log: number): Promise<Verdict>;
  trimmedTo(log: number): number;
  /** Whether it is this manager that looks after the log, among all. */
  decides(log: number): boolean;
}

/** What is to be looked through at a server: one log, all of them, or those that this manager looks after. */
interface Due {
  readonly member: MemberId;
  readonly log: number | "all" | "decided";
  /** Of one log, what lies above this sequence. */
  readonly after: number;
}

/** Of a server that did not answer when it was last asked. */
interface Silence {
  readonly retryMs: number;
  readonly untilMs: number;
}

/** Looks through what storage servers hold, and deletes what nobody needs: after a start, when slots changed hands (what a manager meant to delete
 * is forgotten with it), when a server missed deletions, and when a log is closed. Logs that are closed and have no segments left leave the map (rule 28). */
export class Audit {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #deleter: SegmentDeleter;
  readonly #events: AuditEvents;
  readonly #due = new Map<string, Due & { readonly fromMs: number }>();
  readonly #silent = new Map<MemberId, Silence>();
  /** In this run: asked again in the next one. */
  readonly #silentManagers = new Set<MemberId>();
  #running = false;
  #timer: Timer | null = null;
  #closed = false;
  #settling = false;
  #compacting = false;
  readonly #endListening: () => void;

  constructor(options: {
    map: MapCache;
    peers: Peers;
    clock: Clock;
    logger: Logger;
    deleter: SegmentDeleter;
    events: AuditEvents;
  }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#deleter = options.deleter;
    this.#events = options.events;
    let terms = termsOf(this.#map.current);
    this.#endListening = this.#map.onChange((map) => {
      this.#compactSoon();
      const now = termsOf(map);
      if (now === terms) return;
      terms = now;
      this.soon();
    });
  }

  /** Closed logs are looked after until they have left the map, seldom where that takes long. */
  #compactSoon(delayMs = COMPACT_FIRST_MS): void {
    const isDue = () => this.#map.current.logs.some(({ id, state }) => state === "closed" && this.#events.decides(id));
    if (this.#compacting || this.#closed || !isDue()) return;
    this.#compacting = true;
    this.#clock.after(delayMs, () => {
      this.#compactMap()
        .catch((error: unknown) => {
          if (!isDazzleError(error)) throw error;
          if (!this.#closed) this.#logger("info", "closed logs leave the cluster map later", { reason: error.message });
        })
        .finally(() => {
          this.#compacting = false;
          this.#compactSoon(Math.min(COMPACT_MAX_MS, 2 * delayMs));
        });
    });
  }

  /** Looks through everything that this manager looks after, once slots have come to rest. */
  soon(): void {
    if (this.#settling || this.#closed) return;
    this.#settling = true;
    this.#clock.after(SETTLED_MS, () => {
      this.#settling = false;
      for (const member of this.#storageMembers()) this.#add({ member, log: "decided", after: 0 });
    });
  }

  server(member: MemberId): void {
    this.#add({ member, log: "all", after: 0 });
  }

  /** Looks through what is held of a log above a sequence. */
  log(log: number, after = 0): void {
    for (const member of this.#storageMembers()) this.#add({ member, log, after });
  }

  #storageMembers(): Iterable<MemberId> {
    const map = this.#map.current;
    return serversOf(map, map.groups);
  }

  #add({ member, log, after }: Due, fromMs = this.#clock.nowMs()): void {
    this.#due.set(`${member} ${log} ${after}`, { member, log, after, fromMs });
    if (!this.#running && !this.#closed) this.#start();
  }

  #start(): void {
    this.#timer?.cancel();
    this.#timer = null;
    this.#running = true;
    this.#clock.soon(() => {
      this.#run().catch((error: unknown) => {
        // What is not expected must be seen.
        throw error;
      });
    });
  }

  async #run(): Promise<void> {
    this.#silentManagers.clear();
    for (const [key, due] of this.#due) {
      const { member, log, after } = due;
      if (!this.#map.current.members.some(({ id }) => id === member)) {
        this.#due.delete(key);
        this.#silent.delete(member);
        continue;
      }
      if (this.#whenMs(due) > this.#clock.nowMs()) continue;
      this.#due.delete(key);
      try {
        if (typeof log === "number") await this.#auditLog(member, log, after);
        else await this.#auditServer(member, log);
        this.#deleter.flush(member);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        this.#later(due, error.message);
      }
      if (this.#closed) return;
    }
    this.#running = false;
    let nextMs = Number.POSITIVE_INFINITY;
    for (const due of this.#due.values()) nextMs = Math.min(nextMs, this.#whenMs(due));
    if (Number.isFinite(nextMs)) this.#timer = this.#clock.after(Math.max(0, nextMs - this.#clock.nowMs()), () => this.#start());
  }

  #whenMs({ member, fromMs }: { readonly member: MemberId; readonly fromMs: number }): number {
    return Math.max(fromMs, this.#silent.get(member)?.untilMs ?? 0);
  }

  #later(due: Due, reason: string): void {
    if (this.#closed) return;
    const { member, log } = due;
    this.#add(due, this.#clock.nowMs() + RETRY_MS);
    // Of a silent one it is told once, until it answers.
    if ((this.#silent.get(member)?.retryMs ?? 0) <= RETRY_MS)
      this.#logger("info", "a storage server's segments are looked through later", { member, log, reason });
  }

  async #ask<Name extends MessageName>(member: MemberId, message: Name, request: Request<Name>): Promise<Reply<Name>> {
    try {
      const { reply } = await this.#peers.call(member, message, request, { deadlineMs: DEADLINE_MS });
      this.#silent.delete(member);
      return reply;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      const before = this.#silent.get(member)?.retryMs;
      const retryMs = before === undefined ? RETRY_MS : Math.min(SILENT_RETRY_MAX_MS, 2 * before);
      this.#silent.set(member, { retryMs, untilMs: this.#clock.nowMs() + retryMs });
      throw error;
    }
  }

  async #auditServer(member: MemberId, which: "all" | "decided"): Promise<void> {
    const reply = await this.#ask(member, "listLogs", {});
    for (const log of reply.logs) {
      if (this.#closed) break;
      if (which === "decided" && !this.#events.decides(log)) continue;
      try {
        await this.#auditLog(member, log, 0);
      } catch (error) {
        if (!isDazzleError(error) || this.#silent.has(member)) throw error;
        this.#later({ member, log, after: 0 }, error.message);
      }
    }
  }

  /** Rejects `notReady` where it could not be told of every segment whether somebody needs it. */
  async #auditLog(member: MemberId, log: number, above: number): Promise<void> {
    const trimmedTo = this.#events.trimmedTo(log);
    let open = 0;
    for (let after = above, more = trimmedTo > 0; more && !this.#closed; ) {
      const reply = await this.#ask(member, "list", { log, after, limit: ASKED_MAX });
      const sequences = [...new Set(reply.fragments.map(({ sequence }) => sequence))].filter((sequence) => sequence <= trimmedTo);
      const last = reply.fragments.at(-1);
      if (last === undefined || sequences.length === 0) break;
      open += await this.#deleteDead(member, log, sequences);
      after = last.sequence;
      more = reply.more;
    }
    if (open > 0) throw new DazzleError("notReady", `not all managers say whether they need ${open} segments of log ${log}`);
  }

  /** Answers of how many it could not be told. */
  async #deleteDead(member: MemberId, log: number, sequences: readonly number[]): Promise<number> {
    const slots = slotsOfLog(this.#map.current, log);
    let open = 0;
    for (let at = 0; at < sequences.length; at += ASKED_MAX) {
      const segments = sequences.slice(at, at + ASKED_MAX).map((sequence) => ({ sequence, slots }));
      for (const [sequence, verdict] of await this.#events.judge(log, segments, this.#silentManagers)) {
        if (verdict === "dead") this.#deleter.enqueueAt(member, log, sequence, slots);
        if (verdict === "open") open++;
      }
    }
    return open;
  }

  /** Takes closed logs of which nobody needs anything, and no server holds anything, out of the map. */
  async #compactMap(): Promise<void> {
    const gone: number[] = [];
    if (this.#closed) return;
    for (const row of this.#map.current.logs) {
      if (row.state !== "closed" || !this.#events.decides(row.id)) continue;
      if ((await this.#events.isLogLive(row.id)) === "dead" && (await this.#isGone(row))) gone.push(row.id);
    }
    if (gone.length === 0 || this.#closed) return;
    await this.#map.change((map) => {
      const logs = map.logs.filter((row) => !gone.includes(row.id));
      return logs.length === map.logs.length ? undefined : { ...map, logs };
    });
    this.#logger("info", "closed logs without segments left the cluster map", { logs: gone.join(",") });
  }

  /** Whether every server of the log's groups says that it holds nothing of it, and no other one that it does. One that does is told to delete it. */
  async #isGone(row: LogRow): Promise<boolean> {
    const map = this.#map.current;
    const groups = map.groups.filter(({ id }) => row.groups.includes(id));
    const isNamed = (member: MemberId) =>
      groups.some(({ versions }) => versions.some(({ servers }) => servers.some((server) => server.member === member)));
    for (const member of serversOf(map, groups)) {
      try {
        const { reply } = await this.#peers.call(member, "list", { log: row.id, after: 0, limit: 1 }, { deadlineMs: DEADLINE_MS });
        if (reply.fragments.length === 0) continue;
        this.#add({ member, log: row.id, after: 0 });
        return false;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        if (isNamed(member)) return false;
      }
    }
    return true;
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#endListening();
  }
}

/** Changes with every slot that changes hands. */
function termsOf(map: MapCache["current"]): string {
  return map.slots.map(({ manager, term }) => `${manager}:${term}`).join(" ");
}
