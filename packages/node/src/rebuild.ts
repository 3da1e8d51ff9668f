import {
  currentVersion,
  DazzleError,
  findMember,
  type Group,
  type GroupVersionRow,
  type Handlers,
  isDazzleError,
  type MemberId,
  type Ports,
  type StoreId,
  sleep,
  type Timer,
  withGroup,
} from "@dazzle/core";
import {
  deleteLeftovers,
  isGone,
  type LogOptions,
  LogReader,
  type MoveOptions,
  type MoveScan,
  moveSegments,
  outdatedVersions,
  scanGroup,
} from "@dazzle/log";
import { askNeeded } from "./needed.ts";
import { Rate } from "./rate.ts";

const RETRY_FIRST_MS = 200;
const RETRY_MAX_MS = 10_000;
/** Of the time, where others ask for looks. */
const LOOK_SHARE = 0.1;
/** Obsolete versions with the servers of the current one go when their last segment was deleted: that is looked for so seldom. */
const TIDY_MS = 600_000;
/** After the start, and after a version has left the map under which something may lie here; again, ever more seldom, while something stays or who is to be asked is silent. */
const LEFTOVERS_FIRST_MS = 30_000;
const LEFTOVERS_MAX_MS = 600_000;
const ASK_DEADLINE_MS = 5_000;
/** After so many looks that found nothing but segments which nobody needs, those are moved, too: then their deletion is held up. */
const DEAD_LOOKS_MAX = 5;
/** How long a read waits for one server alone: nobody waits for it, and what is read from others instead would be work for them. */
const READ_PATIENCE_MS = 2_000;
/** Others use a server that they have used so lately. */
const USED_MS = 500;
const REST_MAX_MS = 500;

export interface RebuildOptions extends LogOptions {
  readonly ports: Pick<Ports, "clock" | "logger">;
  readonly self: MemberId;
  readonly store: { readonly storeId: StoreId /** How often others than movers have used it. */; readonly operations: number };
}

/** How far this server is with what it moves into the current version of a group. */
export interface RebuildStatus {
  readonly group: string;
  /** Obsolete versions that are to leave the map. */
  readonly versions: readonly number[];
  /** Moved since this node found something to move. */
  readonly segments: number;
  readonly bytes: number;
  /** Still to be moved; null while it was not looked yet. */
  readonly segmentsLeft: number | null;
  readonly bytesLeft: number | null;
  /** Over the last half minute. */
  readonly bytesPerSecond: number;
  /** Segments of which too little is left anywhere. */
  readonly lost: number;
  readonly waits: readonly string[];
}

/** Moves what this server holds under outdated versions of its groups into the current ones, and takes versions out of the map under which nobody holds anything.
 * So servers are added, removed, replaced and drained, parity is raised, and what a dead one held is rebuilt. Nothing is remembered: every look begins anew. */
export class Rebuild {
  readonly handlers: Handlers;
  readonly #options: RebuildOptions;
  readonly #reader: LogReader;
  readonly #statuses = new Map<number, RebuildStatus>();
  /** `group version`: segments held under it. */
  readonly #held = new Map<string, number>();
  /** By group: whether the last look showed all that this server has had of its logs. */
  readonly #vouched = new Map<number, boolean>();
  /** Whether the last look found that this server can't list what it holds. */
  #isBlind = false;
  readonly #rate: Rate;
  #unsubscribe: (() => void) | null = null;
  #timer: Timer | null = null;
  #dueMs = 0;
  /** When to look for what was moved while this server was away. */
  #leftoversDueMs = Number.POSITIVE_INFINITY;
  #leftoversWaitMs = LEFTOVERS_FIRST_MS;
  /** When the last look ended, and what it took. */
  #lookedMs = 0;
  #lookTookMs = 0;
  #retryMs = RETRY_FIRST_MS;
  #running = false;
  #seen = "";
  /** `group version` of those in the map that name this server's store. */
  #named: ReadonlySet<string> = new Set();
  #deadLooks = 0;
  /** As of the last segment that was moved; and when others had used the server then. */
  #operations = 0;
  #usedMs = 0;

  constructor(options: RebuildOptions) {
    this.#options = options;
    this.#reader = new LogReader({
      ...options,
      limits: { ...options.limits, readHedgeMs: Math.max(options.limits.readHedgeMs, READ_PATIENCE_MS) },
      message: "readToMove",
    });
    this.#rate = new Rate(options.ports.clock);
    this.handlers = {
      heldUnder: ({ group, version }) => {
        const segments = this.#held.get(`${group} ${version}`);
        if (segments === undefined)
          throw new DazzleError(
            this.#isBlind || !this.#isHere() ? "diskFailed" : "notReady",
            `version ${version} of group ${group} was not looked through`,
          );
        if (segments > 0) this.#sooner();
        return { reply: { store: this.#options.store.storeId, segments, vouched: this.#vouched.get(group) === true } };
      },
    };
  }

  /** Of every group from which something is moved. */
  get status(): readonly RebuildStatus[] {
    return this.#groups.map((group) => ({ ...this.#statusOf(group), bytesPerSecond: this.#rate.perSecond }));
  }

  start(): void {
    const { map, ports } = this.#options;
    this.#leftoversDueMs = ports.clock.nowMs() + LEFTOVERS_FIRST_MS;
    this.#unsubscribe = map.onChange(() => this.#look());
    this.#look();
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#unsubscribe = null;
    this.#timer?.cancel();
    this.#timer = null;
  }

  get #isStopped(): boolean {
    return this.#unsubscribe === null;
  }

  /** Groups with outdated versions. */
  get #groups(): readonly Group[] {
    const map = this.#options.map.current;
    return map.groups.filter((group) => outdatedVersions(map, group).length > 0);
  }

  #statusOf(group: Group): RebuildStatus {
    const versions = outdatedVersions(this.#options.map.current, group).map(({ version }) => version);
    const begun = { group: group.name, segments: 0, bytes: 0, segmentsLeft: null, bytesLeft: null, bytesPerSecond: 0, lost: 0, waits: [] };
    return { ...begun, ...this.#statuses.get(group.id), versions };
  }

  #update(group: Group, change: Partial<RebuildStatus>): void {
    this.#statuses.set(group.id, { ...this.#statusOf(group), ...change });
  }

  /** What of the map decides what is to be moved. */
  #shape(): string {
    const { members, groups } = this.#options.map.current;
    const stores = members.map(({ id, store }) => `${id} ${store}`).join();
    return `${stores} ${groups.map(({ id, wanted, versions }) => `${id} ${wanted} ${versions.map(({ version, frozen }) => `${version}${frozen === null}`)}`).join(";")}`;
  }

  #look(): void {
    if (this.#isStopped) return;
    const { map, ports } = this.#options;
    const shape = this.#shape();
    if (shape !== this.#seen) {
      this.#seen = shape;
      this.#retryMs = RETRY_FIRST_MS;
      this.#deadLooks = 0;
      this.#lookForLeftovers();
      for (const key of this.#statuses.keys()) if (!this.#groups.some(({ id }) => id === key)) this.#statuses.delete(key);
    }
    if (this.#running) return;
    const nowMs = ports.clock.nowMs();
    const isDue = this.#groups.length > 0;
    const hasObsolete = map.current.groups.some(({ versions }) => versions.length > 1);
    const dueMs = Math.min(isDue ? nowMs + this.#retryMs : this.#leftoversDueMs, hasObsolete ? nowMs + TIDY_MS : Number.POSITIVE_INFINITY);
    if (Number.isFinite(dueMs)) this.#schedule(dueMs);
  }

  /** A version that leaves the map leaves nothing here, unless this server was given up, or could not be asked. */
  #lookForLeftovers(): void {
    const { map, ports, store } = this.#options;
    const before = this.#named;
    const isNamed = ({ servers }: GroupVersionRow) => servers.some((server) => server.store === store.storeId);
    this.#named = new Set(
      map.current.groups.flatMap(({ id, versions }) => versions.filter(isNamed).map(({ version }) => `${id} ${version}`)),
    );
    if ([...before].some((key) => !this.#named.has(key) && this.#held.get(key) !== 0)) {
      this.#leftoversWaitMs = LEFTOVERS_FIRST_MS;
      this.#leftoversDueMs = Math.min(this.#leftoversDueMs, ports.clock.nowMs() + LEFTOVERS_FIRST_MS);
    }
  }

  #schedule(dueMs: number): void {
    const { clock } = this.#options.ports;
    if (this.#timer !== null && this.#dueMs <= dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = clock.after(Math.max(0, dueMs - clock.nowMs()), () => {
      this.#timer = null;
      void this.#turn();
    });
  }

  /** Somebody waits for what was here as of the last look, which others may have moved since. Looks take no more than a tenth of the time. */
  #sooner(): void {
    if (this.#timer !== null) this.#schedule(this.#lookedMs + Math.max(RETRY_FIRST_MS, this.#lookTookMs / LOOK_SHARE));
  }

  async #turn(): Promise<void> {
    const { map, ports } = this.#options;
    this.#running = true;
    this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS);
    try {
      for (const { id, versions } of map.current.groups) if (versions.length > 1 && this.#isHere()) await this.#group(id);
      if (this.#leftoversDueMs <= ports.clock.nowMs() && this.#isHere()) await this.#deleteLeftovers();
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      if (!this.#isStopped) ports.logger("info", "what lies under older group versions is moved later", { reason: error.message });
    } finally {
      this.#running = false;
      this.#look();
    }
  }

  async #deleteLeftovers(): Promise<void> {
    const { map, ports } = this.#options;
    this.#leftoversDueMs = ports.clock.nowMs() + this.#leftoversWaitMs;
    this.#leftoversWaitMs = Math.min(2 * this.#leftoversWaitMs, LEFTOVERS_MAX_MS);
    await map.refresh();
    let left = 0;
    for (const group of map.current.groups) left += await deleteLeftovers(this.#moveOptions, group);
    // What lies under a version that leaves the map later is looked for then.
    if (left === 0) this.#leftoversDueMs = Number.POSITIVE_INFINITY;
  }

  get #moveOptions(): MoveOptions {
    const { map, peers } = this.#options;
    return { ...this.#options, needed: (log, sequences) => askNeeded(map, peers, log, sequences) };
  }

  /** An empty storage directory under an old name has nothing to say. */
  #isHere(): boolean {
    const { map, self, store } = this.#options;
    return map.current.members.find(({ id }) => id === self)?.store === store.storeId;
  }

  async #group(id: number): Promise<void> {
    const { map, ports } = this.#options;
    const options = this.#moveOptions;
    for (;;) {
      await map.refresh();
      const group = map.current.groups.find((row) => row.id === id);
      if (group === undefined || this.#isStopped) return;
      const shape = this.#shape();
      const scan = await this.#scan(group);
      this.#tell(group, { segmentsLeft: scan.segments, bytesLeft: scan.bytes, lost: scan.lost, waits: scan.waits });
      if (scan.tasks.length === 0) {
        this.#deadLooks = scan.dead > 0 ? this.#deadLooks + 1 : 0;
        await this.#retire(group, scan);
        return;
      }
      let segments = scan.segments;
      let bytes = scan.bytes;
      const { failed, reason } = await moveSegments(
        {
          ...options,
          reader: this.#reader,
          isOver: () => this.#isStopped || this.#shape() !== shape,
          rest: (tookMs) => this.#rest(tookMs),
          onMoved: (moved) => {
            this.#rate.add(moved);
            const before = this.#statusOf(group);
            segments--;
            bytes -= moved;
            this.#update(group, { segments: before.segments + 1, bytes: before.bytes + moved, segmentsLeft: segments, bytesLeft: bytes });
          },
        },
        group,
        scan.tasks,
      );
      if (segments < scan.segments) this.#retryMs = RETRY_FIRST_MS;
      if (failed > 0) {
        ports.logger("info", "segments are not moved yet", { group: group.name, segments: failed, reason });
        const waits = [...scan.waits, reason];
        this.#update(group, { waits });
        // What fails again and again keeps no version in the map but its own.
        if (this.#shape() === shape) await this.#retire(group, { ...scan, waits });
        return;
      }
    }
  }

  async #scan(group: Group): Promise<MoveScan> {
    const { clock } = this.#options.ports;
    const keyOf = (version: number) => `${group.id} ${version}`;
    const beganMs = clock.nowMs();
    try {
      const scan = await scanGroup(this.#moveOptions, group, this.#deadLooks >= DEAD_LOOKS_MAX);
      for (const [version, segments] of scan.held) this.#held.set(keyOf(version), segments);
      this.#vouched.set(group.id, scan.vouched);
      this.#isBlind = false;
      return scan;
    } catch (error) {
      this.#isBlind = true;
      // What was there before may have been moved by others; only nothing stays nothing.
      for (const { version } of group.versions) if (this.#held.get(keyOf(version)) !== 0) this.#held.delete(keyOf(version));
      throw error;
    } finally {
      this.#lookedMs = clock.nowMs();
      this.#lookTookMs = this.#lookedMs - beganMs;
    }
  }

  /** While others use this server, segments are moved half of the time. */
  async #rest(tookMs: number): Promise<void> {
    const { ports, store } = this.#options;
    const nowMs = ports.clock.nowMs();
    if (store.operations !== this.#operations) this.#usedMs = nowMs;
    this.#operations = store.operations;
    if (nowMs - this.#usedMs < USED_MS) await sleep(ports.clock, Math.min(tookMs, REST_MAX_MS));
  }

  #tell(group: Group, change: Partial<RebuildStatus>): void {
    if (this.#groups.some(({ id }) => id === group.id)) this.#update(group, change);
  }

  /** Takes those frozen obsolete versions out of the map under which no server holds anything. */
  async #retire(group: Group, { held, waits }: MoveScan): Promise<void> {
    const { map, ports } = this.#options;
    const empty: GroupVersionRow[] = [];
    const reasons = new Set(waits);
    const outdated = outdatedVersions(map.current, group);
    for (const row of group.versions.slice(0, -1)) {
      if (row.frozen === null || (held.get(row.version) ?? 0) > 0) continue;
      const silent = await this.#heldElsewhere(group, row);
      if (silent === undefined) empty.push(row);
      else if (outdated.includes(row)) reasons.add(silent);
    }
    this.#tell(group, { waits: [...reasons] });
    if (empty.length === 0) return;
    const gone = new Set(empty.map(({ version }) => version));
    await map.change((now) => {
      const row = now.groups.find(({ id }) => id === group.id);
      if (row === undefined || gone.has(currentVersion(row).version)) return undefined;
      const versions = row.versions.filter(({ version }) => !gone.has(version));
      return versions.length === row.versions.length ? undefined : withGroup(now, { ...row, versions });
    });
    ports.logger("info", "obsolete versions of a group have left the map", { group: group.name, versions: [...gone].join() });
  }

  /** What keeps a version in the map at other servers; undefined where nothing does. Who is wanted is waited for, and who has yet to look. Of the others as many may be silent,
   * can't look, or don't vouch for what they say, as each stripe has fragments to spare: of each, somebody who tells would hold one. */
  async #heldElsewhere(group: Group, row: GroupVersionRow): Promise<string | undefined> {
    const { map, peers, self } = this.#options;
    const silent: MemberId[] = [];
    let gone = 0;
    let doubted = 0;
    let holding: string | undefined;
    await Promise.all(
      row.servers.map(async (server) => {
        const { member, store } = server;
        if (isGone(map.current, server)) gone++;
        else if (member === self && store === this.#options.store.storeId) doubted += this.#vouched.get(group.id) ? 0 : 1;
        else
          try {
            const request = { group: group.id, version: row.version };
            const { reply } = await peers.call(member, "heldUnder", request, { deadlineMs: ASK_DEADLINE_MS });
            if (reply.store !== store) silent.push(member);
            else if (reply.segments > 0) holding = `${this.#name(member)} holds ${reply.segments} segments under version ${row.version}`;
            else if (!reply.vouched) doubted++;
          } catch (error) {
            if (!isDazzleError(error)) throw error;
            if (isDazzleError(error, "notReady"))
              holding = `${this.#name(member)} has not looked yet what it holds under version ${row.version}`;
            else silent.push(member);
          }
      }),
    );
    if (holding !== undefined) return holding;
    const isSpare =
      silent.length === 0 || (gone + silent.length + doubted <= row.parityFragments && silent.every((id) => !group.wanted.includes(id)));
    return isSpare ? undefined : `${silent.map((id) => this.#name(id)).join(", ")} may hold something under version ${row.version}`;
  }

  #name(member: MemberId): string {
    return findMember(this.#options.map.current, member).name;
  }
}
