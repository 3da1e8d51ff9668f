import {
  assert,
  type CallResult,
  type Clock,
  type ClusterMap,
  DazzleError,
  findLog,
  findMember,
  isDazzleError,
  type Limits,
  type Logger,
  type MapCache,
  type MemberId,
  type MessageName,
  type Peers,
  type Request,
  type RpcPeer,
  type SlotsProgress,
  sharedAbort,
  sleep,
  slotOf,
  withDeadline,
} from "@dazzle/core";
import { Claims, type Holdings } from "./claims.ts";
import { SlotLeases } from "./expulsion/slot-leases.ts";
import { ManagerLink } from "./manager-link.ts";
import { RETRY_MS, Shipping } from "./shipping.ts";
import { SlotLink } from "./slot-link.ts";
import type { SlotQueue } from "./slot-queue.ts";

/** How often the map is read anew while a manager does not answer. */
const REFRESH_MS = 500;
const ATTACH_RETRY_MAX_MS = 800;

export interface ManagersPorts {
  /** The mount is known to a manager on a connection: called before anything else is asked over it. */
  opening(member: MemberId, peer: RpcPeer): Promise<void>;
  /** Something shipped was applied or became stable. */
  progressed(): void;
  trimmedTo(): number;
  holdings(slots: ReadonlySet<number>): ReadonlyMap<number, Holdings>;
  declareLocks(slot: number, peer: RpcPeer): Promise<void>;
}

/** The managers as a mount needs them: a link to each member that has a slot this mount ever needed, made when it first does; requests and
 * shipments go to the slot's manager by the current map. */
export class Managers {
  readonly #mount: number;
  readonly #peers: Peers;
  readonly #map: MapCache;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: Limits;
  readonly #ports: ManagersPorts;
  readonly #links = new Map<MemberId, ManagerLink>();
  readonly #slots: readonly SlotLink[];
  readonly #attaching = new Set<MemberId>();
  readonly #unrenewed = new Set<ManagerLink>();
  /** By slot, by the term when they were asked. */
  readonly #underWay = new Map<number, Map<number, UnderWay>>();
  readonly shipping: Shipping;
  readonly leases = new SlotLeases();
  readonly #claims: Claims;
  /** Members that have a slot by the map. */
  #serving: ReadonlySet<MemberId | null> = new Set();
  readonly #endListening: () => void;
  #refreshedMs = Number.NEGATIVE_INFINITY;
  #closed = false;

  constructor(options: {
    mount: number;
    peers: Peers;
    map: MapCache;
    clock: Clock;
    logger: Logger;
    limits: Limits;
    ports: ManagersPorts;
  }) {
    const { mount, clock, logger, ports } = options;
    this.#mount = mount;
    this.#peers = options.peers;
    this.#map = options.map;
    this.#clock = clock;
    this.#logger = logger;
    this.#limits = options.limits;
    this.#ports = ports;
    const events = {
      progressed: () => ports.progressed(),
      unattached: ({ slot }: SlotQueue) => this.#attachSoon(this.#memberOrNull(slot)),
      refused: (peer: RpcPeer, error: Error) => this.#refused(peer, error),
    };
    this.shipping = new Shipping({ mount, clock, logger, trimmedTo: ports.trimmedTo, events });
    const { slots } = this.shipping;
    this.#slots = slots.map((queue) => new SlotLink(this, queue));
    this.#claims = new Claims({
      mount,
      slots,
      clock,
      logger,
      ports: {
        holdings: (of) => ports.holdings(of),
        declareLocks: (slot, peer) => ports.declareLocks(slot, peer),
        attached: (slot, term) => this.#attachedUnder(slot, term),
        whenFreedApplied: (slot) => this.whenApplied(slot, (slots[slot] as SlotQueue).freedTo),
      },
    });
    this.#endListening = options.map.onChange((map) => this.#mapChanged(map));
    this.#mapChanged(options.map.current);
  }

  get #served(): readonly ManagerLink[] {
    return [...this.#links.values()].filter(({ member }) => this.#serving.has(member));
  }

  /** Those that have these slots by the map, for people. */
  namesOf(slots: readonly number[]): ReadonlySet<string> {
    const members = slots.flatMap((slot) => this.#memberOrNull(slot) ?? []);
    return new Set(members.map((member) => findMember(this.#map.current, member).name));
  }

  /** Slots that this mount claimed at new managers. */
  get claimed(): number {
    return this.#claims.made;
  }

  /** Whom to ask about an index number. */
  of(ino: number): SlotLink {
    return this.#slots[slotOf(ino)] as SlotLink;
  }

  ofSlot(slot: number): SlotLink {
    return this.#slots[slot] as SlotLink;
  }

  #memberOrNull(slot: number): MemberId | null {
    return this.#map.current.slots[slot]?.manager ?? null;
  }

  memberOf(slot: number): MemberId {
    const member = this.#memberOrNull(slot);
    if (member === null) throw new DazzleError("notReady", `slot ${slot} has no manager`);
    return member;
  }

  /** The link to a slot's manager. Throws `notReady` where there is none. */
  linkOf(slot: number): ManagerLink {
    return this.#link(this.memberOf(slot));
  }

  #link(member: MemberId): ManagerLink {
    let link = this.#links.get(member);
    if (link === undefined) {
      const events = {
        opening: (_link: ManagerLink, peer: RpcPeer) => this.#ports.opening(member, peer),
        leased: (slots: readonly number[], endMs: number) => this.leases.given(slots, endMs),
        opened: (_link: ManagerLink, peer: RpcPeer, progress: SlotsProgress) => this.#opened(member, peer, progress),
        closed: (_link: ManagerLink, peer: RpcPeer) => this.#lost(peer),
      };
      const { trimmedTo } = this.#ports;
      link = new ManagerLink({ mount: this.#mount, member, peers: this.#peers, map: this.#map, clock: this.#clock, trimmedTo, events });
      this.#links.set(member, link);
    }
    return link;
  }

  call<Name extends MessageName>(slot: number, message: Name, request: Request<Name> | (() => Request<Name>)): Promise<CallResult<Name>> {
    return this.#untilDone(() => this.callOnce(slot, message, request));
  }

  /** Tries until the deadline, where a manager is away, starting, or not the manager any more. */
  async #untilDone<T>(attempt: () => Promise<T>): Promise<T> {
    const endMs = this.#clock.nowMs() + this.#limits.writeDeadlineMs;
    for (;;) {
      try {
        return await attempt();
      } catch (error) {
        if (this.#closed || !isDazzleError(error, "unreachable", "timedOut", "notReady", "staleMap") || this.#clock.nowMs() > endMs)
          throw error;
        await this.#refreshAfter(error);
        await sleep(this.#clock, RETRY_MS);
      }
    }
  }

  /** Rejects `staleMap` once the manager that is asked is given up: one that hangs would not even end the connection for seconds. */
  callOnce<Name extends MessageName>(
    slot: number,
    message: Name,
    request: Request<Name> | (() => Request<Name>),
  ): Promise<CallResult<Name>> {
    const { rejects, cancelling } = this.#underWayAt(slot);
    return new Promise((resolve, reject) => {
      rejects.add(reject);
      this.#callNow(slot, message, request, cancelling.signal)
        .then(resolve, reject)
        .finally(() => rejects.delete(reject));
    });
  }

  #underWayAt(slot: number): UnderWay {
    const { term = 0 } = this.#map.current.slots[slot] ?? {};
    const ofSlot = this.#underWay.get(slot) ?? new Map<number, UnderWay>();
    this.#underWay.set(slot, ofSlot);
    const underWay = ofSlot.get(term) ?? { rejects: new Set(), cancelling: sharedAbort() };
    ofSlot.set(term, underWay);
    return underWay;
  }

  async #callNow<Name extends MessageName>(
    slot: number,
    message: Name,
    request: Request<Name> | (() => Request<Name>),
    signal: AbortSignal,
  ): Promise<CallResult<Name>> {
    const link = this.linkOf(slot);
    const peer = await link.open();
    // Making a request up may count as having sent it (`FileLocks.describe`).
    if (signal.aborted) throw new DazzleError("cancelled", message);
    return peer.call(message, typeof request === "function" ? request() : request, { signal }).catch((error: unknown) => {
      link.forgetIfNew(peer, error);
      throw error;
    });
  }

  /** A manager that is not one any more, or that is away, may have been replaced. */
  async #refreshAfter(error: DazzleError): Promise<void> {
    const nowMs = this.#clock.nowMs();
    if (error.code !== "staleMap" && nowMs - this.#refreshedMs < REFRESH_MS) return;
    this.#refreshedMs = nowMs;
    await this.#map.refresh().catch((reason: Error) => {
      this.#logger("info", "the map can't be read", { log: this.#mount, reason: reason.message });
    });
  }

  // Attaching: a slot's sections are sent once its manager has told how far the slot is.

  #opened(member: MemberId, peer: RpcPeer, { slots, applied, stable, terms }: SlotsProgress): void {
    for (const [index, slot] of slots.entries()) {
      const queue = this.shipping.slots[slot];
      const term = terms[index] ?? 0;
      if (queue === undefined || this.#memberOrNull(slot) !== member || term < queue.term) continue;
      if (queue.peer === peer && queue.term === term) queue.learn(applied[index] ?? 0, stable[index] ?? 0);
      else queue.attach(peer, term, applied[index] ?? 0, stable[index] ?? 0);
    }
    this.#ports.progressed();
    this.shipping.pump(peer);
  }

  #mapChanged(map: ClusterMap): void {
    const { slots } = map;
    for (const [slot, ofSlot] of this.#underWay) this.#leave(map, slot, ofSlot);
    this.#serving = new Set(slots.map(({ manager }) => manager));
    for (const queue of this.shipping.slots) if (queue.peer !== null && queue.term < (slots[queue.slot]?.term ?? 0)) queue.detach();
    this.#attachAll();
  }

  /** What is asked of a manager that goes on is answered by it, though the slot is not there any more. */
  #leave(map: ClusterMap, slot: number, ofSlot: Map<number, UnderWay>): void {
    const { term: now = 0, chain = [] } = map.slots[slot] ?? {};
    for (const [term, { rejects, cancelling }] of ofSlot) {
      const link = chain.find((one) => one.term === term);
      const goesOn = link !== undefined && findLog(map, link.log)?.state === "live";
      if (term >= now || goesOn) continue;
      ofSlot.delete(term);
      for (const reject of rejects) reject(new DazzleError("staleMap", `the manager that had slot ${slot} is given up`));
      cancelling.abort();
    }
  }

  /** The latest term of the slot that this mount knows, by the map or of a manager that serves it. */
  #termNow(slot: number): number {
    return Math.max(this.shipping.slots[slot]?.term ?? 0, this.#map.current.slots[slot]?.term ?? 0);
  }

  /** Whether a manager that names this term has not been followed by another one, as far as is known (rule 29). */
  isCurrent(slot: number, term: number): boolean {
    return term >= this.#termNow(slot);
  }

  /** Throws `staleMap` where it was. */
  checkTerm(slot: number, term: number): void {
    if (!this.isCurrent(slot, term)) throw new DazzleError("staleMap", `slot ${slot} has a later term than ${term}`);
  }

  /** A manager opens a slot, and waits for what this mount holds there. */
  slotOpening(slot: number, term: number): void {
    this.#claims.claim(slot, term);
  }

  async #attachedUnder(slot: number, term: number): Promise<RpcPeer | undefined> {
    const queue = this.shipping.slots[slot] as SlotQueue;
    if (this.#termNow(slot) < term) await this.#map.refresh();
    if (!this.isCurrent(slot, term)) return undefined;
    const link = this.linkOf(slot);
    const peer = await link.open();
    if (queue.peer !== peer || queue.term < term) await link.reopen();
    if (!this.isCurrent(slot, term)) return undefined;
    if (queue.peer === null || queue.peer.closed || queue.term < term)
      throw new DazzleError("notReady", `${link.name} does not tell of slot ${slot} under term ${term}`);
    return queue.peer;
  }

  #lost(peer: RpcPeer): void {
    this.shipping.detach(peer);
    this.#attachAll();
  }

  #refused(_peer: RpcPeer, error: Error): void {
    if (isDazzleError(error)) void this.#refreshAfter(error).then(() => this.#attachAll());
    else this.#attachAll();
  }

  #attachAll(): void {
    for (const queue of this.shipping.slots) if (isDue(queue)) this.#attachSoon(this.#memberOrNull(queue.slot));
  }

  #attachSoon(member: MemberId | null): void {
    if (member === null || this.#closed || this.#attaching.has(member)) return;
    this.#attaching.add(member);
    void this.#attach(member).finally(() => this.#attaching.delete(member));
  }

  /** Until every slot of the member is attached that has something to ship, or that was before. */
  async #attach(member: MemberId): Promise<void> {
    const hasDue = () => this.shipping.slots.some((queue) => isDue(queue) && this.#memberOrNull(queue.slot) === member);
    for (let delayMs = RETRY_MS; !this.#closed && hasDue(); delayMs = Math.min(2 * delayMs, ATTACH_RETRY_MAX_MS)) {
      try {
        await this.#link(member).reopen();
        if (!hasDue()) return;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        if (error.code === "expelled") return;
        await this.#refreshAfter(error);
      }
      await sleep(this.#clock, delayMs);
    }
  }

  whenApplied(slot: number, sequence: number): Promise<void> {
    const waiting = this.shipping.slots[slot]?.whenApplied(sequence);
    if (waiting === undefined) return Promise.resolve();
    const what = `the applying of ${this.#mount}/${sequence} at the manager of slot ${slot}`;
    return withDeadline(this.#clock, this.#limits.writeDeadlineMs, what, waiting);
  }

  /** Opens at the manager of a slot, which may go to another one meanwhile. Rejects when it could not until the deadline. */
  async open(slot: number): Promise<void> {
    await this.#untilDone(() => this.linkOf(slot).open());
  }

  /** Renews the lease at every manager, and tells it what this mount says of itself. */
  renew(counters: Readonly<Record<string, number>>): void {
    for (const link of this.#served) {
      link.renew(false).then(
        () => this.#unrenewed.delete(link),
        (error: Error) => this.#notRenewed(link, error),
      );
      link.peer?.call("report", { mount: this.#mount, counters }).catch(() => {});
    }
  }

  /** One line until it is renewed again. */
  #notRenewed(link: ManagerLink, error: Error): void {
    if (this.#closed) return;
    // Its slots may be elsewhere by now, where this mount must say what it holds.
    if (isDazzleError(error)) void this.#refreshAfter(error);
    if (this.#unrenewed.has(link)) return;
    this.#unrenewed.add(link);
    this.#logger("warning", "the lease could not be renewed", { log: this.#mount, manager: link.name, reason: error.message });
  }

  /** Everything shipped is stable at the managers when it resolves, whoever takes slots over meanwhile. Rejects when it is not until the deadline. */
  settle(): Promise<void> {
    return this.#untilDone(async () => {
      const { slots } = this.shipping;
      for (const { slot, lastQueued } of slots) await this.whenApplied(slot, lastQueued);
      for (const link of this.#served) await link.renew(true);
      const behind = slots.find(({ length }) => length > 0);
      if (behind !== undefined) throw new DazzleError("notReady", `not all that was done in slot ${behind.slot} is stable at its manager`);
    });
  }

  /** The mount's log ends at `end`, and is trimmed that far: no open slot lacks any of it. */
  async closeMount(end: number): Promise<void> {
    assert(this.shipping.trimmable(end) >= end, `log ${this.#mount} is trimmed to its end ${end} before it is closed`);
    for (const link of this.#served) await (await link.open()).call("closeMount", { mount: this.#mount, end });
  }

  close(): void {
    this.#closed = true;
    this.#endListening();
    this.#claims.close();
    this.shipping.close(new DazzleError("cancelled", "the mount is closing"));
  }
}

/** Requests to a slot's manager. */
interface UnderWay {
  readonly rejects: Set<(error: DazzleError) => void>;
  readonly cancelling: AbortController;
}

/** Whether the slot's manager must be asked: for what is to be shipped, or because this mount may hold something there. */
function isDue({ length, term, peer }: SlotQueue): boolean {
  return (length > 0 || term > 0) && (peer === null || peer.closed);
}
