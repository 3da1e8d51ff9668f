import {
  type Address,
  type ClusterMap,
  DazzleError,
  type Disk,
  findMember,
  type Group,
  type GroupId,
  type GroupVersion,
  type Handlers,
  isDazzleError,
  type Limits,
  MapCache,
  type MapStore,
  type Member,
  type MemberId,
  type MessageName,
  Peers,
  type Ports,
  RemoteMapStore,
  type Role,
  readMapFrom,
  type StoreId,
  serve,
  sleep,
  type Timer,
} from "@dazzle/core";
import { initialMap, keeperHandlers, LocalMapStore, Manager, managerHandlers, managerStatus } from "@dazzle/manager";
import { FragmentStore, SelfAdmission, storageHandlers } from "@dazzle/storage";

const START_DEADLINE_MS = 30_000;
const RETRY_MS = 100;
const REACHES_DEADLINE_MS = 500;
const REFRESH_MS = 2_000;
const MANAGER_RESTART_MS = 1_000;
const MAP_FILE = "map";

/** What a manager answers to mounts, once there is one. */
const MANAGER_MESSAGES = [
  "openMount",
  "acquire",
  "release",
  "lookup",
  "entries",
  "extents",
  "attributes",
  "numbers",
  "ship",
  "renew",
  "closeMount",
  "report",
] as const satisfies readonly MessageName[];

function notReadyYet(): never {
  throw new DazzleError("notReady", "the manager has not started yet");
}

/** What a new cluster begins with. */
export interface Genesis {
  readonly members: readonly Member[];
  readonly manager: MemberId;
  /** Whose the root directory is; root's where nothing is said. */
  readonly rootOwner?: { readonly uid: number; readonly gid: number };
  /** Members of the first stripe group, by place. */
  readonly servers: readonly MemberId[];
  readonly parity: number;
}

export interface MachineNodeOptions {
  readonly ports: Ports;
  readonly limits: Limits;
  readonly clusterId: string;
  readonly member: MemberId;
  readonly roles: readonly Role[];
  readonly address: Address;
  /** Where it listens as well, for whoever does not reach that one. */
  readonly moreAddresses?: readonly Address[];
  /** Where the map's keeper answers. */
  readonly keeper: Address;
  readonly storageDisk: Disk;
  /** For the keeper role. */
  readonly keeperDisk: Disk;
  /** For the keeper's first start. */
  readonly genesis: Genesis;
}

/** One machine's daemon: storage, manager and keeper, whichever it plays, behind one listener. */
export class MachineNode {
  readonly #options: MachineNodeOptions;
  readonly map: MapCache;
  readonly peers: Peers;
  readonly #store: FragmentStore;
  readonly #admission: SelfAdmission;
  #manager: Manager | null = null;
  readonly #servers: Array<{ readonly address: Address; close(): Promise<void> }> = [];
  #stopping = false;

  private constructor(options: MachineNodeOptions, map: MapCache, peers: Peers, store: FragmentStore, admission: SelfAdmission) {
    this.#options = options;
    this.map = map;
    this.peers = peers;
    this.#store = store;
    this.#admission = admission;
  }

  /** Resolves when its storage serves; the manager opens its shards in the background (see `managing`). */
  static async start(options: MachineNodeOptions): Promise<MachineNode> {
    const { ports, limits, member } = options;
    const { clock, network, random, logger } = ports;
    const holder: { peers: Peers | null; node: MachineNode | null } = { peers: null, node: null };
    const keeper = options.roles.includes("keeper") ? await openKeeper(options) : undefined;
    const store: MapStore =
      keeper ??
      new RemoteMapStore(
        () => holder.peers as Peers,
        () => options.keeper,
      );
    const map = new MapCache(store, await firstMap(options, keeper));
    if (map.current.clusterId !== options.clusterId)
      throw new DazzleError("wrongCluster", `the keeper at ${options.keeper} is of another cluster`);
    const fragments = await FragmentStore.open({ disk: options.storageDisk, random, clock, logger, limits, clusterId: options.clusterId });
    try {
      requireListedStore(map.current, member, fragments.storeId);
    } catch (error) {
      await fragments.close();
      throw error;
    }
    const handlers: { -readonly [Name in keyof Handlers]: Handlers[Name] } = {};
    const peers = new Peers({ network, clock, map, handlers, self: member });
    holder.peers = peers;
    const admission = new SelfAdmission({ store: fragments, map, clock, logger, self: member });
    const node = new MachineNode(options, map, peers, fragments, admission);
    Object.assign(
      handlers,
      storageHandlers({ store: fragments, map, ports }),
      keeper === undefined ? {} : keeperHandlers(followed(keeper, map)),
      node.#memberHandlers(),
    );
    if (options.roles.includes("manager")) for (const name of MANAGER_MESSAGES) handlers[name] = notReadyYet;
    for (const address of [options.address, ...(options.moreAddresses ?? [])])
      node.#servers.push(await serve({ network, clock, map, handlers, address }));
    await node.#registerStore(fragments.storeId);
    admission.start();
    node.#refreshSometimes();
    if (options.roles.includes("manager")) node.managing = node.#manage(handlers);
    return node;
  }

  /** Resolves when the manager's shards are open; rejects with what they wait for. */
  managing: Promise<void> = Promise.resolve();

  /** Where it listens; its own address first. */
  get addresses(): readonly Address[] {
    return this.#servers.map(({ address }) => address);
  }

  #memberHandlers(): Handlers {
    const { ports, clusterId, member } = this.#options;
    return {
      hello: ({ clusterId: theirs }) => {
        if (theirs !== clusterId) throw new DazzleError("wrongCluster", `this is cluster ${clusterId}`);
        return { reply: { clusterId, member } };
      },
      vouchGone: ({ process }) => ({ reply: { gone: ports.processes.isGone(process) } }),
      reaches: async ({ member: asked, store }) => {
        try {
          const { reply } = await this.peers.call(asked as MemberId, "stat", {}, { deadlineMs: REACHES_DEADLINE_MS });
          return { reply: { reached: reply.store === store } };
        } catch (error) {
          if (!isDazzleError(error)) throw error;
          return { reply: { reached: false } };
        }
      },
      status: async () => ({ reply: { document: this.status() } }),
    };
  }

  /** What this node knows, for `dazzle status`. */
  status(): { map: ClusterMap; process: string; manager: unknown } {
    return {
      map: this.map.current,
      process: this.#options.ports.processes.self,
      manager: this.#manager === null ? null : managerStatus(this.#manager, this.#options.ports.clock.nowMs()),
    };
  }

  async #registerStore(id: StoreId): Promise<void> {
    const { member } = this.#options;
    await this.map.change((map) => {
      const row = findMember(map, member);
      if (row.store === id) return undefined;
      return {
        ...map,
        members: map.members.map((one) => (one.id === member ? { ...one, store: id, incarnation: one.incarnation + 1 } : one)),
      };
    });
  }

  /** Whoever was cut off or frozen, and is asked nothing any more, learns so from the map itself. */
  #refreshSometimes(): void {
    this.#refresh = this.#options.ports.clock.after(REFRESH_MS, () => {
      this.map.refresh().catch((error: Error) => this.#options.ports.logger("info", "the map can't be read", { reason: error.message }));
      if (!this.#stopping) this.#refreshSometimes();
    });
  }

  #refresh: Timer | null = null;

  /** The first group as soon as its servers have stores, then a manager. */
  async #manage(handlers: object): Promise<void> {
    const { ports, genesis } = this.#options;
    while (this.map.current.groups.length === 0 && !this.#stopping) {
      const created = await this.map.change((map) => withFirstGroup(map, genesis));
      if (created.groups.length > 0) break;
      await sleep(ports.clock, RETRY_MS);
      await this.map.refresh();
    }
    if (this.#stopping) return;
    await (await this.#startManager(handlers)).opened;
  }

  async #startManager(handlers: object): Promise<Manager> {
    const { ports, limits, genesis, member } = this.#options;
    const group = this.map.current.groups[0] as Group;
    const manager = await Manager.start({
      member,
      map: this.map,
      peers: this.peers,
      ports,
      limits,
      group: group.id,
      ...(genesis.rootOwner === undefined ? {} : { rootOwner: genesis.rootOwner }),
    });
    this.#manager = manager;
    Object.assign(handlers, managerHandlers(manager));
    void manager.failed.then(() => this.#startAnother(handlers));
    return manager;
  }

  /** An incarnation that can't go on is replaced by the next, which reads what it logged. */
  async #startAnother(handlers: object): Promise<void> {
    const { clock, logger } = this.#options.ports;
    while (!this.#stopping) {
      await sleep(clock, MANAGER_RESTART_MS);
      try {
        await this.map.refresh();
        if (!this.#stopping) await this.#startManager(handlers);
        return;
      } catch (error) {
        logger("error", "the manager can't start", { reason: (error as Error).message });
      }
    }
  }

  /** Asserts what must hold of the manager's shards and tokens, of everything there is: for tests. */
  async checkInvariants(): Promise<void> {
    const parts = this.#manager?.parts ?? null;
    if (parts === null) return;
    parts.tokens.checkInvariants();
    await parts.host.between(async () => {
      for (const shard of parts.host.shards) await shard.checkInvariants();
    });
  }

  /** A clean stop: what the manager applied is checkpointed, what is stored is on disk. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#admission.stop();
    this.#refresh?.cancel();
    await this.managing.catch(() => {});
    await this.#manager?.close();
    await Promise.all(this.#servers.map((server) => server.close()));
    this.peers.close();
    await this.#store.close();
  }
}

/** An emptied directory under an old name is another server, which must not pass for the one that its group lists (PROTOCOL rule 27). */
function requireListedStore(map: ClusterMap, member: MemberId, store: StoreId): void {
  const { name, store: listed } = findMember(map, member);
  const isListed = map.groups.some(({ versions }) =>
    versions.some(({ servers }) => servers.some((row) => row.member === member && row.store === listed)),
  );
  if (listed === null || listed === store || !isListed) return;
  throw new DazzleError(
    "wrongStore",
    `${name}'s group lists the store ${listed}, and its storage directory holds ${store}: put the directory back that it had`,
  );
}

async function openKeeper(options: MachineNodeOptions): Promise<LocalMapStore> {
  const { clusterId, genesis } = options;
  const store = await LocalMapStore.open(options.keeperDisk, MAP_FILE);
  if (store !== undefined) return store;
  return LocalMapStore.create(options.keeperDisk, MAP_FILE, initialMap({ clusterId, members: genesis.members, manager: genesis.manager }));
}

/** What others decide at this keeper is known to its own process at once, and by its answers to whoever talks to it. */
function followed(keeper: MapStore, map: MapCache): MapStore {
  return {
    read: () => keeper.read(),
    compareAndSwap: async (expected, next) => {
      await keeper.compareAndSwap(expected, next);
      map.learn(next);
    },
  };
}

/** The map from the keeper, waited for while that one starts. */
async function firstMap(options: MachineNodeOptions, keeper: LocalMapStore | undefined): Promise<ClusterMap> {
  if (keeper !== undefined) return keeper.read();
  const { network, clock } = options.ports;
  const endMs = clock.nowMs() + START_DEADLINE_MS;
  for (;;) {
    try {
      return await readMapFrom(network, clock, options.keeper, START_DEADLINE_MS / 10);
    } catch (error) {
      if (!isDazzleError(error, "unreachable", "timedOut") || clock.nowMs() > endMs) throw error;
      await sleep(clock, RETRY_MS);
    }
  }
}

/** The map with the first group, once every server of it has a store. */
function withFirstGroup(map: ClusterMap, genesis: Genesis): ClusterMap | undefined {
  if (map.groups.length > 0) return undefined;
  const servers = genesis.servers.map((member) => ({ member, store: findMember(map, member).store }));
  if (servers.some(({ store }) => store === null)) return undefined;
  const parityFragments = Math.min(genesis.parity, servers.length - 1);
  const group: Group = {
    id: 1 as GroupId,
    name: "main",
    parity: genesis.parity,
    wanted: genesis.servers,
    versions: [
      {
        version: 1 as GroupVersion,
        servers: servers as { member: MemberId; store: StoreId }[],
        dataFragments: Math.max(1, servers.length - parityFragments),
        parityFragments,
        frozen: null,
      },
    ],
  };
  return { ...map, groups: [group] };
}
