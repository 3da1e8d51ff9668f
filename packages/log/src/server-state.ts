import type { Clock, MemberId } from "@dazzle/core";
import type { PendingFragment } from "./pending-segment.ts";

const BACKOFF_FIRST_MS = 25;
const BACKOFF_MAX_MS = 1_000;

/** What a writer knows of one storage server. */
export class ServerState {
  readonly member: MemberId;
  /** The boot that answered last; "" before the first answer. */
  boot = "";
  /** Accepted under `boot` or an earlier one, not known to be on disk. */
  readonly accepted = new Set<PendingFragment>();
  /** Stores under way that answer when they are on disk. */
  syncStores = 0;
  syncing = false;
  syncWanted = false;
  regrouping = false;
  /** Why it last failed; "" when it answers. */
  reason = "";
  /** Why it could not be left out, while it does not answer; else "". */
  stuck = "";
  retryAtMs = 0;
  readonly #clock: Clock;
  #calls = 0;
  #silentSinceMs = 0;
  #refusedSinceMs: number | null = null;
  #backoffMs = 0;

  constructor(member: MemberId, clock: Clock) {
    this.member = member;
    this.#clock = clock;
  }

  get calls(): number {
    return this.#calls;
  }

  /** Whether it has something on hand, not known to be on disk, of the segments up to `sequence`. */
  acceptedUpTo(sequence: number): boolean {
    for (const { segment } of this.accepted) if (segment.sequence <= sequence) return true;
    return false;
  }

  /** A request leaves. */
  begin(): void {
    if (this.#calls++ === 0) this.#silentSinceMs = this.#clock.nowMs();
  }

  end(): void {
    this.#calls--;
  }

  /** It answered, be it with a failure. */
  heard(): void {
    this.#silentSinceMs = this.#clock.nowMs();
    this.#refusedSinceMs = null;
  }

  /** It took what it was given: no reason to wait before the next. */
  served(): void {
    this.reason = "";
    this.stuck = "";
    this.#backoffMs = 0;
    this.retryAtMs = 0;
  }

  /** The connection was refused or broke. */
  refused(): void {
    this.#refusedSinceMs ??= this.#clock.nowMs();
  }

  failed(reason: string): void {
    this.reason = reason;
    this.#backoffMs = Math.min(BACKOFF_MAX_MS, Math.max(BACKOFF_FIRST_MS, 2 * this.#backoffMs));
    this.retryAtMs = this.#clock.nowMs() + this.#backoffMs;
  }

  /** Whether it left requests unanswered for `silentMs`, or could not be connected to for `refusedMs`. */
  suspect(silentMs: number, refusedMs: number): boolean {
    const now = this.#clock.nowMs();
    if (this.#refusedSinceMs !== null && now - this.#refusedSinceMs >= refusedMs) return true;
    return this.#calls > 0 && now - this.#silentSinceMs >= silentMs;
  }

  /** Somebody else reaches it: the count of its silence starts anew. */
  cleared(): void {
    this.heard();
  }
}
