import {
  type Clock,
  currentVersion,
  DazzleError,
  deferred,
  findGroup,
  findLog,
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
  type SlotMask,
  sleep,
  slotOf,
  TransactionBuilder,
  withDeadline,
  withLog,
} from "@dazzle/core";
import { Imap } from "./imap/imap.ts";
import { RunCache } from "./imap/run-cache.ts";
import { type Incarnation, leaveChain, takeIncarnation } from "./incarnation.ts";
import { Journal } from "./journal.ts";
import { Liveness } from "./liveness/liveness.ts";
import { Locks } from "./locks/locks.ts";
import { type LogAccess, stripedLogs } from "./log-access.ts";
import { Mounts } from "./mounts/mounts.ts";
import { Numbers } from "./numbers.ts";
import { RunSegments } from "./run-segments.ts";
import { Checkpointer } from "./shard/checkpointer.ts";
import { type FoundCheckpoint, findCheckpoint, replay } from "./shard/recovery.ts";
import { Shard } from "./shard/shard.ts";
import { ShardHost } from "./shard/shard-host.ts";
import { Grants } from "./tokens/grants.ts";
import { Orphans } from "./tokens/orphans.ts";
import { TokenTable } from "./tokens/token-table.ts";

const RETRY_FIRST_MS = 200;
const RETRY_MAX_MS = 2_000;
/** How long a request waits for the shards to open. */
const OPEN_DEADLINE_MS = 30_000;

export interface ManagerOptions {
  /** The member whose slots these are. */
  readonly member: MemberId;
  readonly map: MapCache;
  readonly peers: Peers;
  readonly ports: Pick<Ports, "clock" | "logger" | "processes">;
  readonly limits: Limits;
  /** The stripe group of the manager's log: in the map before the start. */
  readonly group: number;
  /** Whose a new cluster's root directory is; root's where nothing is said. */
  readonly rootOwner?: { readonly uid: number; readonly gid: number };
  /** Where the logs are, if not striped over storage servers. */
  readonly logs?: LogAccess;
}

/** Everything that stands once the earlier logs are read. */
export interface OpenManager {
  readonly host: ShardHost;
  readonly tokens: TokenTable;
  readonly grants: Grants;
  readonly locks: Locks;
  readonly orphans: Orphans;
  readonly mounts: Mounts;
  readonly numbers: Numbers;
  readonly checkpointer: Checkpointer;
  readonly liveness: Liveness;
  readonly segments: RunSegments;
  readonly cache: RunCache;
}

/** One incarnation of a manager: the shards of its slots, tokens, mounts, and the deletion of what nobody needs (DESIGN 5 to 7). */
export class Manager {
  readonly #options: ManagerOptions;
  readonly #incarnation: Incarnation;
  readonly #logs: LogAccess;
  readonly #journal: Journal;
  readonly #loaded = deferred<OpenManager>();
  readonly #opened = deferred<OpenManager>();
  readonly #failed = deferred<unknown>();
  #parts: OpenManager | null = null;
  #state: "loading" | "waiting for mounts" | "open" | "failed" | "closed" = "loading";
  #failure: unknown = null;
  readonly #endListening: () => void;

  private constructor(options: ManagerOptions, incarnation: Incarnation, logs: LogAccess) {
    this.#options = options;
    this.#incarnation = incarnation;
    this.#logs = logs;
    this.#journal = new Journal({
      writer: logs.open(incarnation.log),
      clock: this.#clock,
      logger: this.#logger,
      flushIntervalMs: options.limits.flushIntervalMs,
      transactionBytes: options.limits.transactionBytes,
      groupVersion: () => currentVersion(findGroup(options.map.current, options.group)).version,
    });
    this.#endListening = options.map.onChange((map) => {
      const state = findLog(map, incarnation.log)?.state;
      if (state !== "live" && this.#state !== "closed")
        this.#fail(new DazzleError("expelled", `the manager's log ${incarnation.log} is ${state}`));
    });
  }

  /** Takes a new log and higher terms in the map, and starts to read what earlier logs hold. Resolves when requests may come:
   * they wait until the shards are open. */
  static async start(options: ManagerOptions): Promise<Manager> {
    const { map, member, group, ports } = options;
    const incarnation = await takeIncarnation({ map, member, process: ports.processes.self, group });
    const { clock, logger } = ports;
    const logs = options.logs ?? stripedLogs({ map, peers: options.peers, clock, logger, limits: options.limits, group });
    const manager = new Manager(options, incarnation, logs);
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
    return this.#incarnation.log;
  }

  get state(): string {
    return this.#state;
  }

  get journal(): Journal {
    return this.#journal;
  }

  get parts(): OpenManager | null {
    return this.#parts;
  }

  /** Resolves when the shards are open. Rejects where the manager fails before. */
  get opened(): Promise<void> {
    return this.#opened.promise.then(() => {});
  }

  /** Resolves, with the reason, when this incarnation can't go on: it was expelled, or its log or imap failed. Start another one then. */
  get failed(): Promise<unknown> {
    return this.#failed.promise;
  }

  /** For requests that mounts answer the opening with. Rejects `notReady`. */
  whenLoaded(): Promise<OpenManager> {
    return this.#within(this.#loaded.promise);
  }

  /** For everything else. Rejects `notReady` where the shards don't open in time. */
  whenOpen(): OpenManager | Promise<OpenManager> {
    return this.#state === "open" && this.#parts !== null ? this.#parts : this.#within(this.#opened.promise);
  }

  async #within(promise: Promise<OpenManager>): Promise<OpenManager> {
    if (this.#state === "failed") throw this.#failure;
    if (this.#state === "closed") throw new DazzleError("notReady", "the manager is stopping");
    try {
      return await withDeadline(this.#clock, OPEN_DEADLINE_MS, "opening the shards", promise);
    } catch (error) {
      if (isDazzleError(error, "timedOut")) throw new DazzleError("notReady", `the shards are not open: the manager is ${this.#state}`);
      throw error;
    }
  }

  #fail(error: unknown): void {
    if (this.#state === "failed" || this.#state === "closed") return;
    this.#state = "failed";
    this.#failure = isDazzleError(error) ? new DazzleError("notReady", `the manager failed: ${error.message}`) : error;
    this.#logger("error", "the manager can't go on", { log: this.log, reason: (error as Error).stack ?? String(error) });
    this.#stopParts();
    void this.#parts?.checkpointer.close();
    this.#loaded.reject(this.#failure);
    this.#opened.reject(this.#failure);
    this.#failed.resolve(error);
  }

  #stopParts(): void {
    this.#endListening();
    const parts = this.#parts;
    if (parts === null) return;
    parts.mounts.stop();
    parts.host.close();
    parts.liveness.close();
  }

  // Opening.

  async #open(): Promise<void> {
    try {
      const parts = await this.#load();
      if (this.#state !== "loading") return;
      this.#parts = parts;
      await this.#retried("the first records are not logged yet", () => parts.numbers.start());
      await this.#makeRoot(parts.host);
      if (this.#state !== "loading") return;
      this.#state = "waiting for mounts";
      this.#loaded.resolve(parts);
      await parts.mounts.start();
      if (this.#state !== "waiting for mounts") return;
      this.#state = "open";
      this.#opened.resolve(parts);
      this.#logger("info", "the shards are open", { log: this.log, slots: this.#incarnation.terms.size });
      if (this.#incarnation.chain.length > 0) parts.checkpointer.start();
      parts.liveness.audit.everything();
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Storage servers may start at the same time as this manager: what fails for now is tried again for as long as it lives. */
  async #retried<T>(what: string, action: () => Promise<T>): Promise<T> {
    for (let delayMs = RETRY_FIRST_MS; ; delayMs = Math.min(RETRY_MAX_MS, 2 * delayMs)) {
      try {
        return await action();
      } catch (error) {
        const helps = isDazzleError(error) && error.retry !== "never" && this.#journal.failure === null;
        if (!helps || this.#state === "failed" || this.#state === "closed") throw error;
        this.#logger("warning", what, { log: this.log, reason: error.message });
        await sleep(this.#clock, delayMs);
      }
    }
  }

  async #load(): Promise<OpenManager> {
    const { map, limits } = this.#options;
    const read = async (address: Parameters<LogAccess["read"]>[0]) => {
      const held = this.#journal.read(address);
      return held === undefined ? this.#logs.read(address) : [held];
    };
    const cache = new RunCache({ read, capacityBytes: limits.runCacheBytes });
    const { shards, emptied, segments } = await this.#retried("the shards can't be read yet", async () => {
      const found = await findCheckpoint(this.#logs, map, this.#incarnation.chain);
      return this.#makeShards(found, cache);
    });
    return this.#assemble(shards, emptied, segments, cache);
  }

  async #makeShards(found: FoundCheckpoint, cache: RunCache) {
    const emptied = { handler: (_log: number, _sequence: number, _slots: SlotMask): void => {} };
    const segments = new RunSegments((log, sequence) => emptied.handler(log, sequence, NO_SLOTS));
    const shards = new Map<number, Shard>();
    for (const [slot, term] of this.#incarnation.terms) {
      const checkpoint = found.root?.slots.find((row) => row.slot === slot);
      const runs = checkpoint?.runs ?? [];
      for (const run of runs) for (const table of run.tables) for (const segment of table.segments) segments.add(segment);
      const imap = new Imap({ cache, runs });
      const events = { emptied: (log: number, sequence: number, slots: SlotMask) => emptied.handler(log, sequence, slots) };
      const shard = new Shard({ slot, term, imap, numbersLimit: checkpoint?.numbersLimit ?? 0, events });
      for (const [log, sequence] of checkpoint?.applied ?? []) shard.applied.set(log, sequence);
      for (const mount of checkpoint?.holds ?? []) shard.holds.add(mount);
      await shard.loadMarkers();
      shards.set(slot, shard);
    }
    await replay(this.#logs, found, shards, this.#clock);
    return { shards, emptied, segments };
  }

  #assemble(
    shards: ReadonlyMap<number, Shard>,
    emptied: { handler: (log: number, sequence: number, slots: SlotMask) => void },
    segments: RunSegments,
    cache: RunCache,
  ): OpenManager {
    const { map, peers, limits, member } = this.#options;
    const shared = { map, peers, clock: this.#clock, logger: this.#logger, limits, journal: this.#journal };
    const events = {
      full: () => checkpointer.start(),
      room: () => checkpointer.room(),
      failed: (error: unknown) => this.#fail(error),
    };
    const host = new ShardHost({ ...shared, shards: shards.values(), events });
    const checkpointer = new Checkpointer({ ...shared, host, segments, onStable: () => this.#checkpointed() });
    const liveness = new Liveness({ ...shared, member, host, segments });
    // From now on what becomes empty is offered; before, a replay emptied what the audit will find.
    emptied.handler = (log, sequence, slots) => liveness.emptied(log, sequence, slots);
    const tokens = new TokenTable();
    const locks = new Locks({
      ...shared,
      ports: {
        session: (mount) => mounts.session(mount),
        term: (ino) => host.shardOf(ino).term,
        want: (mount) => mounts.want(mount),
      },
    });
    const onClosed = (log: number, end: number) => liveness.trimmed(log, end);
    const reclaim = (inos: Iterable<number>) => orphans.reclaim(inos);
    const mounts: Mounts = new Mounts({ ...shared, member, logs: this.#logs, host, tokens, locks, onClosed, reclaim });
    const grants = new Grants({
      ...shared,
      table: tokens,
      ports: {
        revoke: (conflict, ino, grant) => mounts.revoke(conflict, ino, grant),
        hasUnstable: (mount) => mounts.hasUnstable(mount),
        checkMount: (mount) => mounts.check(mount),
      },
    });
    const orphans = new Orphans({ ...shared, host, tokens, grants });
    const numbers = new Numbers({ ...shared, host, tokens });
    return { host, tokens, grants, orphans, locks, mounts, numbers, checkpointer, liveness, segments, cache };
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
      atimeNs: now,
      mtimeNs: now,
      ctimeNs: now,
      birthNs: now,
      target: "",
    };
    builder.add({ kind: "putInode", ino: ROOT as IndexNumber, inode });
    await host.applyOwn(builder);
    await this.#retried("the root directory is not logged yet", () => this.#journal.settle());
  }

  async #checkpointed(): Promise<void> {
    const parts = this.#parts;
    if (parts === null) return;
    parts.liveness.checkpointed();
    const { map, member } = this.#options;
    if (map.current.slots.some((slot) => slot.manager === member && slot.chain.length > 1)) {
      for (const log of await leaveChain(map, member, this.log)) parts.liveness.audit.log(log);
    }
  }

  // The end.

  /** A clean stop: writes a checkpoint and ends the log, so that the next start has nothing to replay. */
  async close(): Promise<void> {
    if (this.#state === "closed") return;
    const parts = this.#state === "open" ? this.#parts : null;
    this.#state = "closed";
    this.#parts?.mounts.stop();
    this.#parts?.liveness.close();
    try {
      if (parts !== null) {
        await parts.checkpointer.run();
        await parts.checkpointer.run();
        await parts.checkpointer.close();
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
    await this.#parts?.checkpointer.close();
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
    await this.#options.map.change((map) => {
      const row = findLog(map, this.log);
      return row?.state === "live" ? withLog(map, this.log, { state: "ended", end }) : undefined;
    });
  }
}
