import {
  CLOCK_DRIFT,
  type Clock,
  DazzleError,
  endedLog,
  findLog,
  isDazzleError,
  type Limits,
  type Logger,
  type LogRow,
  type MapCache,
  type MemberId,
  type Peers,
  ROOT,
  type RpcPeer,
  sleep,
  slotOf,
  type Timer,
} from "@dazzle/core";
import type { Journal } from "../journal.ts";
import { decider } from "../liveness/liveness.ts";
import type { Locks } from "../locks/locks.ts";
import type { LogAccess } from "../log-access.ts";
import type { SlotTable } from "../moving/slot-table.ts";
import type { Shard } from "../shard/shard.ts";
import type { ShardHost } from "../shard/shard-host.ts";
import type { TokenTable } from "../tokens/token-table.ts";
import { awaitedSinceMs, type EarlierOwners } from "./earlier-leases.ts";
import { EndedLogs, isClosed } from "./ended-logs.ts";
import { reclaimOrphans } from "./log-recovery.ts";
import { MountSession } from "./mount-session.ts";
import type { SlotClaims } from "./slot-claims.ts";
import { SlotOpenings } from "./slot-openings.ts";

const WATCH_MS = 500;
/** The map is read anew at every so manieth look. */
const WATCHES_A_REFRESH = 10;
const RETRY_FIRST_MS = 200;
const RETRY_MAX_MS = 5_000;
const VOUCH_DEADLINE_MS = 1_000;
/** What is unlinked and could not be removed is tried again after so long, and then ever later. */
const RECLAIM_FIRST_MS = 1_000;
const RECLAIM_MAX_MS = 30_000;

export interface MountsOptions {
  readonly map: MapCache;
  readonly member: MemberId;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: Limits;
  readonly logs: LogAccess;
  readonly host: ShardHost;
  readonly table: SlotTable;
  readonly claims: SlotClaims;
  readonly journal: Journal;
  readonly tokens: TokenTable;
  readonly locks: Locks;
  /** Whether the manager's own lease runs. */
  readonly isServing: () => boolean;
  /** A mount's log is closed: all of it is trimmed. */
  readonly onClosed: (log: number, end: number) => void;
  /** These may be open nowhere any more. */
  readonly reclaim: (inos: Iterable<number>) => void;
}

/** The mounts of the cluster: who is there, who is silent, and the end of those who are gone. */
export class Mounts {
  readonly #options: MountsOptions;
  // INVARIANT: mounts whose log is not settled in every slot here, as far as they were seen.
  readonly #sessions = new Map<number, MountSession>();
  readonly ended: EndedLogs;
  readonly #openings: SlotOpenings;
  readonly #endListening: () => void;
  readonly #asking = new Set<number>();
  #timer: Timer | null = null;
  #reclaimTimer: Timer | null = null;
  #reclaimDelayMs = RECLAIM_FIRST_MS;
  #watchedMs: number;
  #watches = 0;
  #closed = false;
  recovered = 0;

  constructor(options: MountsOptions) {
    this.#options = options;
    this.#watchedMs = this.#nowMs;
    this.ended = new EndedLogs(options);
    this.#openings = new SlotOpenings(options);
    this.#endListening = options.map.onChange(() => this.#mapChanged());
  }

  get #nowMs(): number {
    return this.#options.clock.nowMs();
  }

  session(log: number): MountSession | undefined {
    return this.#sessions.get(log);
  }

  get sessions(): Iterable<MountSession> {
    return this.#sessions.values();
  }

  start(): void {
    this.#watch();
  }

  /** Slots come here in which mounts may hold something by leases of earlier owners (by slot). To be called before anything is applied to them here. */
  mayHold(shards: readonly Shard[], earlier: ReadonlyMap<number, EarlierOwners>): void {
    const { map, limits } = this.#options;
    for (const session of this.#sessions.values()) if (session.state === "awaited" && session.wanted === 0) session.heardMs = this.#nowMs;
    for (const { slot, holds } of shards) {
      const owners = earlier.get(slot);
      for (const mount of owners === undefined ? [] : holds) {
        const row = findLog(map.current, mount);
        if (owners === undefined || row === undefined || row.state === "closed") continue;
        const session = this.#session(mount);
        session.leasedUntil(owners.leasesEndMs);
        if (session.state === "awaited")
          session.heardMs = Math.min(session.heardMs, awaitedSinceMs(limits, owners, row.member, this.#nowMs));
      }
    }
  }

  /** Slots were read here, and wait for the mounts that may hold something in them (rule 16). Returns the function that ends that. */
  expect(shards: readonly Shard[]): () => void {
    const { map, claims } = this.#options;
    const waited: Array<() => void> = [];
    for (const mount of holdersIn(shards)) {
      const row = findLog(map.current, mount);
      // Its log may have been applied to the slots since they came here.
      if (row === undefined || this.#isGone(mount)) {
        claims.gone(mount);
        continue;
      }
      const session = this.#session(mount);
      waited.push(this.want(mount));
      this.#openings.tell(session);
      this.#look(row, this.#nowMs);
    }
    return () => {
      for (const over of waited) over();
    };
  }

  /** Slots that were to leave stay: mounts whose sessions here were `known` before may be gone since, and their tokens be free. Resolves when the slots have what those did. Rejects `cancelled` where this
   * manager stops before. */
  async settled(shards: readonly Shard[], known: readonly MountSession[]): Promise<void> {
    const { map, table, logger } = this.#options;
    const holders = holdersIn(shards);
    for (const { log, state } of known) {
      const row = findLog(map.current, log);
      // Who is still being recovered keeps its tokens until the slots have what it did.
      if (state !== "gone" || row === undefined || !holders.has(log) || this.#isGone(log)) continue;
      const reason = `what mount ${log}, which is gone, did there is not applied yet`;
      for (const { slot } of shards) table.waits(slot, reason);
      logger("info", "slots that did not go to another manager open later", { log: this.#options.journal.log, reason });
      await this.#untilGone(row);
    }
  }

  async #untilGone(row: LogRow): Promise<void> {
    while (!this.#isGone(row.id)) {
      if (this.#closed) throw new DazzleError("cancelled", "the manager is stopping");
      this.#look(row, this.#nowMs);
      await Promise.race([this.#session(row.id).gone.promise, sleep(this.#options.clock, WATCH_MS)]);
    }
  }

  /** Every mount that is here may be granted something in every slot here. Stable when it resolves. */
  async holdAll(): Promise<void> {
    for (const { log, state } of this.#sessions.values()) if (state === "open") await this.#options.host.hold(log);
  }

  #session(log: number): MountSession {
    let session = this.#sessions.get(log);
    if (session === undefined) {
      session = new MountSession(log, this.#nowMs);
      this.#sessions.set(log, session);
    }
    return session;
  }

  #watch(): void {
    if (this.#closed) return;
    const nowMs = this.#nowMs;
    // Silence counts only while this manager was there to hear, and answered (rule 29), and had something to be asked for.
    const lateMs = nowMs - this.#watchedMs - WATCH_MS;
    const sleptMs = lateMs > WATCH_MS ? lateMs : 0;
    this.#watchedMs = nowMs;
    const { host, isServing, claims } = this.#options;
    const hears = isServing() && !host.isEmpty;
    const awaited = claims.awaited();
    for (const session of this.#sessions.values()) session.watched(nowMs, { sleptMs, hears, awaits: awaited.has(session.log) });
    for (const row of this.#options.map.current.logs) if (row.kind === "mount" && row.state !== "closed") this.#look(row, nowMs);
    this.#closeEnded();
    if (++this.#watches % WATCHES_A_REFRESH === 0) this.#refresh();
    this.#timer = this.#options.clock.after(WATCH_MS, () => this.#watch());
  }

  #refresh(): void {
    this.#options.map.refresh().catch((error: unknown) => {
      if (!isDazzleError(error)) throw error;
      this.#options.logger("warning", "the cluster map can't be read", { reason: error.message });
    });
  }

  /** What others decided of mounts is acted on at once. */
  #mapChanged(): void {
    const { map } = this.#options;
    if (this.#timer === null || this.#closed) return;
    const nowMs = this.#nowMs;
    for (const row of map.current.logs)
      if (row.kind === "mount" && (row.state === "expelled" || row.state === "ended")) this.#look(row, nowMs);
    for (const session of this.#sessions.values()) if (isClosed(map.current, session.log)) this.#finish(session);
    for (const log of this.ended.known) if (isClosed(map.current, log)) this.#isClosed(log);
  }

  #isClosed(log: number): void {
    this.ended.forget(log);
    this.#options.onClosed(log, findLog(this.#options.map.current, log)?.end ?? 0);
  }

  /** Closes ended logs that this manager looks after, and that every slot has. */
  #closeEnded(): void {
    const { map, member } = this.#options;
    for (const log of this.ended.known) if (decider(map.current, log) === member) this.#close(log);
  }

  #close(log: number): void {
    this.ended.close(log).catch((error: unknown) => {
      if (!isDazzleError(error)) throw error;
      if (!this.#closed) this.#options.logger("warning", "a mount's log is closed later", { log, reason: error.message });
    });
  }

  #look(row: LogRow, nowMs: number): void {
    if (row.state === "ended" && this.ended.isSettled(row.id)) return;
    const session = this.#session(row.id);
    if (session.state !== "awaited" && session.state !== "open") return;
    const { mountSilenceMs, mountAbandonedMs } = this.#options.limits;
    const silentMs = nowMs - session.heardMs;
    const limitMs = silentMs > mountSilenceMs && this.#isWanted(session) ? mountSilenceMs : mountAbandonedMs;
    // Every mount is at the root's manager; elsewhere it is where it holds something.
    const isDue = session.state === "open" || session.wanted > 0 || this.#options.host.has(slotOf(ROOT));
    if (row.state !== "live") this.#recover(session, "it is expelled");
    else if (isDue && silentMs > limitMs) this.#recover(session, "it is silent");
    else if (session.withholdsClaims(nowMs)) this.#recover(session, "it does not say what it holds");
    else if (!session.connected) this.#askWhetherGone(session, row);
  }

  #isWanted(session: MountSession): boolean {
    const { limits, locks } = this.#options;
    return session.wanted > 0 || this.#nowMs - session.conflictMs < limits.mountSilenceMs || locks.isWaitedFor(session.log);
  }

  #askWhetherGone(session: MountSession, row: LogRow): void {
    if (this.#asking.has(row.id) || this.#closed) return;
    this.#asking.add(row.id);
    this.#options.peers
      .call(row.member, "vouchGone", { process: row.process }, { deadlineMs: VOUCH_DEADLINE_MS })
      .then(
        ({ reply }) => {
          if (!reply.gone || session.connected) return;
          if (session.state === "awaited" || session.state === "open") this.#recover(session, "its process is gone", true);
          else session.leave();
        },
        (error: unknown) => {
          if (!isDazzleError(error)) throw error;
        },
      )
      .finally(() => this.#asking.delete(row.id));
  }

  /** A mount says that it is there. */
  async open(log: number, peer: RpcPeer | undefined): Promise<void> {
    const { map, host } = this.#options;
    if (findLog(map.current, log) === undefined) await map.refresh();
    if (!this.#sessions.has(log)) this.#checkLive(log);
    const session = this.#session(log);
    // A slot that comes meanwhile finds the mount here only when it is open.
    for (let arrivals = -1; arrivals !== host.arrivals; ) {
      arrivals = host.arrivals;
      await host.hold(log);
    }
    this.#checkLive(log);
    if (session.state === "recovering" || session.state === "gone") throw this.#expelled(log);
    session.opened(peer, this.#nowMs);
    this.#openings.tell(session);
    peer?.onClose(() => {
      const row = findLog(map.current, log);
      if (session.peer === peer && session.state === "open" && row !== undefined) this.#askWhetherGone(session, row);
    });
  }

  #checkLive(log: number): void {
    const row = findLog(this.#options.map.current, log);
    if (row?.kind !== "mount" || row.state !== "live") throw this.#expelled(log);
  }

  #expelled(log: number): DazzleError {
    return new DazzleError("expelled", `mount ${log} is ${findLog(this.#options.map.current, log)?.state ?? "not in the map"}`);
  }

  /** An open mount that was heard of. Throws `expelled`, or `notReady` where it has not opened here. */
  heard(log: number): MountSession {
    const session = this.#sessions.get(log);
    if (session?.state === "recovering" || session?.state === "gone") throw this.#expelled(log);
    this.#checkLive(log);
    if (session?.state !== "open") throw new DazzleError("notReady", `mount ${log} has not opened here`);
    session.hear(this.#nowMs);
    return session;
  }

  /** Throws where a mount may not be granted anything. */
  check(log: number): void {
    if (this.#sessions.get(log)?.state !== "open") throw this.#expelled(log);
  }

  hasUnstable(log: number): boolean {
    return this.#options.host.progress(log).unstable;
  }

  /** Somebody waits for something that a mount holds, until the returned function is called: meanwhile it is expelled where it is silent. */
  want(mount: number): () => void {
    const session = this.#sessions.get(mount);
    if (session === undefined) return () => {};
    session.wanted++;
    return () => session.wanted--;
  }

  /** A clean unmount: everything up to `end` is applied in all slots, and the mount serves nothing any more. What is applied here, or was lacking in slots that are
   * being opened, is stable when it resolves; the last manager that a mount tells closes its log. */
  async close(log: number, end: number): Promise<void> {
    const { map, host, journal, table } = this.#options;
    if (isClosed(map.current, log)) return;
    if (findLog(map.current, log)?.state === "live") {
      const session = this.heard(log);
      if (host.progress(log).applied > end) throw new DazzleError("invalid", `mount ${log} is applied beyond its end ${end}`);
      // What one that is opening lacks the mount may not have shipped there again.
      const shards = [...host.shards].filter(({ slot }) => ["open", "leaving"].includes(table.stateOf(slot) ?? ""));
      await journal.settle();
      session.leave();
      session.state = "recovering";
      session.peer = undefined;
      try {
        await map.change((current) => endedLog(current, log, end));
      } catch (error) {
        this.#recover(session, "it could not be ended");
        throw error;
      }
      if (findLog(map.current, log)?.end === end) this.ended.note(log, shards);
      if (this.ended.isSettled(log)) this.#finish(session);
      else this.#recover(session, "slots were opened here while it was unmounted");
    }
    const session = this.#sessions.get(log);
    session?.leave();
    await session?.gone.promise;
    await this.ended.close(log);
  }

  /** `vouched`: its node says that its process is gone, so that its lease need not be waited for. */
  #recover(session: MountSession, reason: string, vouched = false): void {
    const { host, limits } = this.#options;
    // Where it holds nothing, it serves nothing.
    const holds = [...host.shards].some((shard) => shard.holds.has(session.log));
    if (vouched) session.leave();
    else if (holds && session.state === "open") session.leasedUntil(session.leasedFromMs + limits.mountLeaseMs * (1 + CLOCK_DRIFT));
    session.state = "recovering";
    session.peer = undefined;
    this.#options.logger("info", "recovering a mount's log", { log: session.log, reason });
    this.#recoverUntilDone(session).catch((error: unknown) => {
      if (!this.#closed) throw error;
    });
  }

  async #recoverUntilDone(session: MountSession): Promise<void> {
    const { log } = session;
    const { clock, logger } = this.#options;
    for (let delayMs = RETRY_FIRST_MS; ; delayMs = Math.min(RETRY_MAX_MS, 2 * delayMs)) {
      try {
        await this.ended.settle(log, () => this.#leaseEnded(session));
        // A slot may have come in the same moment.
        if (!this.#isGone(log)) continue;
        this.recovered++;
        logger("info", "what the slots here lacked of a mount's log is applied", { log });
        this.#finish(session);
        if (decider(this.#options.map.current, log) === this.#options.member) this.#close(log);
        return;
      } catch (error) {
        if (this.#closed) return;
        if (!isDazzleError(error)) throw error;
        logger("warning", "a mount's log can't be recovered yet", { log, reason: error.message });
        await sleep(clock, delayMs);
      }
    }
  }

  async #leaseEnded(session: MountSession): Promise<void> {
    const row = findLog(this.#options.map.current, session.log);
    while (session.leaseEndMs > this.#nowMs) {
      if (row !== undefined) this.#askWhetherGone(session, row);
      await Promise.race([session.left.promise, sleep(this.#options.clock, Math.min(WATCH_MS, session.leaseEndMs - this.#nowMs))]);
    }
  }

  /** Its log is applied to the slots here, or closed. */
  #finish(session: MountSession): void {
    const { log } = session;
    const { tokens, map } = this.#options;
    if (session.state === "gone") return;
    tokens.dropMount(log);
    this.#options.locks.dropMount(log);
    const closed = tokens.openers.dropMount(log);
    session.state = "gone";
    this.#sessions.delete(log);
    session.gone.resolve();
    this.#options.claims.gone(log);
    if (isClosed(map.current, log)) this.#isClosed(log);
    void this.reclaimOrphans();
    this.#options.reclaim(closed);
  }

  /** Whether everything that a mount did is applied to the slots here, and nothing more comes. */
  #isGone(mount: number): boolean {
    return isClosed(this.#options.map.current, mount) || this.ended.isSettled(mount);
  }

  /** Removes the unlinked files of open slots that nobody has open any more. */
  async reclaimOrphans(): Promise<void> {
    const { host, table, tokens, logger } = this.#options;
    try {
      const held: number[] = [];
      const orphans = await reclaimOrphans(host, (ino, mount) => {
        if (!table.isOpen(slotOf(ino)) || !this.#isGone(mount)) return true;
        if (tokens.isHeld(ino)) held.push(ino);
        return tokens.isHeld(ino) || tokens.openers.has(ino);
      });
      this.#options.reclaim(held);
      this.#reclaimDelayMs = RECLAIM_FIRST_MS;
      if (orphans > 0) logger("info", "unlinked files that nobody has open are removed", { files: orphans });
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      if (this.#closed) return;
      logger("warning", "unlinked files are removed later", { reason: error.message });
      this.#reclaimLater();
    }
  }

  #reclaimLater(): void {
    if (this.#reclaimTimer !== null) return;
    this.#reclaimTimer = this.#options.clock.after(this.#reclaimDelayMs, () => {
      this.#reclaimTimer = null;
      void this.reclaimOrphans();
    });
    this.#reclaimDelayMs = Math.min(RECLAIM_MAX_MS, 2 * this.#reclaimDelayMs);
  }

  /** Slots went from here to other managers. */
  tellMoved(slots: readonly number[]): void {
    this.#openings.tellMoved(this.#sessions.values(), slots);
  }

  stop(): void {
    this.#closed = true;
    this.#openings.stop();
    this.#timer?.cancel();
    this.#reclaimTimer?.cancel();
    this.#endListening();
  }
}

/** Mounts that may hold something in them. */
function holdersIn(shards: readonly Shard[]): Set<number> {
  return new Set(shards.flatMap(({ holds }) => [...holds]));
}
