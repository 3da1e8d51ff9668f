import {
  type Clock,
  findMember,
  isDazzleError,
  type MapCache,
  type MemberId,
  type Peers,
  type RpcPeer,
  type SlotsProgress,
} from "@dazzle/core";

export interface ManagerLinkEvents {
  /** The manager knows this mount on a connection: told before anything else is asked over it. */
  opening(link: ManagerLink, peer: RpcPeer): Promise<void>;
  /** The manager gave a lease for what this mount holds in these slots. It counts from when it was asked for. */
  leased(slots: readonly number[], endMs: number): void;
  /** The manager knows this mount on the connection, and told of the slots that it serves. */
  opened(link: ManagerLink, peer: RpcPeer, progress: SlotsProgress): void;
  closed(link: ManagerLink, peer: RpcPeer): void;
}

/** A mount's connection to one manager, which gives it a lease. */
export class ManagerLink {
  readonly member: MemberId;
  readonly #mount: number;
  readonly #peers: Peers;
  readonly #map: MapCache;
  readonly #clock: Clock;
  readonly #trimmedTo: () => number;
  readonly #events: ManagerLinkEvents;
  #peer: RpcPeer | null = null;
  #watched: RpcPeer | null = null;
  #opening: Promise<RpcPeer> | null = null;

  constructor(options: {
    mount: number;
    member: MemberId;
    peers: Peers;
    map: MapCache;
    clock: Clock;
    trimmedTo: () => number;
    events: ManagerLinkEvents;
  }) {
    this.#mount = options.mount;
    this.#map = options.map;
    this.#trimmedTo = options.trimmedTo;
    this.member = options.member;
    this.#peers = options.peers;
    this.#clock = options.clock;
    this.#events = options.events;
  }

  /** The manager's, for people. */
  get name(): string {
    return findMember(this.#map.current, this.member).name;
  }

  /** The connection on which this mount is known to the manager, if there is one now. */
  get peer(): RpcPeer | null {
    return this.#peer === null || this.#peer.closed ? null : this.#peer;
  }

  open(): Promise<RpcPeer> {
    return this.peer === null ? this.reopen() : Promise.resolve(this.peer);
  }

  /** Has the manager tell anew of the slots that it serves. */
  reopen(): Promise<RpcPeer> {
    this.#opening ??= this.#connect().finally(() => {
      this.#opening = null;
    });
    return this.#opening;
  }

  async #connect(): Promise<RpcPeer> {
    const peer = this.#peers.connected(this.member) ?? (await this.#peers.connect(this.member));
    const askedMs = this.#clock.nowMs();
    const { reply } = await peer.call("openMount", { mount: this.#mount });
    this.#events.leased(reply.slots, askedMs + reply.leaseMs);
    await this.#events.opening(this, peer);
    this.#peer = peer;
    if (this.#watched !== peer) {
      this.#watched = peer;
      peer.onClose(() => this.#events.closed(this, peer));
    }
    this.#events.opened(this, peer, reply);
    return peer;
  }

  /** A manager that has just started knows this mount once it has opened, be it on the same connection. */
  forgetIfNew(peer: RpcPeer, error: unknown): void {
    if (this.#peer === peer && isDazzleError(error, "notReady")) this.#peer = null;
  }

  /** Renews the lease; with `settle`, everything applied is stable when it resolves. */
  async renew(settle: boolean): Promise<void> {
    const peer = await this.open();
    const askedMs = this.#clock.nowMs();
    const { reply } = await peer.call("renew", { mount: this.#mount, trimmedTo: this.#trimmedTo(), settle }).catch((error: unknown) => {
      this.forgetIfNew(peer, error);
      throw error;
    });
    this.#events.leased(reply.slots, askedMs + reply.leaseMs);
    this.#events.opened(this, peer, reply);
  }
}
