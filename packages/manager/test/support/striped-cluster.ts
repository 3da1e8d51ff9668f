import {
  type Delta,
  findLog,
  type GroupId,
  type GroupVersion,
  type Handlers,
  helloHandlers,
  isDazzleError,
  LIMITS,
  type Limits,
  type LogId,
  MapCache,
  MapRegister,
  type MemberId,
  type MessageName,
  Peers,
  RecordKind,
  type Request,
  SegmentClass,
  type StoreId,
  serve,
  sleep,
} from "@dazzle/core";
import { LogWriter, segmentPoolFor } from "@dazzle/log";
import { Acceptor, FIRST_BALLOT, initialMap, keeperHandlers, LeaseBook, Manager, managerHandlers } from "@dazzle/manager";
import type { Instance, World } from "@dazzle/sim";
import { FragmentStore, storageHandlers } from "@dazzle/storage";
import { slotsOf, transactionOf } from "./transactions.ts";

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

/** Three nodes with a storage server each; the first is keeper and manager, too. All of it over simulated wires and drives. */
export class StripedCluster {
  readonly world: World;
  manager!: Manager;
  map!: MapCache;
  readonly stores = new Map<number, FragmentStore>();
  readonly nodes = new Map<number, Instance>();

  constructor(world: World) {
    this.world = world;
  }

  async start(): Promise<void> {
    const storeIds: StoreId[] = [];
    for (const member of SERVERS) {
      const node = this.world.spawn(`node${member}`);
      this.nodes.set(member, node);
      const { clock, random, logger } = node.ports;
      const store = await FragmentStore.open({ disk: node.diskAt("store"), clock, random, logger, limits: STRIPED, clusterId: CLUSTER_ID });
      this.stores.set(member, store);
      storeIds.push(store.storeId);
    }
    const keeper = (this.nodes.get(1) as Instance).diskAt("keeper");
    const acceptor =
      (await Acceptor.open(keeper, "map")) ??
      (await Acceptor.create(keeper, "map", { map: this.#firstMap(storeIds), accepted: FIRST_BALLOT }));
    for (const member of SERVERS) await this.#serve(member, acceptor);
  }

  #firstMap(stores: readonly StoreId[]) {
    const members = SERVERS.map((id) => ({
      id,
      name: `node${id}`,
      addresses: [nodeOf(id)],
      roles: id === 1 ? (["storage", "keeper"] as const) : (["storage"] as const),
      incarnation: 1,
      leaving: false,
      store: null,
    }));
    const map = initialMap({ clusterId: CLUSTER_ID, members, manager: 1 as MemberId });
    const servers = SERVERS.map((member, index) => ({ member, store: stores[index] as StoreId }));
    const version = { version: 1 as GroupVersion, servers, dataFragments: 2, parityFragments: 1, frozen: null };
    return { ...map, groups: [{ id: GROUP, name: "all", parity: 1, versions: [version], wanted: SERVERS }] };
  }

  async #serve(member: MemberId, acceptor: Acceptor): Promise<void> {
    const node = this.nodes.get(member) as Instance;
    const { network, clock, logger, processes } = node.ports;
    const first = acceptor.state.map;
    const map: MapCache = new MapCache(new MapRegister({ ...node.ports, peers: () => peers, map: first }), first);
    const leases = new LeaseBook({ clock, limits: STRIPED, map: () => map.current });
    const handlers: { -readonly [Name in keyof Handlers]: Handlers[Name] } = {
      ...helloHandlers(map.current.clusterId, member),
      ...storageHandlers({ store: this.stores.get(member) as FragmentStore, map, ports: { clock, logger } }),
      vouchGone: ({ process }) => ({ reply: { gone: processes.isGone(process) } }),
      ...(member === 1
        ? keeperHandlers(
            () => acceptor,
            () => leases,
          )
        : {}),
    };
    const peers: Peers = new Peers({ network, clock, map, handlers, self: member });
    if (member === 1) acceptor.onAccepted = ({ version }) => void map.reach(version).catch(() => {});
    await serve({ network, clock, map, handlers, address: nodeOf(member) });
    if (member !== 1) return;
    this.map = map;
    this.manager = await Manager.start({ member, map, peers, ports: node.ports, limits: STRIPED, group: GROUP });
    Object.assign(handlers, managerHandlers(this.manager));
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
export class StripedMount {
  readonly cluster: StripedCluster;
  readonly instance: Instance;
  log = 0;
  last = 0;
  readonly #lastOfSlot = new Map<number, number>();
  trimmedTo = 0;
  map!: MapCache;
  peers!: Peers;
  writer!: LogWriter;

  constructor(cluster: StripedCluster, instance: Instance) {
    this.cluster = cluster;
    this.instance = instance;
  }

  async join(): Promise<void> {
    const { network, clock, logger, processes } = this.instance.ports;
    const first = this.cluster.map.current;
    this.map = new MapCache(new MapRegister({ ...this.instance.ports, peers: () => this.peers, map: first }), first);
    this.peers = new Peers({ network, clock, map: this.map, handlers: { revoke: () => ({ reply: { open: false } }) }, self: null });
    const row = { kind: "mount" as const, member: 1 as MemberId, process: processes.self, groups: [GROUP], end: null, label: "" };
    const map = await this.map.change((now) => ({
      ...now,
      nextLog: now.nextLog + 1,
      logs: [...now.logs, { ...row, id: now.nextLog as LogId, state: "live" as const }],
    }));
    this.log = map.nextLog - 1;
    const pool = segmentPoolFor(STRIPED, 2, 1);
    const ports = { clock, logger };
    const { log, peers } = this;
    this.writer = new LogWriter({ map: this.map, peers, ports, limits: STRIPED, log, clusterId: CLUSTER_ID, group: GROUP, pool });
    await this.call("openMount", {});
  }

  async call<Name extends MessageName>(name: Name, request: Omit<Request<Name>, "mount">, tail: readonly Uint8Array[] = []) {
    return this.peers.call(1 as MemberId, name, { ...request, mount: this.log } as unknown as Request<Name>, { tail, deadlineMs: 60_000 });
  }

  /** Writes a segment with `dataBytes` of data and the transaction, stably; ships it where asked. */
  async write(dataBytes: number, deltas: (offset: number) => readonly Delta[], ship: boolean): Promise<void> {
    await this.writer.whenReady();
    const data = dataBytes === 0 ? undefined : this.writer.place(dataBytes);
    data?.bytes.fill(7);
    const bytes = transactionOf(deltas(data?.offset ?? 0));
    const placed = this.writer.place(bytes.length, true);
    if (placed === undefined) throw new Error("a test's transaction fits its segment");
    placed.bytes.set(bytes);
    const record = { kind: RecordKind.transaction, owner: 0, position: 0, term: 0, offset: placed.offset, length: bytes.length };
    const sealed = this.writer.seal([record], { class: SegmentClass.data, urgent: true });
    await sealed.stable;
    if (!ship) return;
    const { sequence, groupVersion } = sealed;
    const slots = slotsOf(bytes);
    const previous = slots.map((slot) => this.#lastOfSlot.get(slot) ?? 0);
    const touched = { touchedLow: 0xffffffff, touchedHigh: 0xffffffff };
    const request = { sequence, slots, previous, ...touched, group: GROUP, groupVersion, trimmedTo: this.trimmedTo };
    await this.call("ship", request, [bytes]);
    for (const slot of slots) this.#lastOfSlot.set(slot, sequence);
    this.last = sequence;
  }

  async settle(): Promise<void> {
    await this.call("renew", { trimmedTo: this.trimmedTo, settle: true });
    this.trimmedTo = this.last;
    this.writer.trimmedTo = this.last;
    await this.call("renew", { trimmedTo: this.trimmedTo, settle: false });
  }

  /** Answers once the manager is there. */
  async patiently<T>(action: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await action();
      } catch (error) {
        if (!isDazzleError(error, "unreachable", "notReady", "timedOut")) throw error;
        await sleep(this.instance.ports.clock, 100);
      }
    }
  }

  get state(): string | undefined {
    return findLog(this.cluster.map.current, this.log)?.state;
  }
}
