import { DazzleError } from "../errors.ts";
import type { MemberId } from "../ids.ts";
import { findMember, type Member } from "../map/cluster-map.ts";
import type { MapCache } from "../map/map-cache.ts";
import type { Address, Clock, Network } from "../ports.ts";
import type { MessageName, Request } from "./messages.ts";
import { type CallOptions, type CallResult, dispatch, type Handlers, RpcPeer } from "./rpc.ts";

const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 1_000;
const CONNECT_DEADLINE_MS = 1_000;

interface Link {
  connecting: Promise<RpcPeer> | null;
  peer: RpcPeer | null;
  backoffMs: number;
  retryAtMs: number;
  reason: string;
}

/** Calls to members by id: one connection each, opened when first needed, opened again with a growing pause after it
 * failed (calls meanwhile reject `unreachable` at once). A call to this process's own member runs its handler. */
export class Peers {
  readonly #network: Network;
  readonly #clock: Clock;
  readonly #map: MapCache;
  readonly #handlers: Handlers;
  readonly #self: MemberId | null;
  readonly #links = new Map<Address, Link>();
  #closed = false;

  /** `self`: the member that this process serves, null for a mount; `handlers` also answer requests that come back over
   * the connections made here. */
  constructor(options: { network: Network; clock: Clock; map: MapCache; handlers: Handlers; self: MemberId | null }) {
    this.#network = options.network;
    this.#clock = options.clock;
    this.#map = options.map;
    this.#handlers = options.handlers;
    this.#self = options.self;
  }

  /** The member that this process serves, null for a mount. */
  get self(): MemberId | null {
    return this.#self;
  }

  async call<Name extends MessageName>(
    member: MemberId,
    message: Name,
    request: Request<Name>,
    options: CallOptions = {},
  ): Promise<CallResult<Name>> {
    if (member === this.#self) return this.#callSelf(message, request, options);
    return this.callMember(findMember(this.#map.current, member), message, request, options);
  }

  /** As `call`, to a member as another map than this process's has it. */
  async callMember<Name extends MessageName>(
    row: Member,
    message: Name,
    request: Request<Name>,
    options: CallOptions = {},
  ): Promise<CallResult<Name>> {
    if (row.id === this.#self) return this.#callSelf(message, request, options);
    const peer = this.#connectedTo(row) ?? (await this.#connect(row));
    return peer.call(message, request, options);
  }

  async #callSelf<Name extends MessageName>(message: Name, request: Request<Name>, options: CallOptions): Promise<CallResult<Name>> {
    const signal = options.signal ?? new AbortController().signal;
    const answered = await dispatch(this.#handlers, message, request as object, { peer: undefined, signal, tail: options.tail ?? [] });
    return { reply: answered.reply, tail: answered.tail ?? [] };
  }

  /** The open connection to a member, if there is one now. */
  connected(member: MemberId): RpcPeer | undefined {
    return this.#connectedTo(findMember(this.#map.current, member));
  }

  #connectedTo({ addresses }: Member): RpcPeer | undefined {
    const address = addresses[0];
    const peer = address === undefined ? undefined : this.#links.get(address)?.peer;
    return peer === null || peer?.closed ? undefined : peer;
  }

  /** Rejects `unreachable` naming the member and its address. */
  async connect(member: MemberId): Promise<RpcPeer> {
    return this.#connect(findMember(this.#map.current, member));
  }

  async #connect({ addresses, name }: Member): Promise<RpcPeer> {
    const address = addresses[0];
    if (address === undefined) throw new DazzleError("unreachable", `${name} has no address`);
    try {
      return await this.connectTo(address);
    } catch (error) {
      throw new DazzleError("unreachable", `${name} at ${address}: ${(error as Error).message}`);
    }
  }

  connectTo(address: Address): Promise<RpcPeer> {
    if (this.#closed) return Promise.reject(new DazzleError("unreachable", "this process is stopping"));
    let link = this.#links.get(address);
    if (link === undefined) {
      link = { connecting: null, peer: null, backoffMs: 0, retryAtMs: 0, reason: "" };
      this.#links.set(address, link);
    }
    if (link.peer !== null && !link.peer.closed) return Promise.resolve(link.peer);
    if (link.connecting !== null) return link.connecting;
    if (this.#clock.nowMs() < link.retryAtMs) return Promise.reject(new DazzleError("unreachable", link.reason));
    link.connecting = this.#open(address, link);
    return link.connecting;
  }

  async #open(address: Address, link: Link): Promise<RpcPeer> {
    try {
      const connection = await this.#network.connect(address, CONNECT_DEADLINE_MS);
      const peer = new RpcPeer(connection, this.#clock, this.#handlers, this.#map);
      if (this.#closed) {
        peer.close();
        throw new DazzleError("unreachable", "this process is stopping");
      }
      link.peer = peer;
      link.backoffMs = 0;
      return peer;
    } catch (error) {
      link.reason = (error as Error).message;
      link.backoffMs = Math.min(BACKOFF_MAX_MS, Math.max(BACKOFF_FIRST_MS, link.backoffMs * 2));
      link.retryAtMs = this.#clock.nowMs() + link.backoffMs;
      throw error;
    } finally {
      link.connecting = null;
    }
  }

  /** Closes every connection; calls under way reject. */
  close(): void {
    this.#closed = true;
    for (const link of this.#links.values()) link.peer?.close();
  }
}
