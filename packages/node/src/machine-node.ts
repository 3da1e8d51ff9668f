import { Cleaner, type GroupCleaning, Shortage } from "@dazzle/cleaner";
import {
  type Address,
  assert,
  type ClusterMap,
  DazzleError,
  type Disk,
  deferred,
  findMember,
  type Group,
  type GroupId,
  type GroupVersion,
  type Handlers,
  helloHandlers,
  isDazzleError,
  type Limits,
  MapCache,
  MapRegister,
  type MapVersions,
  type Member,
  type MemberId,
  Message,
  type MessageName,
  Peers,
  type Ports,
  type Role,
  type StoreId,
  serve,
  shapeOver,
  sleep,
  type Timer,
} from "@dazzle/core";
import { firstGroup } from "@dazzle/log";
import { initialMap, Manager, managerHandlers, managerStatus } from "@dazzle/manager";
import { FragmentStore, reachesHandler, SelfAdmission, StoredBytes, type StoredTally, storageHandlers } from "@dazzle/storage";
import { admittedAlone, registerStore } from "./admitted-store.ts";
import { Departure } from "./departure.ts";
import { firstMap } from "./first-map.ts";
import { Freezer } from "./freezer.ts";
import { groupHandlers } from "./group-handlers.ts";
import { addMember } from "./joining.ts";
import { Keeper } from "./keeper.ts";
import { isTakenOut } from "./leaving.ts";
import { Rebuild, type RebuildStatus } from "./rebuild.ts";
import { Scrub, type ScrubStatus } from "./scrub.ts";
import { SpareServers } from "./spare-servers.ts";

const RETRY_MS = 100;
const REFRESH_MS = 2_000;
const MOVE_DEADLINE_MS = 60_000;
const MANAGER_RESTART_MS = 1_000;

/** What a manager answers, once there is one. */
const MANAGER_MESSAGES = [
  "openMount",
  "acquire",
  "acquireRange",
  "closed",
  "peek",
  "release",
  "lookup",
  "entries",
  "extents",
  "attributes",
  "numbers",
  "claims",
  "ship",
  "renew",
  "closeMount",
  "report",
  "liveAmong",
  "settled",
  "lock",
  "testLock",
  "declareLocks",
  "answersAt",
  "imapPage",
  "logProgress",
  "runSegments",
  "amend",
  "yieldSlots",
  "managerAlive",
  "takeSlots",
  "liveBytes",
  "stillAt",
  "relocate",
  "cleanerTrimmed",
] as const satisfies readonly MessageName[];

/** To whoever asks too early it is as if nobody listened. */
function stillStarting(): never {
  throw new DazzleError("unreachable", "it is still starting");
}

function notReadyYet(): never {
  throw new DazzleError("notReady", "the manager has not started yet");
}

type MutableHandlers = { -readonly [Name in keyof Handlers]: Handlers[Name] };

interface Server {
  readonly address: Address;
  close(): Promise<void>;
}

interface MachineParts {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly keeper: Keeper | undefined;
  readonly store: FragmentStore | null;
  readonly admission: SelfAdmission | null;
  readonly rebuild: Rebuild | null;
  readonly scrub: Scrub | null;
  readonly shortage: Shortage;
  readonly cleaner: Cleaner | null;
  readonly servers: readonly Server[];
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
  /** Where some members may answer, a keeper if it can be. */
  readonly seeds: readonly Address[];
  readonly storageDisk: Disk;
  /** For the keeper role. */
  readonly keeperDisk: Disk;
  /** For the keeper's first start; null on a machine that joined. */
  readonly genesis: Genesis | null;
  /** Sockets of the members on this machine. */
  readonly near?: ReadonlyMap<number, Address>;
  /** What is told of the mounts on this machine, for `dazzle status`. */
  readonly mounts?: () => Promise<readonly unknown[]>;
}

/** One machine's daemon: storage, manager, cleaner and keeper, whichever it plays, behind one listener. */
export class MachineNode {
  readonly #options: MachineNodeOptions;
  readonly map: MapCache;
  readonly peers: Peers;
  readonly #keeper: Keeper | undefined;
  #freezer: Freezer | null = null;
  #spares: SpareServers | null = null;
  #departure: Departure | null = null;
  readonly #left = deferred();
  /** Null where this machine does not store. */
  readonly #store: FragmentStore | null;
  readonly #admission: SelfAdmission | null;
  readonly #rebuild: Rebuild | null;
  readonly #scrub: Scrub | null;
  readonly #stored = new StoredBytes();
  readonly #shortage: Shortage;
  /** Null where this machine does not clean. */
  readonly #cleaner: Cleaner | null;
  #manager: Manager | null = null;
  readonly #servers: readonly Server[];
  #stopping = false;

  private constructor(options: MachineNodeOptions, parts: MachineParts) {
    this.#options = options;
    this.map = parts.map;
    this.peers = parts.peers;
    this.#keeper = parts.keeper;
    this.#store = parts.store;
    this.#admission = parts.admission;
    this.#rebuild = parts.rebuild;
    this.#scrub = parts.scrub;
    this.#shortage = parts.shortage;
    this.#cleaner = parts.cleaner;
    this.#servers = parts.servers;
  }

  /** Resolves when its storage serves; the manager opens its shards in the background (see `managing`). */
  static async start(options: MachineNodeOptions): Promise<MachineNode> {
    const { ports, limits, member, clusterId, seeds } = options;
    const { clock, network, random, logger } = ports;
    const near = options.near ?? new Map();
    const holder: { map: MapCache | null; peers: Peers | null } = { map: null, peers: null };
    const handlers: MutableHandlers = {};
    for (const name of Object.keys(Message) as MessageName[]) handlers[name] = stillStarting;
    const keeper = options.roles.includes("keeper") ? await openKeeper(options) : undefined;
    Object.assign(handlers, helloHandlers(clusterId, member), keeper?.handlers);
    const versions: MapVersions = {
      get version() {
        return holder.map?.version ?? 0;
      },
      reach: async (version) => holder.map?.reach(version),
    };
    const servers: Server[] = [];
    let fragments: FragmentStore | null = null;
    try {
      // Keepers answer before they know what was decided: that takes a majority of them.
      for (const address of [options.address, ...(options.moreAddresses ?? [])])
        servers.push(await serve({ network, clock, map: versions, handlers, address }));
      const first = await firstMap({ ports, clusterId, self: member, seeds, near, handlers, accepted: keeper?.accepted });
      if (!first.members.some(({ id }) => id === member))
        throw new DazzleError("invalid", `member ${member} is not in the cluster any more: join it again, with a new directory`);
      if (options.roles.includes("storage") && isTakenOut(findMember(first, member)))
        throw new DazzleError("invalid", `member ${member} is being taken out of the cluster as dead: join it again, with a new directory`);
      const peersOf = () => holder.peers as Peers;
      const register = new MapRegister({ peers: peersOf, clock, random, map: first, seeds });
      const map = new MapCache(register, first);
      const peers = new Peers({ network, clock, map, handlers, self: member, process: ports.processes.self, near });
      holder.map = map;
      holder.peers = peers;
      if (options.roles.includes("storage")) {
        fragments = await FragmentStore.open({ disk: options.storageDisk, random, clock, logger, limits, clusterId });
      }
      const admission = fragments === null ? null : new SelfAdmission({ store: fragments, map, clock, logger, self: member });
      const rebuild = fragments === null ? null : new Rebuild({ map, peers, ports, limits, self: member, store: fragments });
      const scrub =
        fragments === null ? null : await Scrub.open({ store: fragments, disk: options.storageDisk, map, peers, ports, limits });
      const cleaner = options.roles.includes("cleaner") ? new Cleaner({ map, peers, ports, limits, self: member }) : null;
      const shortage = new Shortage({ map, peers, ports, self: member });
      fragments?.onShort(() => shortage.found());
      const node = new MachineNode(options, {
        ...{ map, peers, keeper, store: fragments, admission, rebuild, scrub, shortage, cleaner },
        servers,
      });
      for (const name of Object.keys(Message) as MessageName[]) if (handlers[name] === stillStarting) delete handlers[name];
      if (fragments !== null)
        Object.assign(
          handlers,
          admittedAlone(storageHandlers({ store: fragments, map, ports, stored: node.#stored }), map, member, fragments.storeId),
        );
      Object.assign(handlers, scrub?.handlers, rebuild?.handlers, cleaner?.handlers, node.#memberHandlers());
      Object.assign(handlers, groupHandlers({ map, peers, ports, limits }));
      if (options.roles.includes("manager")) for (const name of MANAGER_MESSAGES) handlers[name] = notReadyYet;
      keeper?.begin({ self: member, map, register, peers, ports, limits });
      if (fragments !== null) {
        const store = fragments;
        await registerStore(map, member, store.storeId, logger, () => store.stat().stalledMs < limits.serverDeadlineMs);
      }
      admission?.start();
      rebuild?.start();
      scrub?.start();
      cleaner?.start();
      node.#refreshSometimes();
      node.#freezer = new Freezer({ map, peers, ports, limits });
      node.#spares = new SpareServers({ map, peers, clock, logger, self: member });
      node.#departure = new Departure({
        ...{ map, peers, ports, limits, self: member },
        endManager: () => node.#endManager(),
        startManager: () => void node.#startAnother(handlers),
        onLeft: () => node.#left.resolve(),
      });
      Object.assign(handlers, node.#departure.handlers);
      if (options.roles.includes("manager")) node.managing = node.#manage(handlers);
      return node;
    } catch (error) {
      keeper?.stop();
      for (const server of servers) await server.close();
      holder.peers?.close();
      await fragments?.close();
      throw error;
    }
  }

  /** Resolves when the manager's shards are open; rejects with what they wait for. */
  managing: Promise<void> = Promise.resolve();

  /** Resolves when this machine has left the cluster: it is no member any more. */
  get left(): Promise<void> {
    return this.#left.promise;
  }

  /** Where it listens; its own address first. */
  get addresses(): readonly Address[] {
    return this.#servers.map(({ address }) => address);
  }

  #memberHandlers(): Handlers {
    const { ports } = this.#options;
    return {
      mapRead: () => ({ reply: { map: this.map.current } }),
      join: async ({ name, addresses, roles }) => ({ reply: { member: await addMember(this.map, { name, addresses, roles }) } }),
      vouchGone: ({ process }) => ({ reply: { gone: ports.processes.isGone(process) } }),
      reaches: reachesHandler({ peers: () => this.peers, limits: this.#options.limits }),
      moveSlot: async ({ slot, member: to }) => {
        await this.peers.call(to as MemberId, "takeSlots", { slots: [slot] }, { deadlineMs: MOVE_DEADLINE_MS });
        return { reply: {} };
      },
      status: async () => ({ reply: { document: { ...this.status(), mounts: (await this.#options.mounts?.()) ?? [] } } }),
    };
  }

  /** What this node knows, for `dazzle status`. */
  status(): {
    map: ClusterMap;
    process: string;
    rebuild: readonly RebuildStatus[];
    scrub: ScrubStatus | null;
    cleaner: readonly GroupCleaning[];
    stored: StoredTally;
    manager: unknown;
    leaving: unknown;
  } {
    return {
      map: this.map.current,
      scrub: this.#scrub?.status ?? null,
      cleaner: this.#cleaner?.status ?? [],
      stored: this.#stored.tally,
      rebuild: this.#rebuild?.status ?? [],
      process: this.#options.ports.processes.self,
      manager: this.#manager === null ? null : managerStatus(this.#manager, this.#options.ports.clock.nowMs()),
      leaving: this.#departure?.status ?? [],
    };
  }

  /** Whoever was cut off or frozen, and is asked nothing any more, learns so from the map itself. */
  #refreshSometimes(): void {
    this.#refresh = this.#options.ports.clock.after(REFRESH_MS, () => {
      this.map.refresh().catch((error: Error) => this.#options.ports.logger("info", "the map can't be read", { reason: error.message }));
      if (!this.#stopping) this.#refreshSometimes();
    });
  }

  #refresh: Timer | null = null;

  /** The first group as soon as its servers have stores, then a manager. Where the map can't be had it is tried again: what is stored here is served meanwhile. */
  async #manage(handlers: object): Promise<void> {
    const { clock, logger } = this.#options.ports;
    for (;;) {
      try {
        const manager = await this.#firstManager(handlers);
        return await manager?.opened;
      } catch (error) {
        if (this.#stopping || this.#manager !== null || !isDazzleError(error, "unreachable", "timedOut", "versionConflict")) throw error;
        logger("warning", "the manager can't start yet", { reason: error.message });
      }
      await sleep(clock, MANAGER_RESTART_MS);
    }
  }

  /** Undefined where the node stops before. */
  async #firstManager(handlers: object): Promise<Manager | undefined> {
    const { ports, genesis } = this.#options;
    while (this.map.current.groups.length === 0 && !this.#stopping) {
      const created = genesis === null ? this.map.current : await this.map.change((map) => withFirstGroup(map, genesis));
      if (created.groups.length > 0) break;
      await sleep(ports.clock, RETRY_MS);
      await this.map.refresh();
    }
    return this.#stopping ? undefined : this.#startManager(handlers);
  }

  async #startManager(handlers: object): Promise<Manager> {
    const { ports, limits, genesis, member } = this.#options;
    const rootOwner = genesis?.rootOwner;
    const group = await firstGroup({ map: this.map, peers: this.peers, ports, limits });
    assert(group !== undefined, "a manager starts once there is a group");
    const manager = await Manager.start({
      member,
      map: this.map,
      peers: this.peers,
      ports,
      limits,
      group,
      ...(rootOwner === undefined ? {} : { rootOwner }),
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

  async #endManager(): Promise<void> {
    await this.#manager?.close();
  }

  /** The manager's present incarnation, for tests. */
  get manager(): Manager | null {
    return this.#manager;
  }

  /** Asserts what must hold of the manager's shards and tokens, of everything there is: for tests. */
  async checkInvariants(): Promise<void> {
    const parts = this.#manager?.parts;
    if (parts === undefined) return;
    parts.tokens.checkInvariants();
    parts.locks.checkInvariants();
    await parts.host.between(async () => {
      for (const shard of parts.host.shards) await shard.checkInvariants();
    });
  }

  /** A clean stop: what the manager applied is checkpointed, what is stored is on disk. */
  async stop(): Promise<void> {
    this.#stopping = true;
    this.#admission?.stop();
    this.#rebuild?.stop();
    await this.#scrub?.stop();
    this.#keeper?.stop();
    this.#freezer?.stop();
    this.#spares?.stop();
    this.#departure?.stop();
    this.#refresh?.cancel();
    this.#shortage.stop();
    await this.#cleaner?.stop();
    // What its slots wait for need not come any more.
    await this.#manager?.close();
    await this.managing.catch(() => {});
    await this.#manager?.close();
    await Promise.all(this.#servers.map((server) => server.close()));
    this.peers.close();
    await this.#store?.close();
  }
}

/** The keeper that a new cluster begins with makes its map; every other one is admitted by those before it. */
async function openKeeper(options: MachineNodeOptions): Promise<Keeper> {
  const { clusterId, genesis, member, keeperDisk, storageDisk } = options;
  if (genesis === null) return Keeper.open(keeperDisk, undefined);
  const first = initialMap({ clusterId, members: genesis.members, manager: genesis.manager });
  const begins = first.keepers.includes(member) && (await storageDisk.list("")).length === 0;
  return Keeper.open(keeperDisk, begins ? first : undefined);
}

/** The map with the first group, once every server of it has a store. */
function withFirstGroup(map: ClusterMap, genesis: Genesis): ClusterMap | undefined {
  if (map.groups.length > 0) return undefined;
  const servers = genesis.servers.map((member) => ({ member, store: findMember(map, member).store }));
  if (servers.some(({ store }) => store === null)) return undefined;
  const group: Group = {
    id: 1 as GroupId,
    name: "main",
    parity: genesis.parity,
    wanted: genesis.servers,
    versions: [
      {
        version: 1 as GroupVersion,
        servers: servers as { member: MemberId; store: StoreId }[],
        ...shapeOver(servers.length, Math.min(genesis.parity, servers.length - 1)),
        frozen: null,
      },
    ],
  };
  return { ...map, groups: [group] };
}
