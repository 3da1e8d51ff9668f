import {
  assert,
  type CallOptions,
  type CallResult,
  type Clock,
  DazzleError,
  type Deferred,
  deferred,
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
  sleep,
  withDeadline,
} from "@dazzle/core";

interface Shipment {
  readonly sequence: number;
  readonly previous: number;
  readonly group: number;
  readonly groupVersion: number;
  readonly sections: Uint8Array;
}

const RETRY_MS = 100;
/** Shipments on the wire at once: more than a round trip's worth gains nothing. */
const SHIPMENTS_IN_FLIGHT = 8;

/** What this mount owes one manager, and what it asks of it: transactions in log order, remembered until the manager's
 * own log holds them stable, and shipped again where the manager started anew. */
export class ManagerLink {
  readonly #mount: number;
  readonly #member: MemberId;
  readonly #peers: Peers;
  readonly #map: MapCache;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: Limits;
  readonly #onProgress: () => void;
  readonly #trimmedTo: () => number;
  readonly #onOpened: (peer: RpcPeer) => Promise<void>;
  /** Shipped or to be shipped, ascending, until stable. */
  #queue: Shipment[] = [];
  /** How many of the queue's first were sent on the present connection. */
  #sent = 0;
  #inFlight = 0;
  #lastQueued = 0;
  applied = 0;
  stable = 0;
  leaseEndMs = 0;
  #peer: RpcPeer | null = null;
  #opening: Promise<RpcPeer> | null = null;
  #pumping = false;
  #closed = false;
  #waiters: Array<{ sequence: number; deferred: Deferred<void> }> = [];

  constructor(options: {
    mount: number;
    member: MemberId;
    peers: Peers;
    map: MapCache;
    clock: Clock;
    logger: Logger;
    limits: Limits;
    /** Called when `applied` or `stable` grew. */
    onProgress: () => void;
    trimmedTo: () => number;
    /** Called when the mount is known on a new connection, before anything else is asked over it. */
    onOpened: (peer: RpcPeer) => Promise<void>;
  }) {
    this.#mount = options.mount;
    this.#member = options.member;
    this.#peers = options.peers;
    this.#map = options.map;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#limits = options.limits;
    this.#onProgress = options.onProgress;
    this.#trimmedTo = options.trimmedTo;
    this.#onOpened = options.onOpened;
  }

  /** The manager's, for people. */
  get name(): string {
    return findMember(this.#map.current, this.#member).name;
  }

  get queued(): number {
    return this.#queue.length;
  }

  /** The last sequence that was ever given to this manager. */
  get lastQueued(): number {
    return this.#lastQueued;
  }

  /** A request to this manager, tried again until the deadline where the manager is away or starting. */
  async call<Name extends MessageName>(message: Name, request: Request<Name>, options: CallOptions = {}): Promise<CallResult<Name>> {
    const endMs = this.#clock.nowMs() + this.#limits.writeDeadlineMs;
    for (;;) {
      try {
        return await this.callOnce(message, request, options);
      } catch (error) {
        if (this.#closed || !isDazzleError(error, "unreachable", "timedOut", "notReady", "staleMap") || this.#clock.nowMs() > endMs)
          throw error;
        if (error.code === "staleMap") await this.#map.refresh();
        await sleep(this.#clock, RETRY_MS, options.signal);
      }
    }
  }

  /** As `call`, one attempt. */
  async callOnce<Name extends MessageName>(message: Name, request: Request<Name>, options: CallOptions = {}): Promise<CallResult<Name>> {
    const peer = await this.#open();
    return peer.call(message, request, options).catch((error: unknown) => {
      this.#forgetIfNew(peer, error);
      throw error;
    });
  }

  /** The connection on which this mount is known to the manager. */
  #open(): Promise<RpcPeer> {
    if (this.#peer !== null && !this.#peer.closed) return Promise.resolve(this.#peer);
    this.#opening ??= this.#connect().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #connect(): Promise<RpcPeer> {
    const peer = this.#peers.connected(this.#member) ?? (await this.#peers.connect(this.#member));
    const askedMs = this.#clock.nowMs();
    const { reply } = await peer.call("openMount", { mount: this.#mount });
    this.leaseEndMs = askedMs + reply.leaseMs;
    await this.#onOpened(peer);
    this.#peer = peer;
    this.#sent = 0;
    // Another incarnation of the manager has what was stable before it, and maybe no more.
    assert(
      reply.applied >= this.stable,
      `log ${this.#mount} was stable at its manager up to ${this.stable}, and is applied up to ${reply.applied}`,
    );
    this.applied = Math.min(this.applied, reply.applied);
    peer.onClose(() => {
      if (this.#peer === peer) this.#peer = null;
      this.#pump();
    });
    this.#learn(reply.applied, reply.stable);
    this.#pump();
    return peer;
  }

  open(): Promise<void> {
    return this.#open().then(() => {});
  }

  /** A manager that has just started knows this mount once it has opened, be it on the same connection. */
  #forgetIfNew(peer: RpcPeer | null, error: unknown): void {
    if (peer !== null && this.#peer === peer && isDazzleError(error, "notReady")) this.#peer = null;
  }

  /** Queues the sections of a stable segment. */
  ship(sequence: number, group: number, groupVersion: number, sections: Uint8Array): void {
    this.#queue.push({ sequence, previous: this.#lastQueued, group, groupVersion, sections });
    this.#lastQueued = sequence;
    this.#pump();
  }

  #pump(): void {
    if (this.#pumping || this.#closed) return;
    if (this.#peer === null || this.#peer.closed) {
      if (this.#queue.length > 0) void this.#reopen();
      return;
    }
    while (this.#inFlight < SHIPMENTS_IN_FLIGHT && this.#sent < this.#queue.length) {
      const shipment = this.#queue[this.#sent++] as Shipment;
      this.#inFlight++;
      void this.#send(this.#peer, shipment);
    }
  }

  async #reopen(): Promise<void> {
    this.#pumping = true;
    try {
      while (!this.#closed && (this.#peer === null || this.#peer.closed)) {
        try {
          await this.#open();
        } catch (error) {
          if (!isDazzleError(error)) throw error;
          await sleep(this.#clock, RETRY_MS);
        }
      }
    } finally {
      this.#pumping = false;
    }
    this.#pump();
  }

  async #send(peer: RpcPeer, shipment: Shipment): Promise<void> {
    const { sequence, previous, group, groupVersion } = shipment;
    try {
      const request = { mount: this.#mount, sequence, previous, group, groupVersion, trimmedTo: this.#trimmedTo() };
      const { reply } = await peer.call("ship", request, { tail: [shipment.sections] });
      this.#inFlight--;
      this.#learn(reply.applied, reply.stable);
    } catch (error) {
      this.#inFlight--;
      if (this.#closed) return;
      // All that was sent on this connection is sent again on the next one, in order.
      this.#logger("warning", "a transaction is shipped again", { log: this.#mount, sequence, reason: (error as Error).message });
      if (this.#peer === peer) this.#peer = null;
      await sleep(this.#clock, RETRY_MS);
    }
    this.#pump();
  }

  #learn(applied: number, stable: number): void {
    const progress = applied > this.applied || stable > this.stable;
    this.applied = Math.max(this.applied, applied);
    this.stable = Math.max(this.stable, stable);
    let done = 0;
    while (done < this.#queue.length && (this.#queue[done] as Shipment).sequence <= this.stable) done++;
    if (done > 0) {
      this.#queue.splice(0, done);
      this.#sent = Math.max(0, this.#sent - done);
    }
    if (!progress) return;
    this.#waiters = this.#waiters.filter(({ sequence, deferred: waiter }) => {
      if (sequence > this.applied) return true;
      waiter.resolve();
      return false;
    });
    this.#onProgress();
  }

  /** Resolves when the manager has applied everything up to `sequence` that concerns it. */
  whenApplied(sequence: number): Promise<void> {
    const wanted = Math.min(sequence, this.#lastQueued);
    if (wanted <= this.applied) return Promise.resolve();
    const waiter = deferred();
    this.#waiters.push({ sequence: wanted, deferred: waiter });
    return withDeadline(this.#clock, this.#limits.writeDeadlineMs, `the manager's applying of ${this.#mount}/${wanted}`, waiter.promise);
  }

  /** Renews the lease; with `settle`, everything applied is stable when it resolves. */
  async renew(settle: boolean): Promise<void> {
    const peer = await this.#open();
    const askedMs = this.#clock.nowMs();
    const { reply } = await peer.call("renew", { mount: this.#mount, trimmedTo: this.#trimmedTo(), settle }).catch((error: unknown) => {
      this.#forgetIfNew(peer, error);
      throw error;
    });
    this.leaseEndMs = Math.max(this.leaseEndMs, askedMs + reply.leaseMs);
    this.#learn(reply.applied, reply.stable);
  }

  close(): void {
    this.#closed = true;
    for (const { deferred: waiter } of this.#waiters) waiter.reject(new DazzleError("cancelled", "the mount is closing"));
    this.#waiters = [];
  }
}
