import {
  type ClusterMap,
  DazzleError,
  type GroupId,
  type GroupVersion,
  type Handlers,
  helloHandlers,
  LIMITS,
  type Limits,
  MapCache,
  MapRegister,
  type Member,
  type MemberId,
  Peers,
  type Role,
  type StoreId,
  serve,
} from "@dazzle/core";
import { Acceptor, FIRST_BALLOT, initialMap, keeperHandlers, LeaseBook, Manager, managerHandlers } from "@dazzle/manager";
import type { Instance, World } from "@dazzle/sim";
import { MemoryLogs } from "./memory-logs.ts";
import { TestMount } from "./test-mount.ts";

export type { TestMount } from "./test-mount.ts";

export const MEMBER = 1 as MemberId;

const nameOf = (member: number) => (member === MEMBER ? "node" : `node${member}`);
const addressOf = (member: number) => `unix:${nameOf(member)}`;

export const SMALL: Limits = {
  ...LIMITS,
  memtableBytes: 200_000,
  runCacheBytes: 64 * 1024,
  runBlockBytes: 1024,
  checkpointIntervalMs: 3_000,
};

/** A process with a manager. */
interface ManagerNode {
  readonly instance: Instance;
  readonly map: MapCache;
  readonly peers: Peers;
  readonly manager: Manager;
}

/** Nodes whose logs are in memory; they outlive them as storage servers would. The first is keeper and storage server; managers are
 * those asked for, the first where nothing is said. */
export class Cluster {
  readonly world: World;
  readonly limits: Limits;
  readonly logs = new MemoryLogs();
  /** What was deleted: "log/sequence". */
  readonly deleted: string[] = [];
  /** Called before each deletion. */
  onDelete: (log: number, sequence: number) => void = () => {};
  storageAway = false;
  readonly members: readonly MemberId[];
  node!: Instance;
  /** As the keeper has it. */
  map!: MapCache;
  /** Of the keeper's process. */
  peers!: Peers;
  readonly #managers = new Map<MemberId, ManagerNode>();
  readonly #managing: readonly MemberId[];

  constructor(world: World, limits: Limits = SMALL, managers: readonly number[] = [MEMBER]) {
    this.world = world;
    this.limits = limits;
    this.#managing = managers as MemberId[];
    this.members = [...new Set([MEMBER, ...this.#managing])];
  }

  /** The first manager. */
  get manager(): Manager {
    return this.managerOf(this.#managing[0] as MemberId);
  }

  /** Those whose process lives. */
  get managers(): readonly Manager[] {
    return [...this.#managers.values()].filter(({ instance }) => instance.alive).map(({ manager }) => manager);
  }

  isUp(member: number): boolean {
    return this.#managers.get(member as MemberId)?.instance.alive === true;
  }

  managerOf(member: number): Manager {
    return this.#nodeOf(member).manager;
  }

  /** As that manager knows and changes it. */
  mapOf(member: number): MapCache {
    return this.#nodeOf(member).map;
  }

  #nodeOf(member: number): ManagerNode {
    const node = this.#managers.get(member as MemberId);
    if (node === undefined) throw new Error(`member ${member} has no manager`);
    return node;
  }

  /** Starts the nodes' processes, after `kill` or for the first time. Answers when the managers take requests. */
  async start(): Promise<void> {
    for (const member of this.members) await this.startNode(member);
  }

  async startNode(member: MemberId): Promise<void> {
    const instance = this.world.spawn(nameOf(member), { diskDir: nameOf(member) });
    const { network, clock, processes } = instance.ports;
    const handlers: { -readonly [Name in keyof Handlers]: Handlers[Name] } = {
      vouchGone: ({ process }) => ({ reply: { gone: processes.isGone(process) } }),
    };
    const known = member === MEMBER ? await this.#startKeeper(instance, handlers) : this.map.current;
    Object.assign(handlers, helloHandlers(known.clusterId, member));
    const register: MapRegister = new MapRegister({ ...instance.ports, peers: () => peers, map: known });
    const map: MapCache = new MapCache(register, known);
    const peers: Peers = new Peers({ network, clock, map, handlers, self: member });
    if (member === MEMBER) {
      this.node = instance;
      this.map = map;
      this.peers = peers;
    }
    await serve({ network, clock, map, handlers, address: addressOf(member) });
    if (!this.#managing.includes(member)) return;
    const { limits, logs } = this;
    const manager = await Manager.start({ member, map, peers, ports: instance.ports, limits, group: 1, logs: logs.access(map, clock) });
    Object.assign(handlers, managerHandlers(manager));
    this.#managers.set(member, { instance, map, peers, manager });
  }

  async #startKeeper(instance: Instance, handlers: object): Promise<ClusterMap> {
    const disk = instance.diskAt("keeper");
    const keeper =
      (await Acceptor.open(disk, "map")) ?? (await Acceptor.create(disk, "map", { map: this.#firstMap(), accepted: FIRST_BALLOT }));
    keeper.onAccepted = ({ version }) => void this.map.reach(version).catch(() => {});
    const leases = new LeaseBook({ clock: instance.ports.clock, limits: this.limits, map: () => this.map.current });
    const answers = keeperHandlers(
      () => keeper,
      () => leases,
    );
    Object.assign(handlers, answers, this.#storage());
    return keeper.state.map;
  }

  /** With several managers, the slots are dealt out in turn. */
  #firstMap(): ClusterMap {
    const store = "00000000000000000000000000000001" as StoreId;
    const members = this.members.map((id): Member => {
      const roles: Role[] = id === MEMBER ? ["storage", "keeper"] : [];
      if (this.#managing.includes(id)) roles.push("manager");
      return {
        id,
        name: nameOf(id),
        addresses: [addressOf(id)],
        roles,
        incarnation: 1,
        leaving: false,
        store: id === MEMBER ? store : null,
      };
    });
    const map = initialMap({ clusterId: "0123456789abcdef0123456789abcdef", members, manager: this.#managing[0] as MemberId });
    const servers = [{ member: MEMBER, store }];
    const version = { version: 1 as GroupVersion, servers, dataFragments: 1, parityFragments: 0, frozen: null };
    return {
      ...map,
      slots: map.slots.map((row, slot) => ({ ...row, manager: this.#managing[slot % this.#managing.length] as MemberId })),
      groups: [{ id: 1 as GroupId, name: "all", parity: 0, versions: [version], wanted: [MEMBER] }],
    };
  }

  #storage(): Handlers {
    const check = () => {
      if (this.storageAway) throw new DazzleError("unreachable", "the storage server is away");
    };
    return {
      delete: ({ log, sequences, trimmedTo }) => {
        check();
        for (const sequence of sequences) {
          if (sequence > trimmedTo) throw new DazzleError("invalid", "beyond trimmed-to");
          this.onDelete(log, sequence);
          this.logs.delete(log, sequence, trimmedTo);
          this.deleted.push(`${log}/${sequence}`);
        }
        return { reply: {} };
      },
      list: ({ log, after, limit }) => {
        check();
        const sequences = this.logs.sequencesOf(log).filter((sequence) => sequence > after);
        const fragments = sequences.slice(0, limit).map((sequence) => ({
          log,
          sequence,
          group: 1,
          groupVersion: 1,
          index: 0,
          dataFragments: 1,
          parityFragments: 0,
          payloadBytes: 1,
          dataBytes: 1,
          bytesSince: 0,
          summaryOffset: 1,
        }));
        return { reply: { fragments, more: sequences.length > limit, stableSequence: 0, trimmedTo: 0, vouched: true, boot: "" } };
      },
      listLogs: () => {
        check();
        return { reply: { logs: this.logs.all() } };
      },
    };
  }

  /** Ends the nodes' processes at once; what their managers' logs had not made stable is lost. */
  kill(): void {
    for (const member of this.members) this.killNode(member);
  }

  killNode(member: MemberId): void {
    const node = this.#managers.get(member);
    if (member === MEMBER) this.node.kill();
    node?.instance.kill();
    node?.peers.close();
    if (node !== undefined) this.logs.writers.get(node.manager.log)?.cut();
  }

  async restart(): Promise<void> {
    this.kill();
    await this.start();
  }

  /** Every manager has opened what the map gave it when it started. */
  async opened(): Promise<void> {
    await Promise.all(this.managers.map(({ opened }) => opened));
  }

  /** Has slots move while they are used. Resolves when they are open there. */
  async move(slots: readonly number[], to: MemberId): Promise<void> {
    await this.peers.call(to, "takeSlots", { slots });
  }

  async mount(name: string): Promise<TestMount> {
    const mount = new TestMount(this, this.world.spawn(name));
    await mount.join();
    return mount;
  }

  /** Asserts what must hold whenever nothing is being applied. */
  async checkInvariants(): Promise<void> {
    for (const { parts } of this.managers) {
      parts.tokens.checkInvariants();
      await parts.host.between(async () => {
        for (const shard of parts.host.shards) await shard.checkInvariants();
      });
    }
  }
}
