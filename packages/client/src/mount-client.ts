import {
  type Address,
  type ClusterMap,
  DazzleError,
  findLog,
  type GroupId,
  type Handlers,
  isDazzleError,
  type Limits,
  type LogAddress,
  type LogId,
  type LogRow,
  MapCache,
  type MapStore,
  type MemberId,
  NO_REGIONS,
  Peers,
  type Ports,
  type RegionRange,
  ROOT,
  type RpcPeer,
  registerLog,
  SLOTS,
  slotOf,
  type Timer,
  withDeadline,
} from "@dazzle/core";
import { firstGroup, LogReader, LogWriter, type SealedSegment, SpaceCredits, segmentPoolForGroups } from "@dazzle/log";
import { type Holdings, noHoldings } from "./claims.ts";
import { ClientFileSystem } from "./client-file-system.ts";
import { Directories } from "./directory.ts";
import { KernelState } from "./expulsion/kernel-state.ts";
import { LeaseGuard, STOP_BEFORE_MS } from "./expulsion/lease-guard.ts";
import { collectUnsaved, type Unsaved } from "./expulsion/unsaved.ts";
import { FileData } from "./file-data.ts";
import { IndexNumbers } from "./index-numbers.ts";
import { Journal, type Logged } from "./journal.ts";
import { Listing } from "./listing.ts";
import { Locks } from "./locks.ts";
import { Managers } from "./managers.ts";
import { Namespace } from "./namespace.ts";
import { ObjectTable } from "./object-table.ts";
import { PeerCaches } from "./peer-caches.ts";
import { SegmentCache } from "./segment-cache.ts";
import { Statistics } from "./statistics.ts";

/** Kept off the kernel's timeouts, so that they end before the lease does. */
const LEASE_MARGIN_MS = 500;
/** So often that a cut of half a lease leaves the manager without a sign of life for little longer than that. */
const RENEWALS_A_LEASE = 8;
/** How often it is looked whether a lease is about to end: a small part of STOP_BEFORE_MS. */
const LEASE_LOOK_MS = 200;
const CLOSE_DEADLINE_MS = 30_000;

export interface MountClientOptions {
  readonly ports: Ports;
  /** The map as it was read when the process started, and where it is decided. */
  readonly map: ClusterMap;
  /** Made with this mount's own connections. */
  readonly mapStore: (peers: () => Peers) => MapStore;
  /** The member on whose machine this mount runs; `NO_MEMBER` on any other. */
  readonly member: MemberId;
  /** Sockets of the members on this machine. */
  readonly near?: ReadonlyMap<number, Address>;
  /** Where other mounts are to ask for what this one has in memory, if anywhere; `tcp:HOST:0` takes any port. */
  readonly answersAt?: Address;
  /** Where it is mounted, for people. */
  readonly label: string;
  readonly limits: Limits;
  /** What the kernel has of an incarnation before this one; nothing where nothing is said. */
  readonly kernel?: KernelState;
  readonly events?: MountEvents;
}

export interface MountEvents {
  /** A manager has not renewed the lease, which ends in STOP_BEFORE_MS: nothing under it is served any more, and the kernel must drop what it has. */
  leaseStopped(): void;
  /** The map says that the log is not live any more. Nothing is served from now on; `abandon` is what is left to do. */
  expelled(error: DazzleError): void;
}

/** A mount: one log, one cache, one filesystem for the kernel. */
export class MountClient {
  readonly #ports: Ports;
  readonly #limits: Limits;
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #member: MemberId;
  readonly log: LogId;
  readonly #writer: LogWriter;
  readonly #reader: LogReader;
  readonly #journal: Journal;
  readonly #objects: ObjectTable;
  readonly #lease: LeaseGuard;
  readonly #cache: SegmentCache;
  readonly #locks: Locks;
  readonly #numbers: IndexNumbers;
  readonly fileSystem: ClientFileSystem;
  readonly #managers: Managers;
  readonly #timers = new Set<Timer>();
  /** Transactions of sealed segments, until the segment is stable and they are shipped. */
  readonly #sealed = new Map<number, Buffer>();
  readonly #events: MountEvents | undefined;
  readonly #peerCaches: PeerCaches;
  /** Segments up to here are made stable because another mount wants what they hold: they stay in memory. */
  #wantedTo = 0;
  #expelled: DazzleError | null = null;
  #closing = false;

  private constructor(options: MountClientOptions, map: MapCache, peers: Peers, row: LogRow) {
    const { ports, limits } = options;
    this.#ports = ports;
    this.#limits = limits;
    this.#map = map;
    this.#peers = peers;
    this.#member = options.member;
    this.#events = options.events;
    this.log = row.id;
    const group = row.groups[0] as GroupId;
    const pool = segmentPoolForGroups(limits, map.current.groups);
    const { clusterId } = map.current;
    const { clock, logger } = ports;
    this.#writer = new LogWriter({ log: row.id, clusterId, group, spreads: true, map, peers, ports: { clock, logger }, limits, pool });
    this.#reader = new LogReader({
      map,
      peers,
      ports: { clock, logger },
      limits,
      local: (log, sequence, offset, length) => this.#local(log, sequence, offset, length),
    });
    this.#journal = new Journal(this.#writer, limits, (segment, logged) => this.#sealedOne(segment, logged));
    this.#writer.onStable((segment) => this.#stable(segment));
    const mount = row.id;
    this.#managers = new Managers({
      mount,
      peers,
      map,
      clock,
      logger,
      limits,
      ports: {
        opening: (manager, peer) => this.#opening(manager, peer),
        progressed: () => this.#trim(),
        trimmedTo: () => this.#writer.trimmedTo,
        holdings: (slots) => this.#holdings(slots),
        declareLocks: (slot, peer) => this.#locks.declare((ino) => slotOf(ino) === slot, peer),
      },
    });
    const links = (ino: number) => this.#managers.of(ino);
    const journal = this.#journal;
    const kernel = options.kernel ?? new KernelState();
    const { handles } = kernel;
    const sources = (ino: number) => this.#managers.linkOf(slotOf(ino));
    this.#lease = new LeaseGuard({ sources, endMs: (ino) => this.#leaseEndMs(ino), clock, logger, limits });
    this.#objects = new ObjectTable({ mount, links, journal, kernel, lease: this.#lease, clock, logger, limits });
    const objects = this.#objects;
    this.#cache = new SegmentCache(limits.cacheBytes);
    const directories = new Directories({ mount, objects, links });
    this.#numbers = new IndexNumbers(async (slot) => {
      const { reply } = await this.#managers.ofSlot(slot).call("numbers", { mount, slot, count: limits.numbersLeased });
      return reply;
    });
    const names = new Namespace({
      mount,
      objects,
      directories,
      journal,
      handles,
      numbers: this.#numbers,
      links,
      clock,
      localSlots: () => this.#localSlots(),
    });
    const [reader, cache] = [this.#reader, this.#cache];
    const own = ({ log, sequence, offset, length }: LogAddress) => cache.whole(log, sequence, offset, length);
    const peerCaches = new PeerCaches({ peers, own });
    this.#peerCaches = peerCaches;
    const data = new FileData({ mount, journal, reader, cache, peerCaches, objects, links, clock, limits });
    const space = new SpaceCredits({
      log: row.id,
      map,
      peers,
      ports: { clock, logger },
      limits,
      unstoredBytes: () => this.#writer.unstableBytes,
    });
    const statistics = new Statistics({ map, peers, clock });
    this.#locks = new Locks({ mount, links, lease: this.#lease, logger });
    this.fileSystem = new ClientFileSystem({
      objects,
      listing: new Listing({ objects, directories, links }),
      handles,
      directories,
      names,
      data,
      journal,
      space,
      statistics,
      locks: this.#locks,
      clock,
      validMs: (ino) => this.#validMs(ino),
    });
  }

  /** Registers a new log in the map and meets the managers. Rejects with what is missing. */
  static async start(options: MountClientOptions): Promise<MountClient> {
    const holder: { client: MountClient | null; peers: Peers | null } = { client: null, peers: null };
    const map = new MapCache(
      options.mapStore(() => holder.peers as Peers),
      options.map,
    );
    const started = (): MountClient => {
      if (holder.client === null) throw new DazzleError("notReady", "the mount has not started");
      return holder.client;
    };
    const handlers: Handlers = {
      revoke: async ({ ino, keepShared, from, to, grant, slot, term }) => {
        const { client } = holder;
        if (client === null) return { reply: { open: false, ...NO_REGIONS } };
        client.#managers.checkTerm(slot, term);
        client.#wantedTo = client.#writer.openSequence;
        const reply = await client.#objects.revoke({ ino, keepShared, wanted: { from, to }, count: grant });
        // This mount may have claimed it at another manager meanwhile, which alone has what was done under it.
        client.#managers.checkTerm(slot, term);
        return { reply };
      },
      peekHolder: async ({ inos, slot, term, grant }) => {
        const client = started();
        client.#managers.checkTerm(slot, term);
        const { inode, shared } = await client.#objects.peeked(inos, grant);
        return { reply: { changing: inode !== undefined, shared }, ...(inode === undefined ? {} : { tail: [inode] }) };
      },
      slotOpening: ({ slot, term }) => {
        if (holder.client !== null) holder.client.#managers.slotOpening(slot, term);
        return { reply: {} };
      },
      lockGranted: ({ ino, number, declared, order, slot, term }) => {
        const client = started();
        if (client.#managers.isCurrent(slot, term)) client.#locks.granted(ino, number, declared, order);
        return { reply: {} };
      },
      returnLocks: async ({ ino, slot, term }) => {
        const client = started();
        client.#managers.checkTerm(slot, term);
        const held = await client.#locks.returned(ino);
        client.#managers.checkTerm(slot, term);
        return { reply: { held } };
      },
    };
    const { network, clock, processes } = options.ports;
    const near = options.near ?? new Map();
    const peers = new Peers({ network, clock, map, handlers, self: null, process: processes.self, near });
    holder.peers = peers;
    try {
      const group = await firstGroup({ map, peers, ports: options.ports, limits: options.limits });
      const row = await registerLog(map, { ...options, kind: "mount", ...(group === undefined ? {} : { group }) });
      const client = new MountClient(options, map, peers, row);
      holder.client = client;
      if (options.answersAt !== undefined) await client.#peerCaches.listen({ ...options.ports, map, address: options.answersAt });
      await client.#begin();
      return client;
    } catch (error) {
      peers.close();
      throw error;
    }
  }

  async #begin(): Promise<void> {
    // The other managers are met when something of theirs is first needed.
    await this.#managers.open(slotOf(ROOT));
    this.#every(this.#limits.flushIntervalMs, () => {
      this.#journal.flushSoon();
      this.#objects.dropApplied();
      this.#locks.retell();
    });
    this.#every(Math.floor(this.#limits.mountLeaseMs / RENEWALS_A_LEASE), () => this.#managers.renew(this.counters()));
    this.#every(LEASE_LOOK_MS, () => this.#lookAtLeases());
    this.#map.onChange(() => this.#checkLive());
    this.#checkLive();
  }

  /** Set once this mount is expelled. */
  get expelled(): DazzleError | null {
    return this.#expelled;
  }

  /** The map, as far as it is known here. */
  get map(): MapCache {
    return this.#map;
  }

  #checkLive(): void {
    const state = findLog(this.#map.current, this.log)?.state;
    if (state === "live" || this.#closing || this.#expelled !== null) return;
    this.#expelled = new DazzleError("expelled", `mount ${this.log} is ${state ?? "not in the map any more"}`);
    this.#lease.end(this.#expelled);
    this.#locks.close(this.#expelled);
    this.#stop();
    this.#events?.expelled(this.#expelled);
  }

  #lookAtLeases(): void {
    const slots = this.#managers.leases.lapsed(this.#ports.clock.nowMs() + STOP_BEFORE_MS);
    if (slots.length === 0) return;
    for (const manager of this.#managers.namesOf(slots))
      this.#ports.logger("warning", "a manager does not renew the lease: requests wait", { log: this.log, manager });
    this.#events?.leaseStopped();
  }

  #every(intervalMs: number, action: () => void): void {
    const again = () => {
      this.#timers.delete(timer);
      if (this.#closing) return;
      action();
      timer = this.#ports.clock.after(intervalMs, again);
      this.#timers.add(timer);
    };
    let timer = this.#ports.clock.after(intervalMs, again);
    this.#timers.add(timer);
  }

  async #opening(manager: MemberId, peer: RpcPeer): Promise<void> {
    const { address } = this.#peerCaches;
    if (address !== null) await peer.call("answersAt", { mount: this.log, address });
    // A slot that is not there after all is claimed where it is.
    await this.#locks
      .declare((ino) => this.#managerOf(ino) === manager, peer)
      .catch((error: unknown) => {
        if (!isDazzleError(error, "staleMap")) throw error;
      });
  }

  /** What new managers of these slots must know. */
  #holdings(slots: ReadonlySet<number>): ReadonlyMap<number, Holdings> {
    const held = new Map([...slots].map((slot) => [slot, noHoldings()]));
    this.#objects.claimed(slots, (slot) => held.get(slot) as Holdings);
    for (const slot of slots) held.get(slot)?.numbers.push(...this.#numbers.claimed(slot));
    return held;
  }

  #managerOf(ino: number): MemberId | null | undefined {
    return this.#map.current.slots[slotOf(ino)]?.manager;
  }

  #localSlots(): readonly number[] {
    if (this.#slotsOfVersion !== this.#map.version) {
      this.#slotsOfVersion = this.#map.version;
      this.#slots = [];
      for (let slot = 0; slot < SLOTS; slot++) if (this.#map.current.slots[slot]?.manager === this.#member) this.#slots.push(slot);
    }
    return this.#slots;
  }

  #slotsOfVersion = -1;
  #slots: number[] = [];

  #local(log: number, sequence: number, offset: number, length: number): Buffer | undefined {
    return log === this.log ? this.#writer.read(sequence, offset, length) : undefined;
  }

  #sealedOne(_segment: SealedSegment, logged: Logged): void {
    this.#sealed.set(logged.sequence, logged.transaction);
  }

  /** A segment is stable: its transaction is shipped, in log order. */
  #stable(segment: SealedSegment): void {
    if (segment.sequence <= this.#wantedTo) this.#cache.put(this.log, segment.sequence, 0, [Buffer.from(segment.payload)]);
    const transaction = this.#sealed.get(segment.sequence);
    this.#sealed.delete(segment.sequence);
    if (transaction === undefined || transaction.length === 0) {
      this.#trim();
      return;
    }
    this.#managers.shipping.ship(segment.sequence, segment.group, segment.groupVersion, transaction);
  }

  /** Everything up to here is stable at every manager concerned (rule 24). */
  #trim(): void {
    const trimmed = this.#managers.shipping.trimmable(this.#writer.stableSequence);
    if (trimmed > this.#writer.trimmedTo) this.#writer.trimmedTo = trimmed;
  }

  #leaseEndMs(ino: number): number {
    return this.#managers.leases.endMs(slotOf(ino));
  }

  /** How long the kernel may keep what it is told of an index number. */
  #validMs(ino: number): number {
    const leftMs = this.#leaseEndMs(ino) - this.#ports.clock.nowMs() - LEASE_MARGIN_MS;
    return Math.max(0, Math.min(this.#limits.mountLeaseMs, leftMs));
  }

  /** Everything done before is durable when it resolves. Answers the sequence that holds it. */
  sync(): Promise<number> {
    return this.#journal.commit();
  }

  counters(): Record<string, number> {
    const sent = [...this.#peers.sent];
    const { reader, writer } = { reader: this.#reader.counters, writer: this.#writer.counters };
    return {
      ...this.fileSystem.counters,
      nodes: this.#objects.size,
      references: this.#objects.references,
      cacheBytes: this.#cache.bytes,
      cacheHits: this.#cache.hits,
      cacheMisses: this.#cache.misses,
      unstableBytes: this.#writer.unstableBytes,
      stableSequence: this.#writer.stableSequence,
      trimmedTo: this.#writer.trimmedTo,
      slotsClaimed: this.#managers.claimed,
      messages: sent.reduce((sum, [, count]) => sum + count, 0),
      ...Object.fromEntries(sent.map(([name, count]) => [`messages.${name}`, count])),
      ...Object.fromEntries(Object.entries(this.#peerCaches.counters).map(([name, value]) => [`peer.${name}`, value])),
      ...Object.fromEntries(Object.entries(writer).map(([name, value]) => [`log.${name}`, value])),
      ...Object.fromEntries(Object.entries(reader).map(([name, value]) => [`read.${name}`, value])),
    };
  }

  /** Tokens that may be used now: index numbers, whether they are held alone, and what of the file. For tests. */
  *tokens(): Iterable<readonly [ino: number, alone: boolean, range: RegionRange]> {
    for (const { ino, token, range, leaving } of this.#objects.nodes)
      if (!leaving && this.#lease.holds(ino)) yield [ino, token !== "shared", range];
  }

  checkInvariants(): void {
    this.#objects.checkInvariants();
  }

  /** A clean end: everything durable, applied and trimmed, the log closed. Past the deadline the log is left to recovery. Answers whether it was clean. */
  async close(): Promise<boolean> {
    if (this.#closing) return true;
    this.#closing = true;
    for (const timer of this.#timers) timer.cancel();
    let clean = true;
    try {
      await withDeadline(this.#ports.clock, CLOSE_DEADLINE_MS, "a clean unmount", this.#finish());
    } catch (error) {
      clean = false;
      this.#ports.logger("warning", "the log is left to recovery", { log: this.log, reason: (error as Error).message });
    }
    await this.#end();
    return clean;
  }

  /** Nothing is shipped or written any more. What is in memory stays there, for whoever saves it, and the map can still be read. */
  #stop(): void {
    this.#closing = true;
    for (const timer of this.#timers) timer.cancel();
    this.#managers.close();
    void this.#writer.close();
    void this.#peerCaches.close();
  }

  /** Its end once it is expelled. */
  abandon(): void {
    this.#stop();
    this.#peers.close();
  }

  /** What would be lost if nothing behind sequence `saved` of the log survived; everything that is not stable where nothing is said. */
  unsaved(saved = this.#writer.stableSequence): Unsaved {
    return collectUnsaved({ nodes: this.#objects.nodes, writer: this.#writer, transactions: this.#sealed, saved });
  }

  get stableSequence(): number {
    return this.#writer.stableSequence;
  }

  async #end(): Promise<void> {
    this.#locks.close(new DazzleError("cancelled", "the mount is closing"));
    this.#managers.close();
    await this.#peerCaches.close();
    await this.#writer.close();
    this.#peers.close();
  }

  async #finish(): Promise<void> {
    const end = await this.#journal.commit();
    await this.#managers.settle();
    this.#trim();
    await this.#managers.closeMount(end);
  }
}
