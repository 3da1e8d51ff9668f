import {
  type Answer,
  type Clock,
  type ClusterMap,
  DazzleError,
  deferred,
  endedLog,
  findLog,
  type GroupId,
  type IndexNumber,
  isDazzleError,
  type Limits,
  type Logger,
  type MapCache,
  type MemberId,
  NO_SLOTS,
  type Peers,
  type Ports,
  ROOT,
  slotOf,
  type Timer,
  TransactionBuilder,
  withDeadline,
} from "@dazzle/core";
import { CleanerLogs } from "./cleaning/cleaner-logs.ts";
import { RunCache } from "./imap/run-cache.ts";
import { isChained, isUnchained, leaveChain, takeIncarnation } from "./incarnation.ts";
import { Journal } from "./journal.ts";
import { Liveness } from "./liveness/liveness.ts";
import { Locks } from "./locks/locks.ts";
import { type LogAccess, stripedLogs } from "./log-access.ts";
import { ManagerLease } from "./map/manager-lease.ts";
import { grantedLeaseMs } from "./mounts/earlier-leases.ts";
import { Holders } from "./mounts/holders.ts";
import { Mounts } from "./mounts/mounts.ts";
import { SlotClaims } from "./mounts/slot-claims.ts";
import { OtherManagers } from "./moving/other-managers.ts";
import { SlotOpener } from "./moving/slot-opener.ts";
import { SlotTable } from "./moving/slot-table.ts";
import { SlotYielder } from "./moving/slot-yielder.ts";
import { Numbers } from "./numbers.ts";
import { RunSegments } from "./run-segments.ts";
import { isAwaited } from "./shard/awaited-log.ts";
import { Checkpointer } from "./shard/checkpointer.ts";
import { ShardHost } from "./shard/shard-host.ts";
import { Grants } from "./tokens/grants.ts";
import { NameChanges } from "./tokens/name-changes.ts";
import { Orphans } from "./tokens/orphans.ts";
import { Peeks } from "./tokens/peeks.ts";
import { TokenTable } from "./tokens/token-table.ts";

/** How long a request waits for the shards to be read. */
const OPEN_DEADLINE_MS = 30_000;
/** Between two checkpoints for which the cluster waits, and before the first. */
const AWAITED_CHECKPOINT_MS = 3_000;
const AWAITED_FIRST_MS = 500;

export interface ManagerOptions {
  /** The member whose slots these are. */
  readonly member: MemberId;
  readonly map: MapCache;
  readonly peers: Peers;
  readonly ports: Pick<Ports, "clock" | "logger" | "processes">;
  readonly limits: Limits;
  /** The stripe group in which the manager's log begins: in the map before the start. */
  readonly group: GroupId;
  /** Whose a new cluster's root directory is; root's where nothing is said. */
  readonly rootOwner?: { readonly uid: number; readonly gid: number };
  /** Where the logs are, if not striped over storage servers. */
  readonly logs?: LogAccess;
}

/** What a manager consists of. */
export interface OpenManager {
  readonly lease: ManagerLease;
  readonly table: SlotTable;
  readonly host: ShardHost;
  readonly tokens: TokenTable;
  readonly grants: Grants;
  readonly names: NameChanges;
  readonly locks: Locks;
  readonly orphans: Orphans;
  readonly peeks: Peeks;
  readonly mounts: Mounts;
  readonly cleaners: CleanerLogs;
  readonly claims: SlotClaims;
  readonly numbers: Numbers;
  readonly checkpointer: Checkpointer;
  readonly liveness: Liveness;
  readonly segments: RunSegments;
  readonly cache: RunCache;
  readonly others: OtherManagers;
  readonly opener: SlotOpener;
  readonly yielder: SlotYielder;
}

/** One incarnation of a manager: the shards of the slots that the map gives it, tokens, mounts, and the deletion of what nobody needs (docs/manager.md). */
export class Manager {
  readonly #options: ManagerOptions;
  readonly #logs: LogAccess;
  readonly #journal: Journal;
  readonly #loaded = deferred<OpenManager>();
  readonly #opened = deferred();
  readonly #failed = deferred<unknown>();
  readonly #parts: OpenManager;
  #state: "starting" | "running" | "failed" | "closed" = "starting";
  #failure: unknown = null;
  readonly #endListening: () => void;
  #awaitedTimer: Timer | null = null;

  private constructor(options: ManagerOptions, log: number, logs: LogAccess) {
    this.#options = options;
    this.#logs = logs;
    this.#journal = new Journal({
      writer: logs.open(log),
      clock: this.#clock,
      logger: this.#logger,
      flushIntervalMs: options.limits.flushIntervalMs,
      transactionBytes: options.limits.transactionBytes,
    });
    this.#parts = this.#assemble();
    this.#endListening = options.map.onChange((map) => this.#look(map));
  }

  /** Takes a new log and higher terms in the map, and starts to read what earlier logs hold. Resolves when requests may come:
   * they wait until their slots are open. */
  static async start(options: ManagerOptions): Promise<Manager> {
    const { map, member, group, ports } = options;
    const shared = { map, group, clock: ports.clock, logger: ports.logger, limits: options.limits };
    const logs = options.logs ?? stripedLogs({ ...shared, peers: options.peers });
    const log = await takeIncarnation({ ...shared, member, process: ports.processes.self, logs });
    const manager = new Manager(options, log, logs);
    void manager.#open();
    return manager;
  }

  get #clock(): Clock {
    return this.#options.ports.clock;
  }

  get #logger(): Logger {
    return this.#options.ports.logger;
  }

  get limits(): Limits {
    return this.#options.limits;
  }

  get log(): number {
    return this.#journal.log;
  }

  get state(): string {
    if (this.#state !== "running" && this.#state !== "starting") return this.#state;
    const { table } = this.#parts;
    if (table.count("loading") > 0) return "loading";
    if (table.count("claiming") > 0) return "waiting for mounts";
    return this.#state === "starting" ? "loading" : "open";
  }

  get journal(): Journal {
    return this.#journal;
  }

  get parts(): OpenManager {
    return this.#parts;
  }

  /** Resolves when the slots are open that it had at its start. Rejects where the manager fails before. */
  get opened(): Promise<void> {
    return this.#opened.promise;
  }

  /** Resolves, with the reason, when this incarnation can't go on: it was expelled, or its log or imap failed. Start another one then. */
  get failed(): Promise<unknown> {
    return this.#failed.promise;
  }

  /** For what concerns the mount and no slot: the slots are read that this manager had at its start. Rejects `notReady`. */
  async whenLoaded(): Promise<OpenManager> {
    await this.#whenServing();
    if (this.#state === "running") return this.#parts;
    try {
      return await withDeadline(this.#clock, OPEN_DEADLINE_MS, "reading the slots", this.#loaded.promise);
    } catch (error) {
      if (!isDazzleError(error, "timedOut")) throw error;
      throw new DazzleError("notReady", `the slots can't be read yet: ${this.#parts.table.waiting.map(({ reason }) => reason).join("; ")}`);
    }
  }

  /** For what mounts answer a slot's opening with. Rejects `staleMap` where the slot is not here, `notReady` where it can't be read in time. */
  async whenSlotLoaded(slot: number): Promise<OpenManager> {
    await this.#whenServing();
    await this.#parts.table.whenLoaded(slot);
    return this.#parts;
  }

  /** For everything else. Rejects `staleMap` where the slot is not here, `notReady` where it does not open in time. */
  whenOpen(slot: number): Answer<OpenManager> {
    const wait = this.#whenServing() ?? this.#parts.table.whenOpen(slot);
    return wait === undefined ? this.#parts : wait.then(() => this.whenOpen(slot));
  }

  /** Resolves when this manager may answer: while its lease runs (rule 29). Rejects `notReady`. */
  #whenServing(): Answer<void> {
    this.check();
    const { lease } = this.#parts;
    if (lease.held(this.#clock.nowMs())) return undefined;
    return withDeadline(this.#clock, OPEN_DEADLINE_MS, "the manager's lease", lease.whenHeld()).catch((error: unknown) => {
      this.check();
      if (!isDazzleError(error, "timedOut")) throw error;
      throw new DazzleError("notReady", "the manager's lease ran out: no majority of the map's keepers answers it");
    });
  }

  #checkServing(): void {
    if (!this.#isServing) throw new DazzleError("notReady", "the manager's lease ran out");
  }

  get #isServing(): boolean {
    return this.#parts.lease.held(this.#clock.nowMs());
  }

  /** Of a lease that a mount is given now. */
  get grantedLeaseMs(): number {
    return grantedLeaseMs(this.limits, this.#parts.lease.endMs - this.#clock.nowMs());
  }

  /** Throws `notReady` where this incarnation does not go on. */
  check(): void {
    if (this.#state === "failed") throw this.#failure;
    if (this.#state === "closed") throw new DazzleError("notReady", "the manager is stopping");
  }

  #fail(error: unknown): void {
    if (this.#state === "failed" || this.#state === "closed") return;
    this.#state = "failed";
    this.#failure = isDazzleError(error) ? new DazzleError("notReady", `the manager failed: ${error.message}`) : error;
    this.#logger("error", "the manager can't go on", { log: this.log, reason: (error as Error).stack ?? String(error) });
    this.#stopParts();
    void this.#parts.checkpointer.close();
    this.#parts.table.stop(this.#failure);
    this.#loaded.reject(this.#failure);
    this.#opened.reject(this.#failure);
    this.#failed.resolve(error);
  }

  #stopParts(): void {
    this.#endListening();
    this.#awaitedTimer?.cancel();
    const { opener, yielder, others, mounts, orphans, cleaners, host, liveness, lease } = this.#parts;
    for (const part of [opener, yielder, others, orphans, cleaners, host, liveness]) part.close();
    for (const part of [mounts, lease]) part.stop();
  }

  // What the map says.

  #look(map: ClusterMap): void {
    const state = findLog(map, this.log)?.state;
    if (state !== "live") {
      this.#fail(new DazzleError("expelled", `the manager's log ${this.log} is ${state ?? "not in the map"}`));
      return;
    }
    // With the next checkpoint the log is trimmed further.
    if (this.#parts.yielder.look(map)) this.#parts.checkpointer.start();
    if (this.#state === "running") this.#checkpointWhileAwaited(map);
    void this.#parts.opener.look(map);
  }

  /** With a checkpoint the log is trimmed, though nothing was applied. */
  #checkpointWhileAwaited(map: ClusterMap, delayMs = AWAITED_FIRST_MS): void {
    if (this.#awaitedTimer !== null || !isAwaited(map, this.#journal)) return;
    this.#awaitedTimer = this.#clock.after(delayMs, () => {
      this.#awaitedTimer = null;
      if (this.#state !== "running") return;
      this.#parts.checkpointer.start();
      this.#checkpointWhileAwaited(this.#options.map.current, AWAITED_CHECKPOINT_MS);
    });
  }

  async #open(): Promise<void> {
    const { map } = this.#options;
    const { table, mounts, cleaners, others, opener } = this.#parts;
    const opening = opener.look(map.current);
    for (const part of [mounts, cleaners]) part.start();
    others.start();
    await table.allLoaded();
    if (this.#state !== "starting") return;
    this.#state = "running";
    this.#loaded.resolve(this.#parts);
    this.#checkpointWhileAwaited(map.current);
    await opening;
    this.#opened.resolve();
  }

  #slotsOpened(slots: readonly number[]): void {
    const { checkpointer, mounts, liveness, locks } = this.#parts;
    locks.opened(slots);
    void mounts.reclaimOrphans();
    // So that the chains stay short.
    checkpointer.start();
    liveness.audit.soon();
  }

  #slotsLeft(slots: readonly number[]): void {
    const { tokens, names, locks, claims, mounts, opener } = this.#parts;
    for (const slot of slots) {
      tokens.dropSlot(slot);
      names.dropSlot(slot);
      locks.dropSlot(slot);
      claims.forget(slot);
    }
    mounts.tellMoved(slots);
    // One may have come back already.
    void opener.look(this.#options.map.current);
  }

  #assemble(): OpenManager {
    const { map, peers, limits, member, ports } = this.#options;
    const { log } = this;
    const logs = this.#logs;
    const shared = { map, peers, clock: this.#clock, logger: this.#logger, limits, journal: this.#journal };
    const read = async (address: Parameters<LogAccess["read"]>[0]) => {
      const held = this.#journal.read(address);
      return held === undefined ? logs.read(address) : [held];
    };
    const cache = new RunCache({ read, capacityBytes: limits.runCacheBytes });
    const segments = new RunSegments((of, sequence) => liveness.emptied(of, sequence, NO_SLOTS));
    const table = new SlotTable(this.#clock);
    const failed = (error: unknown) => this.#fail(error);
    const host = new ShardHost({
      ...shared,
      events: { full: () => checkpointer.start(), room: () => checkpointer.room(), failed },
    });
    const checkpointer = new Checkpointer({
      ...shared,
      host,
      segments,
      logs,
      heldFrom: () => yielder.heldFrom,
      onStable: (terms) => this.#checkpointed(terms),
    });
    const lease = new ManagerLease(shared, member, log);
    const isServing = () => this.#isServing;
    const others = new OtherManagers({ ...shared, member, log, logs, isServing, process: ports.processes.self });
    const liveness = new Liveness({ ...shared, member, host, segments });
    const tokens = new TokenTable();
    const claims = new SlotClaims();
    const locks = new Locks({
      ...shared,
      ports: {
        session: (mount) => mounts.session(mount),
        term: (ino) => host.shardOf(ino).term,
        has: (slot) => host.has(slot),
        isClaimed: (slot) => table.stateOf(slot) === "open" || table.stateOf(slot) === "leaving",
        want: (mount) => mounts.want(mount),
      },
    });
    const onClosed = (of: number, end: number) => liveness.closed(of, end);
    const reclaim = (inos: Iterable<number>) => orphans.reclaim(inos);
    const mounts: Mounts = new Mounts({ ...shared, member, logs, host, table, tokens, locks, claims, isServing, onClosed, reclaim });
    const yielder = new SlotYielder({ ...shared, log, table, host, mounts, segments, onLeft: (slots) => this.#slotsLeft(slots) });
    const onTrimmed = (of: number, to: number) => liveness.trimmed(of, to);
    const ofCleaners = { onTrimmed, onClosed: (of: number) => liveness.audit.log(of) };
    const cleaners = new CleanerLogs({ ...shared, member, logs, ended: mounts.ended, isServing, ...ofCleaners });
    const holders = new Holders({ ...shared, mounts, host, tokens });
    const names = new NameChanges();
    const grants: Grants = new Grants({
      ...shared,
      table: tokens,
      ports: {
        revoke: (conflict, ino, grant, waiter) => {
          if (!conflict.keepShared) names.passes(ino, grant);
          return holders.revoke(conflict, ino, grant, waiter);
        },
        hasUnstable: (mount) => mounts.hasUnstable(mount),
        checkMount: (mount) => mounts.check(mount),
        checkSlot: (slot) => {
          this.#checkServing();
          host.shard(slot);
        },
      },
    });
    const orphans = new Orphans({ ...shared, host, tokens, grants });
    const peeks = new Peeks({ ...shared, host, tokens, grants, holders });
    const numbers = new Numbers({ ...shared, host, tokens });
    const opener = new SlotOpener({
      ...shared,
      log,
      logs,
      table,
      cache,
      segments,
      host,
      checkpointer,
      numbers,
      mounts,
      claims,
      leaseEndMs: (of) => others.leaseEndMs(of),
      serverEnded: (of) => others.ended(of),
      leaseHeld: () => lease.whenHeld(),
      prepare: () => this.#makeRoot(host),
      emptied: (of, sequence, slots) => liveness.emptied(of, sequence, slots),
      named: (ino, change) => names.changed(ino, grants.count, change),
      onOpen: (slots) => this.#slotsOpened(slots),
      failed,
    });
    const shown = { lease, table, host, tokens, grants, names, locks, orphans, peeks, mounts, claims, numbers, checkpointer };
    return { ...shown, cleaners, liveness, segments, cache, others, opener, yielder };
  }

  /** A new cluster's root directory. */
  async #makeRoot(host: ShardHost): Promise<void> {
    if (!host.has(slotOf(ROOT)) || (await host.shardOf(ROOT).imap.inode(ROOT)) !== undefined) return;
    const now = this.#clock.wallTimeNs();
    const builder = new TransactionBuilder();
    const { uid, gid } = this.#options.rootOwner ?? { uid: 0, gid: 0 };
    const inode = {
      ino: ROOT,
      mode: 0o40755,
      nlink: 2,
      uid,
      gid,
      rdev: 0,
      size: 0,
      allocatedBlocks: 0,
      parent: ROOT,
      truncateEpoch: 0,
      noAttributes: true,
      atimeNs: now,
      mtimeNs: now,
      ctimeNs: now,
      birthNs: now,
      target: "",
    };
    builder.add({ kind: "putInode", ino: ROOT as IndexNumber, inode });
    await host.applyOwn(builder);
    await this.#journal.settle();
  }

  async #checkpointed(stable: ReadonlyMap<number, number>): Promise<void> {
    const { liveness, table } = this.#parts;
    liveness.checkpointed();
    const { map } = this.#options;
    // Who comes next waits out those in the chain alone.
    const terms = new Map([...stable].filter(([slot]) => table.isFree(slot)));
    if ([...terms].some(([slot, term]) => isChained(map.current, slot, term)) || isUnchained(map.current)) {
      for (const log of await leaveChain(map, this.log, terms)) liveness.audit.log(log);
    }
  }

  // The end.

  /** A clean stop: writes a checkpoint and ends the log, so that the next start has nothing to replay. */
  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const isRunning = this.#state === "running";
    this.#state = "closed";
    this.#parts.table.stop(new DazzleError("notReady", "the manager is stopping"));
    const { mounts, cleaners, liveness, others, opener, yielder, checkpointer } = this.#parts;
    for (const part of [liveness, others, cleaners, opener, yielder]) part.close();
    mounts.stop();
    try {
      if (isRunning) {
        await checkpointer.run();
        await checkpointer.run();
        await checkpointer.close();
        await this.#journal.settle();
        await this.#end();
      }
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      this.#logger("warning", "the manager stops without a checkpoint: the next start replays its log", {
        log: this.log,
        reason: error.message,
      });
    }
    this.#stopParts();
    await checkpointer.close();
    await this.#journal.close();
    const stopped = new DazzleError("notReady", "the manager is stopped");
    this.#loaded.reject(stopped);
    this.#opened.reject(stopped);
  }

  /** All of the log is stable and nothing more will be written: its writer knows its end. */
  async #end(): Promise<void> {
    this.#endListening();
    const end = this.#journal.stableSequence;
    await this.#journal.close();
    await this.#options.map.change((map) => endedLog(map, this.log, end));
  }
}
