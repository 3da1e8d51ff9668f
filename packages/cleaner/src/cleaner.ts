import {
  type ClusterMap,
  DazzleError,
  type Handlers,
  isDazzleError,
  type LogRow,
  type Reply,
  type Request,
  sharedAbort,
  withAbort,
  withDeadline,
} from "@dazzle/core";
import { LogReader } from "@dazzle/log";
import { Alarm } from "./alarm.ts";
import { CleanerLog } from "./cleaner-log.ts";
import { type GroupCleaning, GroupLeader } from "./group-leader.ts";
import { Mover } from "./mover.ts";
import { CLOSED_LOGS_MAX } from "./old-logs.ts";
import type { CleanerOptions } from "./options.ts";
import { SlotManagers } from "./slot-managers.ts";

/** Sets that wait for this cleaner, of all groups: two leaders at once are rare. */
const SETS_MAX = 4;
const SEGMENTS_MAX = 4_096;
const STOP_DEADLINE_MS = 3_000;
/** How often it looks at its groups, where nothing wakes it; while somebody waits for it. */
const LOOK_MS = 10_000;
const ASKED_LOOK_MS = 1_000;
/** A log that has moved nothing for so long is closed, unless that made too many: what lives in one of them would be moved into the next one. */
const IDLE_LOG_MS = 3_600_000;

/** The cleaner role of one member: leads what it is to lead, and cleans what leaders ask it to. */
export class Cleaner {
  readonly handlers: Handlers;
  readonly #options: CleanerOptions;
  readonly #reader: LogReader;
  readonly #managers: SlotManagers;
  readonly #alarm = new Alarm();
  /** Aborted when it stops: it leads no more; and when what it cleans is given up. */
  readonly #leading = sharedAbort();
  readonly #ending = sharedAbort();
  readonly #leaders = new Map<number, GroupLeader>();
  /** By group: when it is looked at next, where nobody asks. */
  readonly #dueMs = new Map<number, number>();
  /** By group; begun when it first moves something. */
  readonly #logs = new Map<number, CleanerLog>();
  #cleaning: Promise<unknown> = Promise.resolve();
  #waiting = 0;
  /** Whether a log may be in the map already, and not in `#logs` yet. */
  #isBeginning = false;
  #trimmedToldMs = Number.NEGATIVE_INFINITY;
  #running: Promise<void> = Promise.resolve();
  #endListening: () => void = () => {};

  constructor(options: CleanerOptions) {
    this.#options = options;
    this.#reader = new LogReader(options);
    this.#managers = new SlotManagers(options);
    this.handlers = {
      cleanSegments: async (request, { signal }) => ({ reply: await this.#inTurn(request, signal) }),
      clean: (request) => ({ reply: this.#ask(request) }),
    };
  }

  start(): void {
    this.#endListening = this.#options.map.onChange(() => {
      if (this.#isLeaving && this.#logs.size > 0) this.#alarm.ring();
    });
    this.#running = this.#run();
  }

  /** Of the groups that it leads, or led. */
  get status(): readonly GroupCleaning[] {
    return [...this.#leaders.values()].flatMap(({ status }) => (status === null ? [] : [status]));
  }

  async #run(): Promise<void> {
    const { clock } = this.#options.ports;
    for (let pauseMs = LOOK_MS; ; ) {
      await this.#alarm.wait(clock, pauseMs);
      if (this.#isLeaving) await this.#endLogs();
      await this.#expelAbandoned();
      await this.#tellTrimmed();
      await this.#closeIdleLogs();
      this.#forgetGroups();
      pauseMs = await this.#turnAll();
      if (this.#leading.signal.aborted) return;
    }
  }

  /** Looks at the groups for which somebody waits, or else at those that are due. Answers after how long to do so again. */
  async #turnAll(): Promise<number> {
    const { map, ports } = this.#options;
    const leaders = this.#isLeaving ? [] : map.current.groups.map(({ id }) => this.#leaderOf(id));
    const isAnyAsked = () => leaders.some(({ isAsked }) => isAsked);
    const leftMs = ({ group }: GroupLeader) => (this.#dueMs.get(group) ?? 0) - ports.clock.nowMs();
    for (const leader of leaders) {
      if (isAnyAsked() ? !leader.isAsked : leftMs(leader) > 0) continue;
      const pauseMs = await this.#turn(leader);
      this.#dueMs.set(leader.group, ports.clock.nowMs() + pauseMs);
    }
    const isAsked = isAnyAsked();
    const next = leaders.filter((leader) => leader.isAsked === isAsked).map(leftMs);
    return Math.max(0, Math.min(isAsked ? ASKED_LOOK_MS : LOOK_MS, ...next));
  }

  #forgetGroups(): void {
    const { groups } = this.#options.map.current;
    for (const group of this.#leaders.keys()) {
      if (groups.some(({ id }) => id === group)) continue;
      this.#leaders.delete(group);
      this.#dueMs.delete(group);
    }
  }

  async #closeIdleLogs(): Promise<void> {
    const { map, ports } = this.#options;
    const isIdle = ({ group, movedMs }: CleanerLog) =>
      ports.clock.nowMs() - movedMs >= IDLE_LOG_MS && closedLogs(map.current, group) < CLOSED_LOGS_MAX;
    if (this.#waiting > 0 || ![...this.#logs.values()].some(isIdle)) return;
    // A set that comes meanwhile begins another log.
    this.#cleaning = this.#closeLogs(isIdle);
    await this.#cleaning;
  }

  async #closeLogs(isWanted: (log: CleanerLog) => boolean): Promise<void> {
    for (const [group, log] of [...this.#logs].filter(([, each]) => isWanted(each))) {
      await log.close();
      this.#logs.delete(group);
    }
  }

  async #turn(leader: GroupLeader): Promise<number> {
    try {
      return this.#leading.signal.aborted ? LOOK_MS : await leader.turn();
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      if (error.code !== "cancelled")
        this.#options.ports.logger("info", "a group is cleaned later", { group: leader.group, reason: error.message });
      return LOOK_MS;
    }
  }

  /** Logs of this process that are live in the map and that it does not write: beginning one or giving one up may reach the map, or not, and look as if it had failed. */
  async #expelAbandoned(): Promise<void> {
    const { map, ports } = this.#options;
    if (this.#isBeginning) return;
    const written = new Set([...this.#logs.values()].filter(({ failure }) => failure === null).map(({ log }) => log));
    const isOwn = ({ kind, process, state }: LogRow) => kind === "cleaner" && process === ports.processes.self && state === "live";
    const abandoned = new Set(map.current.logs.filter((row) => isOwn(row) && !written.has(row.id)).map(({ id }) => id));
    if (abandoned.size === 0) return;
    const isAbandoned = (row: LogRow) => abandoned.has(row.id) && isOwn(row);
    try {
      await map.change((now) =>
        now.logs.some(isAbandoned)
          ? { ...now, logs: now.logs.map((row) => (isAbandoned(row) ? { ...row, state: "expelled" as const } : row)) }
          : undefined,
      );
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      ports.logger("info", "logs that are not written are not expelled yet", { logs: [...abandoned].join(","), reason: error.message });
    }
  }

  async #tellTrimmed(): Promise<void> {
    const nowMs = this.#options.ports.clock.nowMs();
    if (nowMs - this.#trimmedToldMs < LOOK_MS) return;
    this.#trimmedToldMs = nowMs;
    const { signal } = this.#leading;
    await Promise.all([...this.#logs.values()].filter(({ failure }) => failure === null).map((log) => log.tellTrimmed(signal)));
  }

  get #isLeaving(): boolean {
    const { map, self } = this.#options;
    return map.current.members.find(({ id }) => id === self)?.leaving ?? true;
  }

  #leaderOf(group: GroupLeader["group"]): GroupLeader {
    let leader = this.#leaders.get(group);
    if (leader === undefined) {
      const isOtherAsked = () => [...this.#leaders].some(([id, other]) => id !== group && other.isAsked);
      leader = new GroupLeader(this.#options, group, this.#alarm, this.#leading.signal, isOtherAsked);
      this.#leaders.set(group, leader);
    }
    return leader;
  }

  #ask(request: Request<"clean">): Reply<"clean"> {
    const group = this.#options.map.current.groups.find(({ id }) => id === request.group);
    if (group === undefined) throw new DazzleError("staleMap", `group ${request.group} is not in the map`);
    if (!(request.until >= 0 && request.until <= 1)) throw new DazzleError("badMessage", `${request.until} is no share`);
    if (this.#leading.signal.aborted || this.#isLeaving) throw new DazzleError("notReady", "this cleaner is stopping");
    return this.#leaderOf(group.id).ask(request);
  }

  /** One set after the other. */
  #inTurn(request: Request<"cleanSegments">, signal: AbortSignal): Promise<Reply<"cleanSegments">> {
    const { sequences, logs, groupVersions, always } = request;
    if (sequences.length > SEGMENTS_MAX || [logs, groupVersions, always].some(({ length }) => length !== sequences.length))
      throw new DazzleError("badMessage", `${sequences.length} segments of ${logs.length} logs can't be cleaned together`);
    if (this.#leading.signal.aborted || this.#isLeaving || this.#waiting >= SETS_MAX)
      throw new DazzleError("notReady", "this cleaner takes no more work");
    this.#waiting++;
    const cleaning = this.#cleaning
      .then(() => withAbort([signal, this.#ending.signal], (ended) => this.#clean(request, ended.signal)))
      .finally(() => this.#waiting--);
    this.#cleaning = cleaning.catch(() => {});
    return cleaning;
  }

  async #clean(request: Request<"cleanSegments">, signal: AbortSignal): Promise<Reply<"cleanSegments">> {
    const { group, logs, sequences, groupVersions, always } = request;
    if (this.#ending.signal.aborted) throw new DazzleError("notReady", "this cleaner is stopping");
    if (signal.aborted) throw new DazzleError("cancelled", "nobody waits for this set any more");
    const log = await this.#logOf(group);
    const { logger } = this.#options.ports;
    const mover = new Mover({ group, reader: this.#reader, managers: this.#managers, log, logger, signal });
    const segments = logs.map((of, index) => ({
      ...{ log: of, sequence: sequences[index] ?? 0, groupVersion: groupVersions[index] ?? 0 },
      always: always[index] ?? false,
    }));
    const { skipped, full, ...moved } = await mover.move(segments);
    return {
      ...moved,
      skippedLogs: skipped.map((one) => one.log),
      skippedSequences: skipped.map(({ sequence }) => sequence),
      skippedRetry: skipped.map(({ retry }) => retry),
      fullLogs: full.map((one) => one.log),
      fullSequences: full.map(({ sequence }) => sequence),
    };
  }

  async #logOf(group: number): Promise<CleanerLog> {
    const known = this.#logs.get(group);
    if (known !== undefined && known.failure === null) return known;
    this.#isBeginning = true;
    try {
      const log = await CleanerLog.begin(this.#options, group);
      this.#logs.set(group, log);
      return log;
    } finally {
      this.#isBeginning = false;
    }
  }

  async #endLogs(): Promise<void> {
    await this.#cleaning;
    await this.#closeLogs(() => true);
  }

  /** Ends. What is under way is finished and its log closed, where that does not take long: else the log is left to whoever recovers it. */
  async stop(): Promise<void> {
    const { clock, logger } = this.#options.ports;
    this.#endListening();
    this.#leading.abort();
    this.#alarm.ring();
    const inTime = (what: string, promise: Promise<void>, otherwise: string) =>
      withDeadline(clock, STOP_DEADLINE_MS, what, promise).catch((error: unknown) => {
        if (!isDazzleError(error)) throw error;
        logger("info", otherwise, { reason: error.message });
      });
    await inTime("closing the cleaner's logs", this.#endLogs(), "a cleaner's log is left to be recovered");
    this.#ending.abort();
    for (const log of this.#logs.values()) log.giveUp(new DazzleError("cancelled", "the cleaner was stopped"));
    // A call to another member is given up; one to its own goes on by itself.
    await inTime("the last look", this.#running, "a cleaner that stops does not wait for its own member");
  }
}

function closedLogs({ logs }: ClusterMap, group: number): number {
  return logs.filter(({ kind, state, groups }) => kind !== "manager" && state === "closed" && groups.some((each) => each === group)).length;
}
