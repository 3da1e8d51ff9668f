import {
  type ClusterMap,
  type Delta,
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
  RecordKind,
  type Role,
  SegmentClass,
  type StoreId,
  serve,
} from "@dazzle/core";
import { LogWriter, segmentPoolFor } from "@dazzle/log";
import { Acceptor, FIRST_BALLOT, initialMap, keeperHandlers, LeaseBook, Manager, managerHandlers } from "@dazzle/manager";
import type { Instance, World } from "@dazzle/sim";
import { FragmentStore, reachesHandler, StoredBytes, storageHandlers } from "@dazzle/storage";
import { ShippingMount } from "./test-mount.ts";
import { transactionOf } from "./transactions.ts";

const CLUSTER_ID = "0123456789abcdef0123456789abcdef";
const SERVERS = [1, 2, 3] as MemberId[];
const GROUP = 1 as GroupId;

export const STRIPED: Limits = {
  ...LIMITS,
  fragmentBytes: 64 * 1024,
  transactionBytes: 64 * 1024,
  dirtyBytes: 1024 * 1024,
  volumeBytes: 1024 * 1024,
  segmentsInFlight: 4,
  memtableBytes: 100_000,
  checkpointIntervalMs: 3_000,
};

const nodeOf = (member: number) => `unix:node${member}`;

/** Three nodes with a storage server each; the first is keeper, too, and the manager where no others are asked for. All of it over simulated wires
 * and drives. */
export class StripedCluster {
  readonly world: World;
  readonly #managing: readonly MemberId[];
  readonly #managers = new Map<number, Manager>();
  #acceptor!: Acceptor;
  #peers!: Peers;
  /** As the keeper has it. */
  map!: MapCache;
  readonly stores = new Map<number, FragmentStore>();
  readonly nodes = new Map<number, Instance>();

  constructor(world: World, managers: readonly number[] = [1]) {
    this.world = world;
    this.#managing = managers as MemberId[];
  }

  /** The first one. */
  get manager(): Manager {
    return this.#managers.get(this.#managing[0] as number) as Manager;
  }

  /** Those whose process lives. */
  get managers(): readonly Manager[] {
    return [...this.#managers].filter(([member]) => this.nodes.get(member)?.alive === true).map(([, manager]) => manager);
  }

  /** Every manager has opened what the map gave it when it started. */
  async opened(): Promise<void> {
    await Promise.all(this.managers.map(({ opened }) => opened));
  }

  async start(): Promise<void> {
    for (const member of SERVERS) await this.#openStore(member);
    const keeper = (this.nodes.get(1) as Instance).diskAt("keeper");
    this.#acceptor =
      (await Acceptor.open(keeper, "map")) ?? (await Acceptor.create(keeper, "map", { map: this.#firstMap(), accepted: FIRST_BALLOT }));
    for (const member of SERVERS) await this.#serve(member);
  }

  kill(member: number): void {
    this.nodes.get(member)?.kill();
  }

  /** Has slots move while they are used. Resolves when they are open there. */
  async move(slots: readonly number[], to: number): Promise<void> {
    await this.#peers.call(to as MemberId, "takeSlots", { slots });
  }

  /** After it was killed; not the first. */
  async startNode(member: MemberId): Promise<void> {
    await this.#openStore(member);
    await this.#serve(member);
  }

  async #openStore(member: MemberId): Promise<void> {
    const node = this.world.spawn(`node${member}`);
    this.nodes.set(member, node);
    const { clock, random, logger } = node.ports;
    const options = { disk: node.diskAt("store"), clock, random, logger, limits: STRIPED, clusterId: CLUSTER_ID };
    this.stores.set(member, await FragmentStore.open(options));
  }

  /** With several managers, the slots are dealt out in turn. */
  #firstMap(): ClusterMap {
    const storeOf = (member: MemberId) => this.stores.get(member)?.storeId as StoreId;
    const members = SERVERS.map((id): Member => {
      const roles: Role[] = id === 1 ? ["storage", "keeper"] : ["storage"];
      if (this.#managing.includes(id)) roles.push("manager");
      return { id, name: `node${id}`, addresses: [nodeOf(id)], roles, incarnation: 1, leaving: false, store: storeOf(id) };
    });
    const map = initialMap({ clusterId: CLUSTER_ID, members, manager: this.#managing[0] as MemberId });
    const servers = SERVERS.map((member) => ({ member, store: storeOf(member) }));
    const version = { version: 1 as GroupVersion, servers, dataFragments: 2, parityFragments: 1, frozen: null };
    return {
      ...map,
      slots: map.slots.map((row, slot) => ({ ...row, manager: this.#managing[slot % this.#managing.length] as MemberId })),
      groups: [{ id: GROUP, name: "all", parity: 1, versions: [version], wanted: SERVERS }],
    };
  }

  async #serve(member: MemberId): Promise<void> {
    const node = this.nodes.get(member) as Instance;
    const { network, clock, logger, processes } = node.ports;
    const acceptor = this.#acceptor;
    const first = acceptor.state.map;
    const map: MapCache = new MapCache(new MapRegister({ ...node.ports, peers: () => peers, map: first }), first);
    const leases = new LeaseBook({ clock, limits: STRIPED, map: () => map.current });
    const handlers: { -readonly [Name in keyof Handlers]: Handlers[Name] } = {
      ...helloHandlers(map.current.clusterId, member),
      ...storageHandlers({ store: this.stores.get(member) as FragmentStore, map, ports: { clock, logger }, stored: new StoredBytes() }),
      vouchGone: ({ process }) => ({ reply: { gone: processes.isGone(process) } }),
      reaches: reachesHandler({ peers: () => peers, limits: STRIPED }),
      ...(member === 1
        ? keeperHandlers(
            () => acceptor,
            () => leases,
          )
        : {}),
    };
    const peers: Peers = new Peers({ network, clock, map, handlers, self: member });
    if (member === 1) {
      this.map = map;
      this.#peers = peers;
      acceptor.onAccepted = ({ version }) => void map.reach(version).catch(() => {});
    }
    await serve({ network, clock, map, handlers, address: nodeOf(member) });
    if (!this.#managing.includes(member)) return;
    const manager = await Manager.start({ member, map, peers, ports: node.ports, limits: STRIPED, group: GROUP });
    Object.assign(handlers, managerHandlers(manager));
    this.#managers.set(member, manager);
  }

  get usedBytes(): number {
    return [...this.stores.values()].reduce((sum, store) => sum + store.stat().bytesUsed, 0);
  }

  async mount(name: string): Promise<StripedMount> {
    const mount = new StripedMount(this, this.world.spawn(name));
    await mount.join();
    return mount;
  }
}

/** A mount with a real log. */
export class StripedMount extends ShippingMount {
  writer!: LogWriter;

  constructor(cluster: { readonly map: MapCache }, instance: Instance) {
    super(() => cluster.map.current, instance);
  }

  protected override openLog(): void {
    const { clock, logger } = this.instance.ports;
    const pool = segmentPoolFor(STRIPED, 2);
    const { log, peers, map } = this;
    this.writer = new LogWriter({ map, peers, ports: { clock, logger }, limits: STRIPED, log, clusterId: CLUSTER_ID, group: GROUP, pool });
  }

  protected override trimLog(): void {
    this.writer.trimmedTo = this.trimmedTo;
  }

  protected override cutLog(): void {}

  /** Writes a segment with `dataBytes` of data and the transaction, stably; ships it where asked. */
  async write(
    dataBytes: number,
    deltas: (offset: number) => readonly Delta[],
    ship: boolean,
    segmentClass: SegmentClass = SegmentClass.data,
  ): Promise<number> {
    await this.writer.whenReady();
    const data = dataBytes === 0 ? undefined : this.writer.place(dataBytes);
    data?.bytes.fill(7);
    const bytes = transactionOf(deltas(data?.offset ?? 0));
    const placed = this.writer.place(bytes.length, true);
    if (placed === undefined) throw new Error("a test's transaction fits its segment");
    placed.bytes.set(bytes);
    const record = { kind: RecordKind.transaction, owner: 0, position: 0, term: 0, offset: placed.offset, length: bytes.length };
    const sealed = this.writer.seal([record], { class: segmentClass, urgent: true });
    await sealed.stable;
    this.logged(sealed.sequence, sealed.groupVersion, bytes);
    if (ship) await this.patiently(() => this.ship());
    return sealed.sequence;
  }
}
