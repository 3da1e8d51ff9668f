import {
  currentVersion,
  DazzleError,
  findGroup,
  findLog,
  type GroupId,
  type GroupServer,
  type GroupVersionRow,
  isDazzleError,
  type MemberId,
  type Reply,
  type Timer,
} from "@dazzle/core";
import { memberName } from "./listing.ts";
import type { LogOptions } from "./options.ts";
import type { PendingFragment, PendingSegment } from "./pending-segment.ts";
import type { GroupTraffic, Placement } from "./placement.ts";
import { leaveOut } from "./regroup.ts";
import { ServerState } from "./server-state.ts";
import type { StoreQueueEvents, WriterCounters } from "./store-events.ts";
import { SyncSchedule } from "./sync-schedule.ts";

/** Of `serverSuspectMs`: how long connections must fail before a server is suspected. */
const REFUSED_SHARE = 1 / 4;
const TICK_SHARE = 1 / 8;

/** Sealed segments on their way to being stable: stores their fragments, has them synced, stores again what a server lost,
 * leaves out servers that do not answer, and writes under the new version what they were to hold. */
export class StoreQueue {
  trimmedTo = 0;
  /** When something was last accepted or became durable; of what went from group to group only when it became stable. */
  progressMs: number;
  readonly counters: WriterCounters = { segments: 0, bytes: 0, stores: 0, syncs: 0, mirrored: 0, rewritten: 0, moved: 0, regroups: 0 };
  readonly #options: LogOptions;
  readonly #log: number;
  readonly #placement: Placement;
  readonly #clusterId: string;
  readonly #events: StoreQueueEvents;
  readonly #servers = new Map<MemberId, ServerState>();
  // INVARIANT: ascending by sequence, from the stable sequence + 1 on, without gaps.
  readonly #pending = new Map<number, PendingSegment>();
  // INVARIANT: ascending; the pending segments that have no cut.
  #queued: PendingSegment[] = [];
  /** Segments cut and not yet accepted by all their servers. */
  readonly #underWay = new Set<PendingSegment>();
  #stableSequence: number;
  #wanted = 0;
  readonly #syncs: SyncSchedule;
  #tickTimer: Timer | null = null;
  #stopped = false;
  readonly #endListening: () => void;

  constructor(
    options: LogOptions,
    writer: { log: number; clusterId: string; stableSequence: number; placement: Placement },
    events: StoreQueueEvents,
  ) {
    this.#options = options;
    this.#log = writer.log;
    this.#placement = writer.placement;
    this.#clusterId = writer.clusterId;
    this.#stableSequence = writer.stableSequence;
    this.#events = events;
    this.#syncs = new SyncSchedule(options.ports.clock, options.limits, () => this.#syncAll());
    this.progressMs = this.#now;
    this.#endListening = options.map.onChange(() => this.#review());
  }

  get stableSequence(): number {
    return this.#stableSequence;
  }

  get pending(): ReadonlyMap<number, PendingSegment> {
    return this.#pending;
  }

  /** What the oldest segment that is not stable waits for, with the servers' names. */
  get awaited(): DazzleError {
    const lines: string[] = [];
    let noSpace = false;
    for (const server of this.#servers.values()) {
      const awaited = this.#fragmentsAt(server).some(({ state }) => state !== "durable");
      if (!awaited) continue;
      noSpace ||= server.reason.startsWith("noSpace");
      lines.push(`${memberName(this.#options, server.member)} (${server.stuck || server.reason || "no answer"})`);
    }
    const detail = `log ${this.#log}: segment ${this.#stableSequence + 1} is not stable, awaited: ${lines.join(", ") || "a group version"}`;
    return new DazzleError(noSpace ? "noSpace" : "unreachable", detail);
  }

  add(segment: PendingSegment): void {
    this.#pending.set(segment.sequence, segment);
    this.#queued.push(segment);
    this.counters.segments++;
    this.counters.bytes += segment.payloadBytes;
    this.#pump();
    if (segment.urgent) this.want(segment.sequence);
  }

  /** Somebody waits for everything up to `sequence`. */
  want(sequence: number): void {
    if (sequence <= this.#wanted) return;
    this.#wanted = sequence;
    for (const server of this.#servers.values()) this.#settle(server);
  }

  /** Ends the timers; stores under way end by their deadlines. */
  stop(): void {
    this.#stopped = true;
    this.#endListening();
    this.#syncs.stop();
    this.#tickTimer?.cancel();
  }

  get #now(): number {
    return this.#options.ports.clock.nowMs();
  }

  #current(group: GroupId): GroupVersionRow {
    return currentVersion(findGroup(this.#options.map.current, group));
  }

  /** What a group has shown of itself. */
  traffic(group: GroupId): GroupTraffic {
    const { servers } = this.#current(group);
    const answerMs = Math.max(...servers.map(({ member }) => this.#servers.get(member)?.answerMs ?? 0));
    let underWay = 0;
    for (const segment of this.#underWay) if (segment.group === group) underWay++;
    return { answerMs, underWay };
  }

  #server(member: MemberId): ServerState {
    let server = this.#servers.get(member);
    if (server === undefined) {
      server = new ServerState(member, this.#options.ports.clock);
      this.#servers.set(member, server);
    }
    return server;
  }

  *#fragments(): Generator<PendingFragment> {
    for (const segment of this.#pending.values()) yield* segment.fragments;
  }

  #fragmentsAt(server: ServerState): PendingFragment[] {
    return [...this.#fragments()].filter((fragment) => fragment.server.member === server.member);
  }

  #pump(): void {
    while (!this.#stopped && this.#underWay.size < this.#options.limits.segmentsInFlight) {
      const segment = this.#queued.shift();
      if (segment === undefined) return;
      this.#send(segment);
    }
  }

  #send(segment: PendingSegment): void {
    segment.group = this.#placement.insteadOf(segment.group) ?? segment.group;
    const fragments = segment.cut(this.#current(segment.group), {
      clusterId: this.#clusterId,
      mirrorBytes: this.#options.limits.mirrorBytes,
      stableSequence: this.#stableSequence,
      trimmedTo: this.trimmedTo,
    });
    if (fragments.length > 1 && fragments.every(({ inParityRoom }) => !inParityRoom)) this.counters.mirrored++;
    this.#underWay.add(segment);
    for (const fragment of fragments) this.#store(fragment);
    this.#tick();
  }

  async #store(fragment: PendingFragment): Promise<void> {
    const { segment } = fragment;
    const { peers, limits } = this.#options;
    const server = this.#server(fragment.server.member);
    const sync = segment.urgent || segment.sequence <= this.#wanted;
    fragment.state = "sending";
    segment.calls++;
    if (fragment.inParityRoom) segment.parityCalls++;
    if (sync) server.syncStores++;
    server.begin();
    if (sync) server.beginSync();
    const options = { tail: fragment.tail, deadlineMs: limits.serverDeadlineMs };
    const sentMs = this.#now;
    const [answer] = await Promise.allSettled([peers.call(server.member, "store", { class: segment.class, sync }, options)]);
    segment.calls--;
    if (fragment.inParityRoom) segment.parityCalls--;
    if (sync) server.syncStores--;
    server.end();
    if (answer.status === "fulfilled") {
      server.took(this.#now - sentMs);
      this.#accepted(fragment, server, answer.value.reply);
    } else {
      fragment.isLate ||= isDazzleError(answer.reason, "timedOut");
      if (!this.#isCurrent(fragment)) this.#disconnect(fragment);
      this.#storeFailed(fragment, server, answer.reason);
    }
    this.#releaseStable(segment);
  }

  /** What is still queued to a server refers to a buffer that is soon used again. */
  #disconnect({ isLate, server }: PendingFragment): void {
    if (isLate) this.#options.peers.connected(server.member)?.close();
  }

  #releaseStable(segment: PendingSegment): void {
    if (segment.release()) this.#events.released(segment);
  }

  #isCurrent(fragment: PendingFragment): boolean {
    return !this.#stopped && fragment.segment.fragments[fragment.index] === fragment;
  }

  #accepted(fragment: PendingFragment, server: ServerState, reply: Reply<"store">): void {
    server.heard();
    server.served();
    if (this.#isCurrent(fragment)) {
      const { segment } = fragment;
      this.counters.stores++;
      fragment.state = "accepted";
      fragment.isLate = false;
      fragment.boot = reply.boot;
      fragment.ticket = reply.ticket;
      server.accepted.add(fragment);
      this.#progressed(segment);
      if (segment.accepted && this.#underWay.delete(segment)) this.#syncs.stored(segment.payloadBytes);
    }
    this.#told(server, reply);
    this.#pump();
    if (this.#pending.size > 0 && !this.#stopped) this.#syncs.schedule(this.#underWay.size === 0 && this.#queued.length === 0);
  }

  /** A server told how far its stores are on disk. */
  #told(server: ServerState, told: { readonly boot: string; readonly durable: number }): void {
    if (this.#stopped) return;
    server.boot = told.boot;
    const lost: PendingFragment[] = [];
    let isMore = false;
    for (const fragment of server.accepted) {
      if (fragment.boot !== told.boot) lost.push(fragment);
      else if (fragment.ticket <= told.durable) {
        server.accepted.delete(fragment);
        fragment.state = "durable";
        this.#progressed(fragment.segment);
        isMore = true;
      }
    }
    this.#storeAgain(server, lost);
    if (isMore) {
      server.synced();
      this.#advance();
    }
    this.#settle(server);
  }

  /** The server lost these, or may have: it starts anew after a failed sync as after a crash. */
  #storeAgain(server: ServerState, lost: readonly PendingFragment[]): void {
    if (lost.length === 0) return;
    for (const fragment of lost) {
      server.accepted.delete(fragment);
      fragment.state = "waiting";
      this.#underWay.add(fragment.segment);
    }
    this.#storeWaiting(server);
    this.#options.ports.logger("warning", "a storage server restarted with unsynced fragments: storing them again", {
      log: this.#log,
      server: memberName(this.#options, server.member),
      fragments: lost.length,
    });
    this.#tick();
  }

  #progressed(segment: PendingSegment): void {
    if (!segment.moved) this.progressMs = this.#now;
  }

  #advance(): void {
    for (;;) {
      const segment = this.#pending.get(this.#stableSequence + 1);
      if (segment === undefined || !segment.durable) break;
      this.#stableSequence++;
      this.progressMs = this.#now;
      this.#pending.delete(segment.sequence);
      segment.becomeStable();
      this.#events.stable(segment);
      this.#releaseStable(segment);
    }
  }

  #storeFailed(fragment: PendingFragment, server: ServerState, error: unknown): void {
    if (!this.#isCurrent(fragment)) return;
    fragment.state = "waiting";
    if (isDazzleError(error, "logSealed", "expelled")) {
      this.#events.failed(error);
      return;
    }
    this.#serverFailed(server, error);
    if (isDazzleError(error, "versionReplaced", "staleMap")) {
      fragment.state = "refused";
      this.#refresh();
    }
    if (isDazzleError(error, "noSpace")) this.#groupFailed(fragment.segment.group, fragment.segment.payloadBytes);
    this.#tick();
  }

  /** `neededBytes`: what it had no room for. */
  #groupFailed(group: GroupId, neededBytes = 0): void {
    this.#placement.failed(group, neededBytes);
    this.#moveFrom(group);
  }

  /** Has what a group can't take now written whole in another one, where there is one. */
  #moveFrom(group: GroupId): void {
    if (this.#stopped || this.#placement.insteadOf(group) === undefined) return;
    const { servers } = this.#current(group);
    const isOut = ({ member, store }: GroupServer) =>
      this.#server(member).stuck !== "" || !servers.some((row) => row.member === member && row.store === store);
    const moved = [...this.#pending.values()].filter(
      (segment) => segment.group === group && segment.fragments.length > 0 && (!segment.durable || segment.isLostWithout(isOut)),
    );
    for (const segment of moved) segment.moved = true;
    this.counters.moved += moved.length;
    this.#writeAgain(moved, "writing segments again in another group");
  }

  #moveAll(): void {
    for (const group of new Set([...this.#pending.values()].map((segment) => segment.group))) this.#moveFrom(group);
  }

  #serverFailed(server: ServerState, error: unknown): void {
    if (!isDazzleError(error))
      this.#options.ports.logger("error", "a request to a storage server failed", { reason: (error as Error).stack });
    if (isDazzleError(error, "unreachable", "wrongStore")) server.refused();
    else if (!isDazzleError(error, "timedOut", "cancelled")) server.heard();
    if (server.reason === "")
      this.#options.ports.logger("warning", "a storage server did not take a fragment: trying again", {
        log: this.#log,
        server: memberName(this.#options, server.member),
        reason: (error as Error).message,
      });
    server.failed((error as Error).message, isDazzleError(error, "diskFailed"));
  }

  #refresh(): void {
    this.#options.map.refresh().then(
      () => this.#review(),
      (error: Error) => this.#options.ports.logger("warning", "the cluster map can't be read", { log: this.#log, reason: error.message }),
    );
  }

  /** After a change of the map: ends where the log is not live, and writes again whole, under the current version, what was replaced. */
  #review(): void {
    if (this.#stopped) return;
    const row = findLog(this.#options.map.current, this.#log);
    if (row === undefined || row.state !== "live") {
      const state = row === undefined ? "not in the map" : row.state;
      this.#events.failed(new DazzleError("expelled", `log ${this.#log} is ${state}: its writer may not write any more`));
      return;
    }
    const replaced = [...this.#pending.values()].filter((segment) => segment.isReplacedBy(this.#current(segment.group)));
    this.#writeAgain(replaced, "writing segments again under a new group version");
    this.#moveAll();
  }

  #writeAgain(segments: readonly PendingSegment[], why: string): void {
    if (segments.length === 0) return;
    for (const segment of segments) this.#uncut(segment);
    this.#queued = [...segments, ...this.#queued].sort((one, other) => one.sequence - other.sequence);
    this.#options.ports.logger("info", why, { log: this.#log, segments: segments.length });
    this.#pump();
  }

  #uncut(segment: PendingSegment): void {
    const versions = findGroup(this.#options.map.current, segment.group).versions;
    const row = versions.find(({ version }) => version === segment.groupVersion);
    for (const fragment of segment.fragments) {
      this.#server(fragment.server.member).accepted.delete(fragment);
      this.#disconnect(fragment);
    }
    segment.uncut();
    this.#underWay.delete(segment);
    this.counters.rewritten++;
    if (row !== undefined) this.#events.superseded(segment.sequence, segment.group, row);
  }

  /** Asks for a sync where somebody waits for what a server has not on disk, and nothing under way will bring it there. */
  #settle(server: ServerState): void {
    if (server.syncing || server.syncStores > 0 || server.accepted.size === 0) return;
    if (this.#now >= server.retryAtMs && (server.syncWanted || server.acceptedUpTo(this.#wanted))) this.#sync(server);
  }

  async #sync(server: ServerState): Promise<void> {
    server.syncing = true;
    server.syncWanted = false;
    const boot = server.boot;
    const covered = [...server.accepted];
    const ticket = Math.max(...covered.map((fragment) => fragment.ticket));
    this.counters.syncs++;
    server.begin();
    server.beginSync();
    const { peers, limits } = this.#options;
    const [answer] = await Promise.allSettled([
      peers.call(server.member, "sync", { boot, ticket }, { deadlineMs: limits.serverDeadlineMs }),
    ]);
    server.end();
    server.syncing = false;
    if (answer.status === "rejected") {
      this.#syncFailed(server, covered, answer.reason);
      return;
    }
    server.heard();
    server.served();
    server.synced();
    this.#told(server, answer.value.reply);
  }

  #syncFailed(server: ServerState, covered: readonly PendingFragment[], error: unknown): void {
    if (this.#stopped) return;
    this.#serverFailed(server, error);
    if (isDazzleError(error, "bootChanged", "diskFailed"))
      this.#storeAgain(
        server,
        covered.filter((fragment) => server.accepted.has(fragment)),
      );
    else server.syncWanted = true;
    this.#tick();
  }

  #syncAll(): void {
    for (const server of this.#servers.values()) {
      server.syncWanted = server.accepted.size > 0;
      this.#settle(server);
    }
  }

  /** While anything is under way or waits: tries again what failed, and leaves out who does not answer. */
  #tick(): void {
    if (this.#stopped || this.#tickTimer !== null) return;
    const { serverSuspectMs } = this.#options.limits;
    const soonest = Math.min(...[...this.#servers.values()].map((server) => server.retryAtMs).filter((atMs) => atMs > this.#now));
    const delayMs = Math.min(serverSuspectMs * TICK_SHARE, Math.max(1, soonest - this.#now));
    this.#tickTimer = this.#options.ports.clock.after(delayMs, () => {
      this.#tickTimer = null;
      if (this.#pending.size === 0) return;
      for (const server of this.#servers.values()) this.#attend(server);
      this.#moveAll();
      this.#tick();
    });
  }

  #attend(server: ServerState): void {
    this.#storeWaiting(server);
    this.#settle(server);
    const { serverSuspectMs } = this.#options.limits;
    if (server.suspect(serverSuspectMs, serverSuspectMs * REFUSED_SHARE) && !server.regrouping && this.#groupsAwaited(server).size > 0)
      this.#leaveOut(server);
  }

  #storeWaiting(server: ServerState): void {
    if (this.#now < server.retryAtMs) return;
    for (const fragment of this.#fragmentsAt(server))
      if (fragment.state === "waiting" || fragment.state === "refused") this.#store(fragment);
  }

  #groupsAwaited(server: ServerState): Set<GroupId> {
    return new Set(this.#fragmentsAt(server).flatMap(({ state, segment }) => (state === "durable" ? [] : [segment.group])));
  }

  async #leaveOut(server: ServerState): Promise<void> {
    server.regrouping = true;
    for (const group of this.#groupsAwaited(server)) await this.#leaveOutOf(group, server);
    server.regrouping = false;
  }

  async #leaveOutOf(group: GroupId, server: ServerState): Promise<void> {
    const { version } = this.#current(group);
    try {
      const left = await leaveOut({ ...this.#options, group, member: server.member });
      if (left) {
        if (this.#current(group).version > version) this.counters.regroups++;
        this.#options.peers.connected(server.member)?.close();
        this.#review();
        return;
      }
    } catch (error) {
      if (server.stuck === "")
        this.#options.ports.logger("warning", "a storage server does not answer and can't be left out", {
          log: this.#log,
          reason: (error as Error).message,
        });
      server.stuck = (error as Error).message;
    }
    server.cleared();
    this.#groupFailed(group);
  }
}
