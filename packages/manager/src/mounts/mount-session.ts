import { type Address, type Deferred, deferred, type RpcPeer } from "@dazzle/core";

/** `awaited`: live in the map, and not heard of in this incarnation. `recovering`: it is being ended. `gone`: its log is
 * applied to the slots here, or closed, and its tokens are free. */
export type SessionState = "awaited" | "open" | "recovering" | "gone";

/** A mount that is there says by then more of what it holds in a slot; all of it once what it did under tokens that it gave back is applied. */
const CLAIMS_DUE_MS = 60_000;

/** A mount, as this manager knows it. */
export class MountSession {
  readonly log: number;
  state: SessionState = "awaited";
  /** The connection on which it opened: revokes go there. */
  peer: RpcPeer | undefined;
  /** When it was last heard of, on this manager's clock. Moved on by what the manager itself slept through. */
  heardMs: number;
  /** Since when slots here wait for it to say what it holds in them; now, where none does. Moved on as well. */
  claimsDueMs: number;
  /** When it was last heard of: no lease that this manager gave it counts from later. */
  leasedFromMs = 0;
  /** When its leases have ended, as far as they are known here: it serves nothing from its caches any more then. */
  leaseEndMs = 0;
  /** How many wait for something that it holds. */
  wanted = 0;
  /** When a lock that it holds was last in somebody's way who did not wait. */
  conflictMs = Number.NEGATIVE_INFINITY;
  /** Where it answers other mounts' reads, if it does. */
  address: Address | undefined;
  counters: Readonly<Record<string, number>> = {};
  /** Resolves when it is gone. */
  readonly gone: Deferred<void> = deferred();
  /** Resolves when it says that it serves nothing from its caches any more. */
  readonly left: Deferred<void> = deferred();
  #reopened: Deferred<void> = deferred();

  constructor(log: number, nowMs: number) {
    this.log = log;
    this.heardMs = nowMs;
    this.claimsDueMs = nowMs;
  }

  get connected(): boolean {
    return this.peer !== undefined && !this.peer.closed;
  }

  /** The manager looks at it, after it slept through so much; whether it could have heard of it, and slots wait for what it holds. */
  watched(
    nowMs: number,
    { sleptMs, hears, awaits }: { readonly sleptMs: number; readonly hears: boolean; readonly awaits: boolean },
  ): void {
    this.heardMs = hears ? this.heardMs + sleptMs : nowMs;
    this.claimsDueMs = hears && awaits ? this.claimsDueMs + sleptMs : nowMs;
  }

  /** It has said more than before of what it holds in some slot: where one slot after the other waits, it is none that withholds anything. */
  claims(): void {
    this.claimsDueMs = this.heardMs;
  }

  withholdsClaims(nowMs: number): boolean {
    return nowMs - this.claimsDueMs > CLAIMS_DUE_MS;
  }

  hear(nowMs: number): void {
    this.heardMs = nowMs;
    this.leasedFromMs = nowMs;
  }

  opened(peer: RpcPeer | undefined, nowMs: number): void {
    this.state = "open";
    this.peer = peer;
    this.hear(nowMs);
    this.#reopened.resolve();
    this.#reopened = deferred();
  }

  #hasLeft = false;

  /** It serves nothing from its caches any more, or its process is certainly gone. */
  leave(): void {
    this.#hasLeft = true;
    this.leaseEndMs = 0;
    this.left.resolve();
  }

  /** It may hold things under a lease until then. */
  leasedUntil(ms: number): void {
    if (!this.#hasLeft) this.leaseEndMs = Math.max(this.leaseEndMs, ms);
  }

  /** Resolves when it opens again, or is gone. */
  changed(): Promise<void> {
    return Promise.race([this.#reopened.promise, this.gone.promise]);
  }
}
