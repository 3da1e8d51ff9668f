import { type MountClient, RejoiningMount } from "@dazzle/client";
import {
  type Clock,
  type ClusterMap,
  currentVersion,
  type Disk,
  type FileSystem,
  findMember,
  type Group,
  type GroupId,
  type GroupVersion,
  type Limits,
  MapRegister,
  type Member,
  type MemberId,
  memberId,
  type Network,
  type Peers,
  type Role,
  readMapFrom,
  type StoreId,
  shapeOver,
  withGroup,
} from "@dazzle/core";
import { type Depth, type FsckReport, fsck, type OnProgress } from "@dazzle/fsck";
import { type Genesis, MachineNode } from "@dazzle/node";
import type { Instance, World } from "./world.ts";

const START_LIMIT_MS = 120_000;
const CONNECT_DEADLINE_MS = 1_000;
const FSCK_LIMIT_MS = 600_000;

/** What a test puts between the processes and their ports. */
export interface Disguise {
  disk?(disk: Disk, instance: Instance): Disk;
  network?(network: Network, instance: Instance): Network;
  clock?(clock: Clock, instance: Instance): Clock;
  /** Between a mount and who works on it. */
  fileSystem?(fileSystem: FileSystem): FileSystem;
}

export interface SimMount {
  readonly instance: Instance;
  readonly mount: RejoiningMount;
  /** The incarnation that the mount began with. */
  readonly client: MountClient;
  /** The mount's, as the disguise has it. */
  readonly fileSystem: FileSystem;
}

interface NodeProcess {
  readonly instance: Instance;
  /** Null while it starts. */
  node: MachineNode | null;
}

/** A whole cluster in one simulated machine: the shipping code of every role, one process a node, and mounts. */
export class SimCluster {
  readonly world: World;
  readonly limits: Limits;
  readonly clusterId: string;
  readonly genesis: Genesis;
  readonly numbers: readonly number[];
  /** The servers of the second group. */
  readonly second: readonly number[];
  readonly #data: number | undefined;
  readonly #disguise: Disguise;
  readonly #nodes = new Map<number, NodeProcess>();
  /** By node: how often its storage directory was emptied. */
  readonly #emptied = new Map<number, number>();
  #mounts = 0;
  #fscks = 0;

  constructor(
    world: World,
    options: {
      readonly limits: Limits;
      readonly nodes: number;
      readonly parity: number;
      /** The bound on the first group's data fragments, from `makeGroups` on; none where nothing is said. */
      readonly data?: number;
      /** How many of them, behind those of the first group, are servers of a second one, made by `makeGroups`. */
      readonly second?: number;
      /** How many of them the first stripe group has; all but those where nothing is said. */
      readonly servers?: number;
      /** How many of them are managers; the first where nothing is said. */
      readonly managers?: number;
      /** How many may keep the map; the first where nothing is said. */
      readonly keepers?: number;
      /** How many clean, of the last; none where nothing is said. */
      readonly cleaners?: number;
      readonly disguise?: Disguise;
    },
  ) {
    this.world = world;
    this.limits = options.limits;
    this.#data = options.data;
    this.#disguise = options.disguise ?? {};
    this.clusterId = Buffer.from(world.random.bytes(16)).toString("hex");
    const members = Array.from({ length: options.nodes }, (_, index) => {
      const number = index + 1;
      const roles: Role[] = ["storage"];
      if (number <= (options.managers ?? 1)) roles.push("manager");
      if (number <= (options.keepers ?? 1)) roles.push("keeper");
      if (number > options.nodes - (options.cleaners ?? 0)) roles.push("cleaner");
      return memberRow(number, roles);
    });
    this.genesis = {
      members,
      manager: memberId(1),
      servers: members.map(({ id }) => id).slice(0, options.servers ?? options.nodes - (options.second ?? 0)),
      parity: options.parity,
    };
    this.numbers = members.map(({ id }) => id);
    const first = this.genesis.servers.length;
    this.second = this.numbers.slice(first, first + (options.second ?? 0));
  }

  /** Where on its drive a node stores: elsewhere once its storage directory was emptied. */
  storageDirectory(number: number): string {
    return `storage${this.#emptied.get(number) ?? ""}`;
  }

  /** Starts a node's process on its own drive, new or again: time must pass for it to resolve. A start that fails ends the process. */
  async launchNode(number: number): Promise<MachineNode> {
    const instance = this.world.spawn(nodeName(number));
    const running: NodeProcess = { instance, node: null };
    this.#nodes.set(number, running);
    const row = this.genesis.members[number - 1] as Member;
    try {
      running.node = await MachineNode.start({
        ports: { ...instance.ports, network: this.#networkOf(instance), clock: this.#clockOf(instance) },
        limits: this.limits,
        clusterId: this.clusterId,
        member: row.id,
        roles: row.roles,
        address: row.addresses[0] as string,
        seeds: this.#seeds,
        storageDisk: this.#diskOf(instance, this.storageDirectory(number)),
        keeperDisk: this.#diskOf(instance, "keeper"),
        genesis: this.genesis,
      });
    } catch (error) {
      instance.kill();
      throw error;
    }
    return running.node;
  }

  startNode(number: number): Promise<MachineNode> {
    return this.world.run(this.launchNode(number), START_LIMIT_MS);
  }

  /** Starts every node that does not run, and waits until the manager's shards are open. */
  async startAll(): Promise<void> {
    const dead = this.numbers.filter((number) => !this.isAlive(number));
    await this.world.run(Promise.all(dead.map((number) => this.launchNode(number))), START_LIMIT_MS);
    await this.world.run(this.node(1).managing, START_LIMIT_MS);
  }

  /** The second group, where there are servers for one, with every one of them up; and the bound on the first, where there is to be one. */
  async makeGroups(): Promise<void> {
    const { parity } = this.genesis;
    const data = this.#data;
    if (data !== undefined)
      await this.world.run(
        this.node(1).map.change((now) => bounded(now, data)),
        START_LIMIT_MS,
      );
    const others = this.second.map((number) => memberId(number) as MemberId);
    if (others.length === 0) return;
    const { map } = this.node(1);
    const made = map.change((now) => {
      const listed = others.map((id) => ({ member: id, store: findMember(now, id).store as StoreId }));
      const shape = shapeOver(listed.length, Math.min(parity, listed.length - 1));
      const version = { version: 1 as GroupVersion, servers: listed, ...shape, frozen: null };
      const group = { id: 2 as GroupId, name: "second", parity, wanted: others, versions: [version] };
      return now.groups.length > 1 ? undefined : { ...now, groups: [...now.groups, group] };
    });
    await this.world.run(made, START_LIMIT_MS);
  }

  node(number: number): MachineNode {
    const node = this.#nodes.get(number)?.node;
    if (node === undefined || node === null) throw new Error(`node${number} has not started`);
    return node;
  }

  isAlive(number: number): boolean {
    return this.#nodes.get(number)?.instance.alive === true;
  }

  /** Whether it serves. */
  isUp(number: number): boolean {
    return this.isAlive(number) && this.#nodes.get(number)?.node !== null;
  }

  kill(number: number): void {
    this.#nodes.get(number)?.instance.kill();
  }

  /** The process dies, and its storage directory is empty when it starts again. */
  emptyStorage(number: number): void {
    this.kill(number);
    this.#emptied.set(number, (this.#emptied.get(number) ?? 0) + 1);
  }

  /** Stops a node's process for so long. */
  freeze(number: number, durationMs: number): void {
    this.#nodes.get(number)?.instance.freeze(durationMs);
  }

  /** A mount in a process of its own, on the machine of a node: time must pass for it to resolve. A start that fails ends the process. */
  async launchMount(machine = 1): Promise<SimMount> {
    const instance = this.world.spawn(`mount${++this.#mounts}`);
    const network = this.#networkOf(instance);
    const seeds = this.#seeds;
    try {
      const { random } = instance.ports;
      const clock = this.#clockOf(instance);
      const map = await firstOf(seeds, (seed) => readMapFrom(network, clock, seed, CONNECT_DEADLINE_MS));
      const mount = await RejoiningMount.start({
        ports: { ...instance.ports, network, clock },
        map,
        mapStore: (peers: () => Peers) => new MapRegister({ peers, clock, random, map, seeds }),
        member: memberId(machine),
        answersAt: `sim:${instance.name}`,
        label: instance.name,
        limits: this.limits,
        spool: { path: "spool", open: async () => instance.diskAt("spool") },
      });
      return { instance, mount, client: mount.client, fileSystem: this.#disguise.fileSystem?.(mount.fileSystem) ?? mount.fileSystem };
    } catch (error) {
      instance.kill();
      throw error;
    }
  }

  mount(machine = 1): Promise<SimMount> {
    return this.world.run(this.launchMount(machine), START_LIMIT_MS);
  }

  /** Looks through the cluster, from a process of its own: time must pass for it to resolve. */
  async launchFsck(depth: Depth, repair = false, onProgress: OnProgress = () => {}): Promise<FsckReport> {
    const instance = this.world.spawn(`fsck${++this.#fscks}`);
    const ports = { ...instance.ports, network: this.#networkOf(instance) };
    const seeds = this.#seeds;
    try {
      const map = await firstOf(seeds, (seed) => readMapFrom(ports.network, ports.clock, seed, CONNECT_DEADLINE_MS));
      return await fsck({ ports, map, seeds, depth, repair, limits: this.limits, onProgress });
    } finally {
      instance.kill();
    }
  }

  fsck(depth: Depth = "headers", repair = false, onProgress?: OnProgress): Promise<FsckReport> {
    return this.world.run(this.launchFsck(depth, repair, onProgress), FSCK_LIMIT_MS);
  }

  /** Where who knows nothing yet asks for the map: whoever may keep it. */
  get #seeds(): readonly string[] {
    return this.genesis.members.filter(({ roles }) => roles.includes("keeper")).flatMap(({ addresses }) => addresses);
  }

  #diskOf(instance: Instance, directory: string): Disk {
    const disk = instance.diskAt(directory);
    return this.#disguise.disk?.(disk, instance) ?? disk;
  }

  #clockOf(instance: Instance): Clock {
    const { clock } = instance.ports;
    return this.#disguise.clock?.(clock, instance) ?? clock;
  }

  #networkOf(instance: Instance): Network {
    const { network } = instance.ports;
    return this.#disguise.network?.(network, instance) ?? network;
  }
}

/** What the first of them answers that does; else how the last failed. */
async function firstOf<T>(addresses: readonly string[], ask: (address: string) => Promise<T>): Promise<T> {
  for (const [index, address] of addresses.entries()) {
    try {
      return await ask(address);
    } catch (error) {
      if (index === addresses.length - 1) throw error;
    }
  }
  throw new Error("there is nobody to ask");
}

export function nodeName(number: number): string {
  return `node${number}`;
}

function memberRow(number: number, roles: readonly Role[]): Member {
  return {
    id: memberId(number) as MemberId,
    name: nodeName(number),
    addresses: [`sim:${nodeName(number)}`],
    roles,
    incarnation: 1,
    leaving: false,
    store: null,
  };
}

/** The map in which the first group has a version with so many data fragments at most. */
function bounded(map: ClusterMap, dataMax: number): ClusterMap | undefined {
  const group = map.groups[0] as Group;
  const { version, servers, parityFragments } = currentVersion(group);
  if (group.dataMax !== undefined) return undefined;
  const row = { version: (version + 1) as GroupVersion, servers, ...shapeOver(servers.length, parityFragments, { dataMax }), frozen: null };
  return withGroup(map, { ...group, dataMax, versions: [...group.versions, row] });
}
