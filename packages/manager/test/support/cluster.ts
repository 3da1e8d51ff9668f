import {
  DazzleError,
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
  type Reply,
  type Request,
  SegmentClass,
  type SlotsProgress,
  type StoreId,
  serve,
  sleep,
} from "@dazzle/core";
import { Acceptor, FIRST_BALLOT, initialMap, keeperHandlers, LeaseBook, Manager, managerHandlers } from "@dazzle/manager";
import type { Instance, World } from "@dazzle/sim";
import { MemoryLogs, type MemoryWriter } from "./memory-logs.ts";
import { slotsOf, transactionOf } from "./transactions.ts";

export const MEMBER = 1 as MemberId;
const NODE = "unix:node";

export const SMALL: Limits = {
  ...LIMITS,
  memtableBytes: 200_000,
  runCacheBytes: 64 * 1024,
  runBlockBytes: 1024,
  checkpointIntervalMs: 3_000,
};

/** A node with keeper and manager whose logs are in memory; they outlive it as storage servers would. */
export class Cluster {
  readonly world: World;
  readonly limits: Limits;
  readonly logs = new MemoryLogs();
  /** What was deleted: "log/sequence". */
  readonly deleted: string[] = [];
  /** Called before each deletion. */
  onDelete: (log: number, sequence: number) => void = () => {};
  storageAway = false;
  node!: Instance;
  manager!: Manager;
  map!: MapCache;
  #peers: Peers | null = null;

  constructor(world: World, limits: Limits = SMALL) {
    this.world = world;
    this.limits = limits;
  }

  /** Starts the node's process, after `kill` or for the first time. Answers when the manager takes requests. */
  async start(): Promise<void> {
    const node = this.world.spawn("node", { diskDir: "node" });
    this.node = node;
    const disk = node.diskAt("keeper");
    const keeper =
      (await Acceptor.open(disk, "map")) ?? (await Acceptor.create(disk, "map", { map: this.#firstMap(), accepted: FIRST_BALLOT }));
    const register: MapRegister = new MapRegister({ ...node.ports, peers: () => peers, map: keeper.state.map });
    const map: MapCache = new MapCache(register, keeper.state.map);
    this.map = map;
    keeper.onAccepted = ({ version }) => void map.reach(version).catch(() => {});
    const leases = new LeaseBook({ clock: node.ports.clock, limits: this.limits, map: () => map.current });
    const handlers: Handlers = {
      ...keeperHandlers(
        () => keeper,
        () => leases,
      ),
      ...this.#storage(),
    };
    const all: { -readonly [Name in keyof Handlers]: Handlers[Name] } = {
      ...helloHandlers(map.current.clusterId, MEMBER),
      ...handlers,
      vouchGone: ({ process }) => ({ reply: { gone: node.ports.processes.isGone(process) } }),
    };
    const { network, clock } = node.ports;
    const peers: Peers = new Peers({ network, clock, map, handlers: all, self: MEMBER });
    this.#peers = peers;
    const { limits, logs } = this;
    this.manager = await Manager.start({ member: MEMBER, map, peers, ports: node.ports, limits, group: 1, logs: logs.access(map, clock) });
    Object.assign(all, managerHandlers(this.manager));
    await serve({ network, clock, map, handlers: all, address: NODE });
  }

  #firstMap() {
    const map = initialMap({
      clusterId: "0123456789abcdef0123456789abcdef",
      members: [
        {
          id: MEMBER,
          name: "node",
          addresses: [NODE],
          roles: ["storage", "manager", "keeper"],
          incarnation: 1,
          leaving: false,
          store: null,
        },
      ],
      manager: MEMBER,
    });
    const servers = [{ member: MEMBER, store: "00000000000000000000000000000001" as StoreId }];
    const version = { version: 1 as GroupVersion, servers, dataFragments: 1, parityFragments: 0, frozen: null };
    return { ...map, groups: [{ id: 1 as GroupId, name: "all", parity: 0, versions: [version], wanted: [MEMBER] }] };
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
        }));
        return { reply: { fragments, more: sequences.length > limit, stableSequence: 0, trimmedTo: 0, boot: "" } };
      },
      listLogs: () => {
        check();
        return { reply: { logs: this.logs.all() } };
      },
    };
  }

  /** Ends the node's process at once; what its log had not made stable is lost. */
  kill(): void {
    this.node.kill();
    this.#peers?.close();
    this.logs.writers.get(this.manager.log)?.cut();
  }

  async restart(): Promise<void> {
    this.kill();
    await this.start();
  }

  async mount(name: string): Promise<TestMount> {
    const mount = new TestMount(this, this.world.spawn(name));
    await mount.join();
    return mount;
  }

  /** Asserts what must hold whenever nothing is being applied. */
  async checkInvariants(): Promise<void> {
    const { parts } = this.manager;
    if (parts === null) throw new Error("the manager has not loaded");
    parts.tokens.checkInvariants();
    await parts.host.between(async () => {
      for (const shard of parts.host.shards) await shard.checkInvariants();
    });
  }
}

/** A mount as a manager sees one: a log of transactions, shipped in order, and tokens that it gives back when asked. */
export class TestMount {
  readonly cluster: Cluster;
  readonly instance: Instance;
  readonly revoked: Array<{ ino: number; keepShared: boolean }> = [];
  /** What it does before it answers a revoke. */
  onRevoke: (ino: number) => Promise<void> = async () => {};
  /** Shipped and perhaps not stable at the manager. */
  unstable: Array<{ sequence: number; previous: ReadonlyMap<number, number>; bytes: Buffer }> = [];
  log = 0;
  lastShipped = 0;
  /** By slot. */
  readonly lastOfSlot = new Map<number, number>();
  trimmedTo = 0;
  /** Everything up to here is stable at the manager. */
  stable = 0;
  readonly stableOfSlot = new Map<number, number>();
  readonly peers: Peers;
  map!: MapCache;
  #writer!: MemoryWriter;

  constructor(cluster: Cluster, instance: Instance) {
    this.cluster = cluster;
    this.instance = instance;
    const { network, clock } = instance.ports;
    const map = cluster.map.current;
    this.map = new MapCache(new MapRegister({ ...instance.ports, peers: () => this.peers, map }), map);
    const handlers: Handlers = {
      revoke: async ({ ino, keepShared }) => {
        this.revoked.push({ ino, keepShared });
        await this.onRevoke(ino);
        return { reply: { open: false } };
      },
    };
    this.peers = new Peers({ network, clock, map: this.map, handlers, self: null });
  }

  async join(): Promise<void> {
    const { self } = this.instance.ports.processes;
    const map = await this.map.change((now) => ({
      ...now,
      nextLog: now.nextLog + 1,
      logs: [
        ...now.logs,
        {
          id: now.nextLog as LogId,
          kind: "mount",
          member: MEMBER,
          process: self,
          state: "live",
          groups: [1 as GroupId],
          end: null,
          label: this.instance.name,
        },
      ],
    }));
    this.log = map.nextLog - 1;
    this.#writer = this.cluster.logs.writer(this.log, this.instance.ports.clock);
    await this.open();
  }

  async call<Name extends MessageName>(name: Name, request: Omit<Request<Name>, "mount">, tail: readonly Uint8Array[] = []) {
    return this.peers.call(MEMBER, name, { ...request, mount: this.log } as unknown as Request<Name>, { tail, deadlineMs: 60_000 });
  }

  /** Opens at the manager, once it is there. */
  async open(): Promise<Reply<"openMount">> {
    for (;;) {
      try {
        const { reply } = await this.call("openMount", {});
        this.#learn(reply);
        return reply;
      } catch (error) {
        if (!isDazzleError(error, "unreachable")) throw error;
        await sleep(this.instance.ports.clock, 100);
      }
    }
  }

  #learn({ slots, stable }: Pick<SlotsProgress, "slots" | "stable">): void {
    for (const [index, slot] of slots.entries()) this.stableOfSlot.set(slot, stable[index] ?? 0);
    this.unstable = this.unstable.filter(({ sequence, previous }) =>
      [...previous.keys()].some((slot) => (this.stableOfSlot.get(slot) ?? 0) < sequence),
    );
    this.stable = (this.unstable[0]?.sequence ?? this.lastShipped + 1) - 1;
  }

  /** Logs a transaction, stably, without shipping it. Answers its sequence. */
  async write(deltas: readonly Delta[]): Promise<number> {
    const bytes = transactionOf(deltas);
    const placed = this.#writer.place(bytes.length, true);
    if (placed === undefined) throw new Error("a test's transaction fits its segment");
    placed.bytes.set(bytes);
    const record = { kind: RecordKind.transaction, owner: 0, position: 0, term: 0, offset: placed.offset, length: bytes.length };
    const { sequence } = this.#writer.seal([record], { class: SegmentClass.data, urgent: true });
    await this.#writer.flush(sequence);
    const previous = new Map(slotsOf(bytes).map((slot) => [slot, this.lastOfSlot.get(slot) ?? 0]));
    this.unstable.push({ sequence, previous, bytes });
    for (const slot of previous.keys()) this.lastOfSlot.set(slot, sequence);
    this.lastShipped = sequence;
    return sequence;
  }

  /** Ships everything that was logged and is not known to be stable. */
  async ship(): Promise<void> {
    for (const { sequence, previous, bytes } of [...this.unstable]) await this.shipOne(sequence, previous, bytes);
  }

  async shipOne(sequence: number, previous: ReadonlyMap<number, number>, bytes: Uint8Array): Promise<Reply<"ship">> {
    const slots = [...previous.keys()];
    const touched = { touchedLow: 0xffffffff, touchedHigh: 0xffffffff };
    const request = { sequence, slots, previous: [...previous.values()], ...touched, group: 1, groupVersion: 1, trimmedTo: this.trimmedTo };
    const { reply } = await this.call("ship", request, [bytes]);
    this.#learn({ slots, stable: reply.stable });
    return reply;
  }

  async change(deltas: readonly Delta[]): Promise<number> {
    const sequence = await this.write(deltas);
    await this.ship();
    return sequence;
  }

  /** Everything shipped is stable at the manager, and the log is trimmed that far. */
  async settle(): Promise<void> {
    const { reply } = await this.call("renew", { trimmedTo: this.trimmedTo, settle: true });
    this.#learn(reply);
    this.trimmedTo = this.stable;
    await this.call("renew", { trimmedTo: this.trimmedTo, settle: false });
  }

  async acquire(ino: number, exclusive = false): Promise<boolean> {
    const { reply } = await this.call("acquire", { ino, exclusive });
    return reply.exclusive;
  }

  get state(): string | undefined {
    return findLog(this.cluster.map.current, this.log)?.state;
  }

  kill(): void {
    this.instance.kill();
    this.peers.close();
    this.#writer.cut();
  }
}
