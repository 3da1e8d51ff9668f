import {
  CLOCK_DRIFT,
  type Clock,
  type ClusterMap,
  DazzleError,
  findLog,
  isDazzleError,
  type Limits,
  type Logger,
  type LogRow,
  type MapCache,
  type MemberId,
  type Peers,
  sleep,
  type Timer,
} from "@dazzle/core";
import { handedTo } from "../incarnation.ts";
import type { LogAccess } from "../log-access.ts";
import { isHeardOf, leaseLeftMs, renewalMs } from "../map/manager-lease.ts";
import { StepTimes } from "../shard/step-times.ts";
import { balancingMoves, holderOf, isUneven, type LiveManager, type SlotMove, spread } from "./balance.ts";

const WATCH_MS = 500;
const ASK_DEADLINE_MS = 1_000;
const MOVE_DEADLINE_MS = 60_000;
const MOVE_ATTEMPTS = 3;
const MOVE_RETRY_MS = 2_000;
/** While somebody is silent. */
const SILENT_WATCH_MS = 100;
/** Renewals that a manager misses until it is given up; where nobody listens at its address; where it stopped by itself, and may start again. */
const RENEWALS_MISSED = 4;
const RENEWALS_REFUSED = 2;
const RENEWALS_STOPPED = 6;
/** Managers that could give up a silent one do so one after the other, the one with the lowest id first: two that change the map at once are in each other's way. */
const TURN_MS = 500;

export interface OtherManagersOptions {
  readonly map: MapCache;
  readonly member: MemberId;
  /** Of this process. */
  readonly process: string;
  /** This incarnation's log. */
  readonly log: number;
  readonly logs: LogAccess;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: Limits;
  /** Whether this manager's own lease runs. */
  readonly isServing: () => boolean;
}

/** What this manager knows of another one's incarnation, or of slots that are with nobody. */
interface Heard {
  /** Moved on by what this manager itself slept through. */
  ms: number;
  askedMs: number;
  asking: boolean;
  /** It was told of that it goes on though it does not answer. */
  told: boolean;
}

/** The managers beside this one: who is silent is expelled and its slots go to those who are not (docs/manager.md), and the manager with the lowest id has the
 * slots spread evenly. */
export class OtherManagers {
  readonly #options: OtherManagersOptions;
  readonly #heard = new Map<number, Heard>();
  #timer: Timer | null = null;
  #watchDueMs: number;
  #failing = false;
  #moving = false;
  #balanceAtMs = 0;
  #ending = false;
  #closed = false;
  failovers = 0;

  constructor(options: OtherManagersOptions) {
    this.#options = options;
    this.#watchDueMs = this.#nowMs;
  }

  get #nowMs(): number {
    return this.#options.clock.nowMs();
  }

  start(): void {
    this.#watch();
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }

  /** When the lease of the manager whose incarnation wrote the log, which is not live any more, ends at the latest, by the clock here. Rejects `unreachable` where no majority
   * of the keepers answers. */
  async leaseEndMs(log: number): Promise<number> {
    const row = this.#earlier(log);
    if (row === undefined) return this.#nowMs + this.#options.limits.managerLeaseMs * (1 + CLOCK_DRIFT);
    const leftMs = await leaseLeftMs(this.#options, log);
    return this.#nowMs + leftMs * (leftMs > 0 ? 1 + CLOCK_DRIFT : 1 - CLOCK_DRIFT);
  }

  /** Resolves when that manager serves nothing: its lease is over, or its process is certainly gone (rule 29). Rejects as `leaseEndMs` does, and `cancelled` where this
   * one stops before. */
  async ended(log: number): Promise<void> {
    for (;;) {
      const row = this.#earlier(log);
      if (row === undefined) return;
      if (this.#closed) throw new DazzleError("cancelled", "the manager is stopping");
      const leftMs = (await this.leaseEndMs(log)) - this.#nowMs;
      if (leftMs <= 0) return;
      const waited = sleep(this.#options.clock, Math.min(WATCH_MS, leftMs));
      // Its machine may have vanished with it.
      if (await Promise.race([this.#isGone(row), waited.then(() => false)])) return;
      await waited;
    }
  }

  /** Undefined where it stopped before this one started. */
  #earlier(log: number): LogRow | undefined {
    const { map, process } = this.#options;
    const row = findLog(map.current, log);
    return row?.process === process ? undefined : row;
  }

  async #isGone(row: LogRow): Promise<boolean> {
    try {
      const { reply } = await this.#options.peers.call(row.member, "vouchGone", { process: row.process }, { deadlineMs: WATCH_MS });
      return reply.gone;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      return false;
    }
  }

  // Who is silent.

  #watch(): void {
    if (this.#closed) return;
    const { map, clock } = this.#options;
    const nowMs = this.#nowMs;
    // Silence counts only while this manager was there to hear, and served (rule 29).
    const sleptMs = nowMs - this.#watchDueMs;
    if (sleptMs > SILENT_WATCH_MS) for (const heard of this.#heard.values()) heard.ms += sleptMs;
    if (!this.#options.isServing()) for (const heard of this.#heard.values()) heard.ms = nowMs;
    this.#askAll(map.current, nowMs);
    this.#giveUpSilent(map.current, nowMs);
    this.#endUnchained(map.current);
    this.#balance(map.current, nowMs);
    const isSilent = [...this.#heard.values()].some(({ ms }) => nowMs - ms > 1.5 * WATCH_MS);
    const afterMs = isSilent ? SILENT_WATCH_MS : WATCH_MS;
    this.#watchDueMs = nowMs + afterMs;
    this.#timer = clock.after(afterMs, () => this.#watch());
  }

  #askAll(map: ClusterMap, nowMs: number): void {
    const watched = new Set(map.slots.map((_, slot) => holderOf(map, slot)));
    for (const row of map.logs) if (row.kind === "manager" && row.state === "live") watched.add(row.id);
    watched.delete(this.#options.log);
    for (const log of this.#heard.keys()) if (!watched.has(log)) this.#heard.delete(log);
    for (const log of watched) {
      const heard = this.#heard.get(log) ?? { ms: nowMs, askedMs: Number.NEGATIVE_INFINITY, asking: false, told: false };
      this.#heard.set(log, heard);
      const row = findLog(map, log);
      if (row?.state === "live" && !heard.asking && nowMs - heard.askedMs >= WATCH_MS) void this.#ask(row, heard);
    }
  }

  async #ask(row: LogRow, heard: Heard): Promise<void> {
    heard.asking = true;
    heard.askedMs = this.#nowMs;
    try {
      const { reply } = await this.#options.peers.call(row.member, "managerAlive", { log: row.id }, { deadlineMs: ASK_DEADLINE_MS });
      if (reply.log !== row.id) return;
      heard.ms = this.#nowMs;
      heard.told = false;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
    } finally {
      heard.asking = false;
    }
  }

  /** How long a manager may be silent. */
  #patienceMs(map: ClusterMap, log: number): number {
    const { peers, limits } = this.#options;
    const row = findLog(map, log);
    const missed = row?.state !== "live" ? RENEWALS_STOPPED : peers.isRefused(row.member) ? RENEWALS_REFUSED : RENEWALS_MISSED;
    return missed * renewalMs(limits);
  }

  #isSilent(map: ClusterMap, log: number, atMs: number): boolean {
    return atMs - (this.#heard.get(log)?.ms ?? Number.NEGATIVE_INFINITY) > this.#patienceMs(map, log);
  }

  /** This manager, and those that were heard of lately, by member. */
  #up(map: ClusterMap, nowMs: number): LiveManager[] {
    const { log: own } = this.#options;
    const isUp = ({ id, kind, state }: LogRow) => kind === "manager" && state === "live" && (id === own || !this.#isSilent(map, id, nowMs));
    return map.logs
      .filter(isUp)
      .map(({ id, member }) => ({ member, log: id, leaving: isLeaving(map, member) }))
      .sort((one, other) => one.member - other.member);
  }

  #giveUpSilent(map: ClusterMap, nowMs: number): void {
    const up = this.#up(map, nowMs);
    const turn = up.findIndex(({ log }) => log === this.#options.log);
    const turnMs = TURN_MS * Math.max(0, turn);
    const silent = [...this.#heard.keys()].filter((log) => this.#isSilent(map, log, nowMs - turnMs));
    if (silent.length === 0 || this.#failing) return;
    this.#failing = true;
    this.#failOver(silent, up)
      .catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
        this.#options.logger("warning", "the slots of a silent manager stay where they are for now", { reason: error.message });
      })
      .finally(() => {
        this.#failing = false;
      });
  }

  async #failOver(quiet: readonly number[], up: readonly LiveManager[]): Promise<void> {
    const { map, log, logger, clock } = this.#options;
    const times = new StepTimes(clock);
    const silent = await this.#unheardOf(quiet);
    if (silent.length === 0) return;
    times.over("keepers");
    await map.refresh();
    let lost: number[] = [];
    let isDone = false;
    await map.change((now) => {
      isDone = false;
      lost = now.slots.flatMap((_, slot) => (silent.includes(holderOf(now, slot)) ? [slot] : []));
      const heirs = up.filter((manager) => findLog(now, manager.log)?.state === "live");
      const isSilent = ({ id, state }: LogRow) => state === "live" && silent.includes(id);
      if (findLog(now, log)?.state !== "live" || (lost.length === 0 && !now.logs.some(isSilent))) return undefined;
      const to = spread(now, lost, heirs);
      isDone = true;
      return {
        ...now,
        logs: now.logs.map((row) => (isSilent(row) ? { ...row, state: "expelled" as const } : row)),
        slots: now.slots.map((row, slot) => {
          const heir = to.get(slot);
          return heir === undefined ? row : handedTo(row, heir.member, heir.log, null);
        }),
      };
    });
    times.over("change");
    for (const one of silent) this.#heard.delete(one);
    if (!isDone) return;
    this.failovers++;
    logger("warning", "managers that don't answer are given up", { logs: silent.join(","), slots: lost.length, ...times.ms });
  }

  /** Who does not answer here and goes on to hold its lease is there for others: two managers that don't reach each other would expel one another for ever. */
  async #unheardOf(quiet: readonly number[]): Promise<number[]> {
    const { map } = this.#options;
    const held = await Promise.all(quiet.map((log) => this.#isHeardOf(log)));
    for (const [index, log] of quiet.entries()) {
      const heard = this.#heard.get(log);
      const isSilent = heard !== undefined && this.#nowMs - heard.ms > this.#options.limits.managerLeaseMs;
      if (held[index] !== true || !isSilent || heard.told) continue;
      heard.told = true;
      this.#options.logger("warning", "a manager that does not answer goes on", { log, reason: "it holds its lease" });
    }
    // It may have answered while keepers were asked.
    return quiet.filter((log, index) => held[index] !== true && this.#isSilent(map.current, log, this.#nowMs));
  }

  async #isHeardOf(log: number): Promise<boolean> {
    const { map } = this.#options;
    return findLog(map.current, log)?.state === "live" && isHeardOf(this.#options, log, this.#patienceMs(map.current, log));
  }

  /** The log of a manager that had no slots has no next owner who would end it. */
  #endUnchained(map: ClusterMap): void {
    const chained = new Set<number>(map.slots.flatMap(({ chain }) => chain.map(({ log }) => log)));
    const row = map.logs.find(({ id, kind, state }) => kind === "manager" && state === "expelled" && !chained.has(id));
    if (row === undefined || this.#ending) return;
    this.#ending = true;
    this.#options.logs
      .recover(row.id)
      .catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
        this.#options.logger("info", "the end of a manager's log is decided later", { log: row.id, reason: error.message });
      })
      .finally(() => {
        this.#ending = false;
      });
  }

  // Spreading.

  #balance(map: ClusterMap, nowMs: number): void {
    if (this.#moving || this.#failing || nowMs < this.#balanceAtMs) return;
    const up = this.#up(map, nowMs);
    const live = map.logs.filter(({ kind, state }) => kind === "manager" && state === "live").length;
    if (up[0]?.log !== this.#options.log || up.length < live) return;
    if (!isUneven(map, up)) return;
    const moves = balancingMoves(map, up);
    if (moves.length === 0) return;
    this.#moving = true;
    this.#moveAll(moves)
      .catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
        this.#balanceAtMs = this.#nowMs + MOVE_RETRY_MS;
        this.#options.logger("info", "slots are spread later", { reason: error.message });
      })
      .finally(() => {
        this.#moving = false;
      });
  }

  async #moveAll(moves: readonly SlotMove[]): Promise<void> {
    const { peers, logger } = this.#options;
    for (const { slots, from, to } of moves) {
      if (this.#closed) return;
      await peers.call(to, "takeSlots", { slots }, { deadlineMs: MOVE_DEADLINE_MS });
      logger("info", "slots were spread", { from, to, slots: slots.length });
    }
  }

  /** Has the slots come here from whoever has them. Resolves when the map says so. */
  async bring(slots: readonly number[]): Promise<void> {
    const { map, log } = this.#options;
    for (let attempt = 1; ; attempt++) {
      await map.refresh();
      const away = slots.filter((slot) => holderOf(map.current, slot) !== log);
      if (away.length === 0) return;
      if (attempt > MOVE_ATTEMPTS) throw new DazzleError("notReady", `slots ${away.join(",")} went elsewhere meanwhile`);
      try {
        await this.#askFor(away);
      } catch (error) {
        // They went from one to another while they were asked for.
        if (!isDazzleError(error, "staleMap")) throw error;
      }
    }
  }

  async #askFor(slots: readonly number[]): Promise<void> {
    const { map, member, log, peers } = this.#options;
    const byOwner = new Map<MemberId, number[]>();
    for (const slot of slots) {
      const owner = map.current.slots[slot]?.manager;
      if (owner === undefined) throw new DazzleError("invalid", `there is no slot ${slot}`);
      if (owner === null) throw new DazzleError("notReady", `slot ${slot} is with no manager`);
      byOwner.set(owner, [...(byOwner.get(owner) ?? []), slot]);
    }
    for (const [owner, ofOwner] of byOwner)
      await peers.call(owner, "yieldSlots", { slots: ofOwner, member, log }, { deadlineMs: MOVE_DEADLINE_MS });
  }
}

function isLeaving(map: ClusterMap, member: MemberId): boolean {
  const row = map.members.find(({ id }) => id === member);
  return row === undefined || row.leaving || !row.roles.includes("manager");
}
