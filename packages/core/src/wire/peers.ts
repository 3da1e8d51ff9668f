import { DazzleError, RefusedError, reasonOf } from "../errors.ts";
import { type MemberId, NO_MEMBER } from "../ids.ts";
import { LIMITS } from "../limits.ts";
import { findMember, type Member } from "../map/cluster-map.ts";
import type { MapCache } from "../map/map-cache.ts";
import type { Address, Clock, Network } from "../ports.ts";
import { withDeadline } from "../time.ts";
import { sayHello } from "./hello.ts";
import type { MessageName, Request } from "./messages.ts";
import { type CallOptions, type CallResult, dispatch, type Handlers, RpcPeer, Served } from "./rpc.ts";

const BACKOFF_FIRST_MS = 50;
const BACKOFF_MAX_MS = 1_000;
const CONNECT_DEADLINE_MS = 1_000;

interface Link {
  connecting: Promise<RpcPeer> | null;
  peer: RpcPeer | null;
  /** Who answered there. */
  member: number;
  backoffMs: number;
  retryAtMs: number;
  reason: string;
  /** Nobody listened there when it was last tried. */
  refused: boolean;
}

/** Calls to members by id: one connection each, opened when first needed, opened again with a growing pause after it
 * failed (calls meanwhile reject `unreachable` at once). A call to this process's own member runs its handler, and ends by its deadline as any other, but for `store`. */
export class Peers {
  readonly #network: Network;
  readonly #clock: Clock;
  readonly #map: MapCache;
  readonly #handlers: Handlers;
  readonly #self: MemberId | null;
  readonly #process: string;
  readonly #near: ReadonlyMap<number, Address>;
  /** Requests that were sent over the connections made here, by message. */
  readonly sent = new Map<MessageName, number>();
  readonly #links = new Map<Address, Link>();
  #closed = false;

  /** `self`: the member that this process serves, null for a mount; `handlers` also answer requests that come back over
   * the connections made here; `process`: `Processes.self`; `near`: sockets of members on this machine, which are used in place of their addresses. */
  constructor(options: {
    network: Network;
    clock: Clock;
    map: MapCache;
    handlers: Handlers;
    self: MemberId | null;
    process?: string;
    near?: ReadonlyMap<number, Address>;
  }) {
    this.#network = options.network;
    this.#clock = options.clock;
    this.#map = options.map;
    this.#handlers = options.handlers;
    this.#self = options.self;
    this.#process = options.process ?? "";
    this.#near = options.near ?? new Map();
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
    const peer = this.#connectedTo(row);
    if (peer !== undefined) return peer.call(message, request, options);
    const beganMs = this.#clock.nowMs();
    const opened = await this.#connectFor(row, options);
    if (options.deadlineMs === undefined) return opened.call(message, request, options);
    return opened.call(message, request, { ...options, deadlineMs: Math.max(1, options.deadlineMs + beganMs - this.#clock.nowMs()) });
  }

  /** As `connect`, for a call: no longer than its deadline, nor after it was cancelled. */
  #connectFor(row: Member, { deadlineMs, signal }: CallOptions): Promise<RpcPeer> {
    const connecting = this.#connect(row);
    if (deadlineMs === undefined && signal === undefined) return connecting;
    return new Promise((resolve, reject) => {
      const timer =
        deadlineMs === undefined
          ? null
          : this.#clock.after(deadlineMs, () => end(() => reject(new DazzleError("timedOut", `no connection within ${deadlineMs} ms`))));
      const abort = () => end(() => reject(new DazzleError("cancelled", "while it connected")));
      const end = (settle: () => void) => {
        timer?.cancel();
        signal?.removeEventListener("abort", abort);
        settle();
      };
      if (signal?.aborted) abort();
      else signal?.addEventListener("abort", abort, { once: true });
      connecting.then(
        (peer) => end(() => resolve(peer)),
        (error: unknown) => end(() => reject(error)),
      );
    });
  }

  async #callSelf<Name extends MessageName>(message: Name, request: Request<Name>, options: CallOptions): Promise<CallResult<Name>> {
    const served = new Served(undefined, options.tail ?? []);
    const abort = () => served.abort();
    if (options.signal?.aborted) abort();
    else options.signal?.addEventListener("abort", abort, { once: true });
    try {
      const answering = dispatch(this.#handlers, message, request as object, served);
      // A store's tail is memory that its caller uses again: the disk may read it until the handler ends, however long that takes.
      const { reply, tail } = await (message === "store" ? answering : this.#inTime(message, answering, options));
      return { reply, tail: tail ?? [] };
    } catch (error) {
      abort();
      throw error;
    } finally {
      options.signal?.removeEventListener("abort", abort);
    }
  }

  #inTime<T>(message: MessageName, answering: Promise<T>, { deadlineMs = LIMITS.requestDeadlineMs }: CallOptions): Promise<T> {
    return withDeadline(this.#clock, deadlineMs, `${message} to this process itself`, answering);
  }

  /** The open connection to an address, if there is one now. */
  openTo(address: Address): RpcPeer | undefined {
    const peer = this.#links.get(address)?.peer;
    return peer === null || peer?.closed ? undefined : peer;
  }

  /** The open connection to a member, if there is one now. */
  connected(member: MemberId): RpcPeer | undefined {
    return this.#connectedTo(findMember(this.#map.current, member));
  }

  /** Whether nobody listened at a member's address when a connection was last tried, after the last one ended. */
  isRefused(member: MemberId): boolean {
    const address = this.#addressOf(findMember(this.#map.current, member));
    const link = address === undefined ? undefined : this.#links.get(address);
    return link?.refused ?? false;
  }

  #connectedTo(row: Member): RpcPeer | undefined {
    const address = this.#addressOf(row);
    return address === undefined ? undefined : this.openTo(address);
  }

  #addressOf({ id, addresses }: Member): Address | undefined {
    return this.#near.get(id) ?? addresses[0];
  }

  /** Rejects `unreachable` naming the member and its address. */
  async connect(member: MemberId): Promise<RpcPeer> {
    return this.#connect(findMember(this.#map.current, member));
  }

  async #connect(row: Member): Promise<RpcPeer> {
    const { name } = row;
    const address = this.#addressOf(row);
    if (address === undefined) throw new DazzleError("unreachable", `${name} has no address`);
    try {
      const peer = await this.connectTo(address);
      const answered = this.#links.get(address)?.member;
      if (answered !== row.id) throw new DazzleError("unreachable", `member ${answered} answers there`);
      return peer;
    } catch (error) {
      const reason = reasonOf(error);
      const told = reason.startsWith(`${address}: `) ? reason : `${address}: ${reason}`;
      throw new DazzleError("unreachable", `${name} at ${told}`);
    }
  }

  connectTo(address: Address): Promise<RpcPeer> {
    if (this.#closed) return Promise.reject(new DazzleError("unreachable", "this process is stopping"));
    let link = this.#links.get(address);
    if (link === undefined) {
      link = { connecting: null, peer: null, member: NO_MEMBER, backoffMs: 0, retryAtMs: 0, reason: "", refused: false };
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
      const peer = new RpcPeer(connection, this.#clock, this.#handlers, this.#map, this.sent);
      link.member = await this.#introduce(peer);
      if (this.#closed) {
        peer.close();
        throw new DazzleError("unreachable", "this process is stopping");
      }
      link.peer = peer;
      link.refused = false;
      link.backoffMs = 0;
      return peer;
    } catch (error) {
      link.reason = reasonOf(error);
      link.refused = error instanceof RefusedError;
      link.backoffMs = Math.min(BACKOFF_MAX_MS, Math.max(BACKOFF_FIRST_MS, link.backoffMs * 2));
      link.retryAtMs = this.#clock.nowMs() + link.backoffMs;
      throw error;
    } finally {
      link.connecting = null;
    }
  }

  /** Before anything else is asked over a connection. */
  async #introduce(peer: RpcPeer): Promise<number> {
    const { clusterId } = this.#map.current;
    try {
      return (await sayHello(peer, { clusterId, member: this.#self ?? NO_MEMBER, process: this.#process }, CONNECT_DEADLINE_MS)).member;
    } catch (error) {
      peer.close();
      throw error;
    }
  }

  /** Closes every connection; calls under way reject. */
  close(): void {
    this.#closed = true;
    for (const link of this.#links.values()) link.peer?.close();
  }
}
