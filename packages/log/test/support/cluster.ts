import {
  type Clock,
  type ClusterMap,
  currentVersion,
  DazzleError,
  deferred,
  findGroup,
  type Group,
  type GroupId,
  type GroupServer,
  type GroupVersion,
  type Handlers,
  helloHandlers,
  LIMITS,
  type Limits,
  type LogId,
  MAP_FORMAT,
  MapCache,
  type MapStore,
  type MemberId,
  type MessageName,
  Peers,
  type RequestContext,
  SLOTS,
  type StoreId,
  serve,
  withLog,
} from "@dazzle/core";
import { type LogOptions, LogReader, LogWriter, type RecoveredLog, recoverLog, type SegmentPool, segmentPoolFor } from "@dazzle/log";
import { type Instance, World } from "@dazzle/sim";
import { FragmentStore, reachesHandler, SelfAdmission, StoredBytes, storageHandlers } from "@dazzle/storage";

const REFRESH_MS = 2_000;

export const CLUSTER_ID = "00112233445566778899aabbccddeeff";
export const GROUP = 1 as GroupId;
export const SECOND_GROUP = 2 as GroupId;

/** Small segments, so that a test has many. */
export const SMALL: Limits = {
  ...LIMITS,
  fragmentBytes: 16 * 1024,
  mirrorBytes: 8 * 1024,
  transactionBytes: 16 * 1024,
  dirtyBytes: 512 * 1024,
  segmentsInFlight: 4,
  syncBytes: 128 * 1024,
  volumeBytes: 1024 * 1024,
};

/** The map, as a quorum of keepers would hold it. */
class SharedMap implements MapStore {
  map: ClusterMap;
  /** Awaited by the next writer. */
  beforeSwap: (() => Promise<void>) | null = null;

  constructor(map: ClusterMap) {
    this.map = map;
  }

  async read(): Promise<ClusterMap> {
    return this.map;
  }

  async compareAndSwap(expected: number, next: ClusterMap): Promise<void> {
    await this.beforeSwap?.();
    if (this.map.version !== expected) throw new DazzleError("versionConflict", `the map is at ${this.map.version}, not ${expected}`);
    this.map = next;
  }
}

/** What a test does to the requests of one server. Answer `next()` to let one through. */
export type Intercept = (message: MessageName, request: unknown, context: RequestContext, next: () => Promise<never>) => unknown;

/** One storage server: a process that may die and come back, over a drive that stays. */
export class Server {
  readonly member: MemberId;
  readonly name: string;
  instance!: Instance;
  store!: FragmentStore;
  map!: MapCache;
  peers!: Peers;
  intercept: Intercept | null = null;
  /** Answers nothing, as a stopped process does. */
  frozen = false;
  /** The name of its drive. */
  drive: string;
  readonly #cluster: Cluster;

  constructor(cluster: Cluster, member: MemberId) {
    this.#cluster = cluster;
    this.member = member;
    this.name = `s${member}`;
    this.drive = this.name;
  }

  async start(): Promise<void> {
    const { world, shared, limits } = this.#cluster;
    this.instance = world.spawn(this.name, { diskDir: this.drive });
    const { clock, random, logger, network } = this.instance.ports;
    this.map = new MapCache(shared, shared.map);
    this.store = await FragmentStore.open({ disk: this.instance.disk, clock, random, logger, limits, clusterId: CLUSTER_ID });
    const handlers: Handlers = {
      ...helloHandlers(CLUSTER_ID, this.member),
      ...storageHandlers({ store: this.store, map: this.map, ports: { clock, logger }, stored: new StoredBytes() }),
      verifyFragment: () => ({ reply: {} }),
    };
    const reaches = reachesHandler({ peers: () => this.peers, limits });
    const answers = this.#faulty({ ...handlers, reaches });
    this.peers = new Peers({ network, clock, map: this.map, handlers: answers, self: this.member });
    if (this.#cluster.admission) {
      new SelfAdmission({ store: this.store, map: this.map, self: this.member, clock, logger }).start();
      this.#refreshSometimes(clock);
    }
    await serve({ network, clock, map: this.map, handlers: answers, address: `sim:${this.name}` });
  }

  /** As nodes do: who is asked nothing any more learns so from the map. */
  #refreshSometimes(clock: Clock): void {
    clock.after(REFRESH_MS, () => void this.map.refresh().then(() => this.#refreshSometimes(clock)));
  }

  kill(): void {
    this.instance.kill();
  }

  /** The process dies, and what it had not synced is lost. */
  crash(): void {
    this.instance.kill();
    this.instance.drive.crash();
  }

  #faulty(handlers: Handlers): Handlers {
    const faulty: Record<string, unknown> = { hello: handlers.hello };
    for (const [name, handler] of Object.entries(handlers)) {
      if (name === "hello") continue;
      faulty[name] = async (request: object, context: RequestContext) => {
        if (this.frozen) await deferred().promise;
        const next = async () => (handler as (request: object, context: RequestContext) => Promise<never>)(request, context);
        return this.intercept === null ? next() : this.intercept(name as MessageName, request, context, next);
      };
    }
    return faulty as Handlers;
  }
}

/** A process that writes, reads or recovers logs. */
export interface Client {
  readonly instance: Instance;
  readonly options: LogOptions;
}

export class Cluster {
  readonly world: World;
  readonly limits: Limits;
  readonly servers: Server[] = [];
  /** Whether servers that come back join their group again by themselves. */
  readonly admission: boolean;
  shared!: SharedMap;
  #pool: SegmentPool | undefined;
  #clients = 0;

  private constructor(seed: number | string, limits: Limits, admission: boolean) {
    this.world = new World(seed);
    this.limits = limits;
    this.admission = admission;
  }

  /** `servers` storage servers in one group, as `d + m`; `second`: so many more in another, of parity 1. */
  static async start(options: {
    seed: number | string;
    servers: number;
    second?: number;
    /** Of the first group; 1 where nothing is said. */
    parity?: number;
    limits?: Limits;
    admission?: boolean;
  }): Promise<Cluster> {
    const cluster = new Cluster(options.seed, options.limits ?? SMALL, options.admission ?? false);
    const ids = Array.from({ length: options.servers + (options.second ?? 0) }, (_, index) => (index + 1) as MemberId);
    const stores: StoreId[] = [];
    for (const id of ids) {
      const server = new Server(cluster, id);
      cluster.servers.push(server);
      const instance = cluster.world.spawn(server.name);
      const { clock, random, logger } = instance.ports;
      const opened = FragmentStore.open({ disk: instance.disk, clock, random, logger, limits: cluster.limits, clusterId: CLUSTER_ID });
      const store = await cluster.world.run(opened);
      stores.push(store.storeId);
      await cluster.world.run(store.close());
      instance.kill();
    }
    cluster.shared = new SharedMap(firstMap(ids, stores, options.servers, options.parity ?? 1));
    for (const server of cluster.servers) await cluster.world.run(server.start());
    return cluster;
  }

  get clientNames(): string[] {
    return Array.from({ length: this.#clients }, (_, index) => `client${index}`);
  }

  get map(): ClusterMap {
    return this.shared.map;
  }

  server(member: number): Server {
    return this.servers[member - 1] as Server;
  }

  client(name = `client${this.#clients++}`): Client {
    const instance = this.world.spawn(name);
    const { clock, logger, network } = instance.ports;
    const map = new MapCache(this.shared, this.shared.map);
    const peers = new Peers({ network, clock, map, handlers: {}, self: null });
    return { instance, options: { map, peers, ports: { clock, logger }, limits: this.limits } };
  }

  /** A server's own process. */
  clientAt({ instance, map, peers }: Server): Client {
    const { clock, logger } = instance.ports;
    return { instance, options: { map, peers, ports: { clock, logger }, limits: this.limits } };
  }

  /** Puts a log into the map, registered with these groups: with all where nothing is said. */
  addLog(groups: readonly GroupId[] = this.shared.map.groups.map(({ id }) => id)): LogId {
    const id = this.shared.map.nextLog as LogId;
    const row = {
      id,
      kind: "mount" as const,
      member: 1 as MemberId,
      process: "test",
      state: "live" as const,
      groups,
      end: null,
      label: "",
    };
    this.change((map) => ({ ...map, nextLog: id + 1, logs: [...map.logs, row] }));
    return id;
  }

  /** Changes the map behind everybody's back. */
  change(change: (map: ClusterMap) => ClusterMap): void {
    this.shared.map = { ...change(this.shared.map), version: this.shared.map.version + 1 };
  }

  expel(log: number): void {
    this.change((map) => withLog(map, log, { state: "expelled" }));
  }

  currentVersion(group = GROUP) {
    return currentVersion(findGroup(this.shared.map, group));
  }

  /** A writer in a process of its own. */
  writer(options: { log?: number; client?: Client; pool?: SegmentPool; group?: GroupId; spreads?: boolean } = {}): LogWriter {
    const log = options.log ?? this.addLog();
    const client = options.client ?? this.client();
    client.options.map.learn(this.shared.map);
    const pool = options.pool ?? this.pool();
    const { group = GROUP, spreads = false } = options;
    return new LogWriter({ ...client.options, log, clusterId: CLUSTER_ID, group, spreads, pool });
  }

  pool(): SegmentPool {
    this.#pool = segmentPoolFor(this.limits, Math.max(1, this.servers.length - 1));
    return this.#pool;
  }

  reader(client = this.client()): LogReader {
    client.options.map.learn(this.shared.map);
    return new LogReader(client.options);
  }

  recover(log: number, client = this.client()): Promise<RecoveredLog> {
    return recoverLog({ ...client.options, log, reader: this.reader(client) });
  }

  run<T>(until: Promise<T>, limitMs?: number): Promise<T>;
  run(until: () => boolean, limitMs?: number): Promise<void>;
  async run<T>(until: Promise<T> | (() => boolean), limitMs?: number): Promise<T | undefined> {
    if (typeof until !== "function") return this.world.run(until, limitMs);
    await this.world.run(until, limitMs);
    return undefined;
  }
}

function firstMap(ids: readonly MemberId[], stores: readonly StoreId[], inFirst: number, parity: number): ClusterMap {
  const servers = ids.map((member, index) => ({ member, store: stores[index] as StoreId }));
  return {
    format: MAP_FORMAT,
    clusterId: CLUSTER_ID,
    version: 1,
    nextLog: 1,
    nextMember: ids.length + 1,
    keepers: [],
    formerKeepers: [],
    members: ids.map((id, index) => ({
      id,
      name: `s${id}`,
      addresses: [`sim:s${id}`],
      roles: ["storage"],
      incarnation: 1,
      leaving: false,
      store: stores[index] as StoreId,
    })),
    groups: [
      groupOf(GROUP, servers.slice(0, inFirst), parity),
      ...(inFirst < servers.length ? [groupOf(SECOND_GROUP, servers.slice(inFirst), 1)] : []),
    ],
    slots: Array.from({ length: SLOTS }, () => ({ manager: null, term: 0, chain: [] })),
    logs: [],
  };
}

function groupOf(id: GroupId, servers: readonly GroupServer[], parity: number): Group {
  const parityFragments = Math.min(parity, servers.length - 1);
  const dataFragments = Math.max(1, servers.length - parityFragments);
  return {
    id,
    name: `group${id}`,
    parity,
    wanted: servers.map(({ member }) => member),
    versions: [{ version: 1 as GroupVersion, servers, dataFragments, parityFragments, frozen: null }],
  };
}
