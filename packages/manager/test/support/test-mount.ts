import {
  type ClusterMap,
  type Delta,
  decodeSections,
  findLog,
  type GroupId,
  type Handlers,
  isDazzleError,
  type LogId,
  MapCache,
  MapRegister,
  type MemberId,
  type MessageName,
  NO_REGIONS,
  NO_SLOTS,
  Peers,
  RecordKind,
  type RegionRange,
  type Reply,
  type Request,
  SegmentClass,
  type SlotMask,
  type SlotsProgress,
  sleep,
  slotOf,
  withSlot,
} from "@dazzle/core";
import type { Instance } from "@dazzle/sim";
import { HeldTokens } from "./held-tokens.ts";
import type { MemoryLogs, MemoryWriter } from "./memory-logs.ts";
import { slotsOf, transactionOf } from "./transactions.ts";

const RETRY_MS = 100;
const KEEP_ALIVE_MS = 1_000;

function maskOf(slots: Iterable<number>): SlotMask {
  let mask = NO_SLOTS;
  for (const slot of slots) mask = withSlot(mask, slot);
  return mask;
}

/** A transaction of the log. */
export interface Logged {
  readonly sequence: number;
  readonly groupVersion: number;
  /** By slot that it concerns: the sequence of the one before. */
  readonly previous: ReadonlyMap<number, number>;
  readonly bytes: Buffer;
}

/** A mount as managers see one: a log of transactions, shipped in order, and tokens that it gives back when asked. Where the log is, others say. */
export abstract class ShippingMount {
  /** As the keeper has it. */
  readonly #truth: () => ClusterMap;
  readonly instance: Instance;
  readonly held = new HeldTokens();
  readonly revoked: Array<{ ino: number; keepShared: boolean }> = [];
  /** What it does before it answers a revoke. */
  onRevoke: (ino: number) => Promise<void> = async () => {};
  /** Whether it says what it holds in slots that are opened. */
  claims = true;
  /** Shipped and perhaps not stable at the managers. */
  unstable: Logged[] = [];
  /** What it keeps when it is asked for something. */
  kept: RegionRange = NO_REGIONS;
  log = 0;
  lastShipped = 0;
  /** By slot. */
  readonly lastOfSlot = new Map<number, number>();
  trimmedTo = 0;
  /** Everything up to here is stable at the managers. */
  stable = 0;
  readonly stableOfSlot = new Map<number, number>();
  readonly peers: Peers;
  readonly map: MapCache;

  constructor(truth: () => ClusterMap, instance: Instance) {
    this.#truth = truth;
    this.instance = instance;
    const { network, clock } = instance.ports;
    const map = truth();
    this.map = new MapCache(new MapRegister({ ...instance.ports, peers: () => this.peers, map }), map);
    const handlers: Handlers = {
      revoke: async ({ ino, keepShared }) => {
        this.revoked.push({ ino, keepShared });
        await this.onRevoke(ino);
        this.held.revoked(ino, keepShared, this.kept);
        return { reply: { open: false, ...this.kept } };
      },
      slotOpening: ({ slot, term }) => {
        if (this.claims) void this.#claim(slot, term);
        return { reply: {} };
      },
    };
    this.peers = new Peers({ network, clock, map: this.map, handlers, self: null });
  }

  async join(): Promise<void> {
    const { self } = this.instance.ports.processes;
    const row = {
      kind: "mount" as const,
      member: 1 as MemberId,
      process: self,
      groups: [1 as GroupId],
      end: null,
      label: this.instance.name,
    };
    const map = await this.map.change((now) => ({
      ...now,
      nextLog: now.nextLog + 1,
      logs: [...now.logs, { ...row, id: now.nextLog as LogId, state: "live" as const }],
    }));
    this.log = map.nextLog - 1;
    this.openLog();
    await this.open();
  }

  /** Tells the new manager of a slot what is held there, until it has heard it or another one follows. */
  async #claim(slot: number, term: number): Promise<void> {
    while (this.map.current.slots[slot]?.term === term) {
      try {
        await this.call("claims", { slot, term, page: 0, more: false, ...this.held.of(slot) });
        return;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        await sleep(this.instance.ports.clock, RETRY_MS);
        await this.map.refresh().catch(() => {});
      }
    }
  }

  protected abstract openLog(): void;
  protected abstract trimLog(): void;
  /** Loses what is not stable. */
  protected abstract cutLog(): void;

  #ownerOf(slot: number): MemberId {
    return this.map.current.slots[slot]?.manager as MemberId;
  }

  /** Everybody who has a slot. */
  get managers(): MemberId[] {
    return [...new Set(this.map.current.slots.map((_, slot) => this.#ownerOf(slot)))];
  }

  /** Asks the manager of the number or slot that the request is about; else that of the root. */
  call<Name extends MessageName>(name: Name, request: Omit<Request<Name>, "mount">, tail: readonly Uint8Array[] = []) {
    const { ino, slot } = request as { ino?: number; slot?: number };
    return this.callAt(this.#ownerOf(slot ?? slotOf(ino ?? 1)), name, request, tail);
  }

  async callAt<Name extends MessageName>(
    member: MemberId,
    name: Name,
    request: Omit<Request<Name>, "mount">,
    tail: readonly Uint8Array[] = [],
  ) {
    const asked = { ...request, mount: this.log } as unknown as Request<Name>;
    const answered = await this.peers.call(member, name, asked, { tail, deadlineMs: 60_000 });
    this.held.note(name, request, answered.reply, answered.tail);
    return answered;
  }

  /** Until slots are where the map says, and managers are there. */
  async patiently<T>(action: () => Promise<T>): Promise<T> {
    for (let isOpen = true; ; ) {
      try {
        if (!isOpen) await this.open();
        isOpen = true;
        return await action();
      } catch (error) {
        if (!isDazzleError(error, "unreachable", "timedOut", "notReady", "staleMap", "outOfOrder")) throw error;
        await sleep(this.instance.ports.clock, RETRY_MS);
        // Where the keeper is away as well, it is known later.
        await this.map.refresh().catch(() => {});
        isOpen &&= isDazzleError(error, "staleMap", "outOfOrder");
      }
    }
  }

  /** Opens at every manager, once it is there. Answers what the root's manager said. */
  async open(): Promise<Reply<"openMount">> {
    for (;;) {
      const replies = new Map<MemberId, Reply<"openMount">>();
      for (const member of this.managers) {
        const reply = await this.#openAt(member);
        if (reply !== undefined) replies.set(member, reply);
      }
      const answer = replies.get(this.#ownerOf(1));
      if (answer !== undefined) return answer;
    }
  }

  /** Undefined where it has no slots any more. */
  async #openAt(member: MemberId): Promise<Reply<"openMount"> | undefined> {
    while (this.managers.includes(member)) {
      try {
        const { reply } = await this.callAt(member, "openMount", {});
        this.#learn(reply);
        return reply;
      } catch (error) {
        // `badMessage`: its manager is about to start.
        if (!isDazzleError(error, "unreachable", "notReady", "timedOut", "badMessage")) throw error;
        await sleep(this.instance.ports.clock, RETRY_MS);
        // Where the keeper is away as well, it is known later.
        await this.map.refresh().catch(() => {});
      }
    }
    return undefined;
  }

  #learn({ slots, stable }: Pick<SlotsProgress, "slots" | "stable">): void {
    for (const [index, slot] of slots.entries())
      this.stableOfSlot.set(slot, Math.max(this.stableOfSlot.get(slot) ?? 0, stable[index] ?? 0));
    this.unstable = this.unstable.filter((logged) => this.#lacking(logged).length > 0);
    this.stable = (this.unstable[0]?.sequence ?? this.lastShipped + 1) - 1;
  }

  /** The slots where it is not known to be stable. */
  #lacking({ sequence, previous }: Logged): number[] {
    return [...previous.keys()].filter((slot) => (this.stableOfSlot.get(slot) ?? 0) < sequence);
  }

  /** A transaction is in the log, stably. */
  protected logged(sequence: number, groupVersion: number, bytes: Buffer): void {
    const previous = new Map(slotsOf(bytes).map((slot) => [slot, this.lastOfSlot.get(slot) ?? 0]));
    this.unstable.push({ sequence, groupVersion, previous, bytes });
    for (const slot of previous.keys()) this.lastOfSlot.set(slot, sequence);
    this.lastShipped = sequence;
  }

  /** Ships everything that was logged and is not known to be stable: to every manager the sections of its slots. */
  async ship(): Promise<void> {
    for (const logged of [...this.unstable]) {
      const byOwner = new Map<MemberId, number[]>();
      for (const slot of this.#lacking(logged)) byOwner.set(this.#ownerOf(slot), [...(byOwner.get(this.#ownerOf(slot)) ?? []), slot]);
      for (const [member, slots] of byOwner) await this.#shipTo(member, slots, logged);
    }
  }

  async #shipTo(member: MemberId, slots: readonly number[], { sequence, groupVersion, previous, bytes }: Logged): Promise<void> {
    const sections = [...decodeSections(bytes)].filter(({ slot }) => slots.includes(slot));
    const before = new Map(sections.map(({ slot }) => [slot, previous.get(slot) ?? 0]));
    const tail = sections.map(({ whole }) => whole);
    await this.#ship(member, { sequence, groupVersion }, before, maskOf(previous.keys()), tail);
  }

  /** To the manager of these slots, whatever the bytes are. */
  shipOne(sequence: number, previous: ReadonlyMap<number, number>, bytes: Uint8Array): Promise<Reply<"ship">> {
    const [first] = previous.keys();
    return this.#ship(this.#ownerOf(first ?? 1), { sequence, groupVersion: 1 }, previous, maskOf(previous.keys()), [bytes]);
  }

  async #ship(
    member: MemberId,
    segment: Pick<Logged, "sequence" | "groupVersion">,
    previous: ReadonlyMap<number, number>,
    touched: SlotMask,
    tail: readonly Uint8Array[],
  ): Promise<Reply<"ship">> {
    const slots = [...previous.keys()];
    const masks = { touchedLow: touched.low, touchedHigh: touched.high };
    const request = { ...segment, group: 1, slots, previous: [...previous.values()], ...masks, trimmedTo: this.trimmedTo };
    const { reply } = await this.callAt(member, "ship", request, tail);
    this.#learn({ slots, stable: reply.stable });
    return reply;
  }

  /** Everything shipped is stable at the managers, and the log is trimmed that far. */
  async settle(): Promise<void> {
    for (const member of this.managers)
      this.#learn((await this.callAt(member, "renew", { trimmedTo: this.trimmedTo, settle: true })).reply);
    this.trimmedTo = this.stable;
    this.trimLog();
    for (const member of this.managers) await this.callAt(member, "renew", { trimmedTo: this.trimmedTo, settle: false });
  }

  /** From now on it says every second that it is there, to every manager. */
  keepAlive(): void {
    this.instance.ports.clock.after(KEEP_ALIVE_MS, () => {
      for (const member of this.managers) void this.#sayAlive(member);
      void this.map.refresh().catch(() => {});
      this.keepAlive();
    });
  }

  async #sayAlive(member: MemberId): Promise<void> {
    try {
      await this.callAt(member, "renew", { trimmedTo: this.trimmedTo, settle: false });
    } catch (error) {
      if (isDazzleError(error, "notReady")) await this.callAt(member, "openMount", {}).catch(() => {});
    }
  }

  /** A clean unmount. */
  async close(): Promise<void> {
    for (const member of this.managers) await this.callAt(member, "closeMount", { end: this.lastShipped });
  }

  async acquire(ino: number, exclusive = false): Promise<boolean> {
    const { reply } = await this.call("acquire", { ino, exclusive });
    return reply.exclusive;
  }

  get state(): string | undefined {
    return findLog(this.#truth(), this.log)?.state;
  }

  kill(): void {
    this.instance.kill();
    this.peers.close();
    this.cutLog();
  }
}

/** One whose log is in memory. */
export class TestMount extends ShippingMount {
  readonly #logs: MemoryLogs;
  #writer!: MemoryWriter;

  constructor(cluster: { readonly map: MapCache; readonly logs: MemoryLogs }, instance: Instance) {
    super(() => cluster.map.current, instance);
    this.#logs = cluster.logs;
  }

  protected override openLog(): void {
    this.#writer = this.#logs.writer(this.log, this.instance.ports.clock);
  }

  protected override trimLog(): void {}

  protected override cutLog(): void {
    this.#writer.cut();
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
    this.logged(sequence, 1, bytes);
    return sequence;
  }

  async change(deltas: readonly Delta[]): Promise<number> {
    const sequence = await this.write(deltas);
    await this.ship();
    return sequence;
  }
}
