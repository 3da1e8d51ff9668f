import type { Clock, MemberId } from "@dazzle/core";
import type { PendingFragment } from "./pending-segment.ts";

const BACKOFF_FIRST_MS = 25;
const BACKOFF_MAX_MS = 1_000;
/** What the latest answer counts in the average. */
const ANSWER_SHARE = 1 / 8;

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
  /** Since when its disk has failed at what it was given; null once it took something. */
  #failingSinceMs: number | null = null;
  /** Since when somebody waits for it to bring something to disk, and it has not; null where nobody does. */
  #syncingSinceMs: number | null = null;
  #backoffMs = 0;
  #averageMs = 0;

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

  /** How long a store takes it: on average, or what it is silent for by now. */
  get answerMs(): number {
    return this.#calls === 0 ? this.#averageMs : Math.max(this.#averageMs, this.#clock.nowMs() - this.#silentSinceMs);
  }

  /** It took a store, in so much time. */
  took(ms: number): void {
    this.#averageMs += (ms - this.#averageMs) * (this.#averageMs === 0 ? 1 : ANSWER_SHARE);
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

  /** A request leaves that is answered when something is on disk. */
  beginSync(): void {
    this.#syncingSinceMs ??= this.#clock.nowMs();
  }

  /** It brought something to disk. */
  synced(): void {
    this.#syncingSinceMs = this.syncing || this.syncStores > 0 ? this.#clock.nowMs() : null;
  }

  /** It took what it was given: no reason to wait before the next. */
  served(): void {
    this.#failingSinceMs = null;
    this.reason = "";
    this.stuck = "";
    this.#backoffMs = 0;
    this.retryAtMs = 0;
  }

  /** The connection was refused or broke, or another store answers. */
  refused(): void {
    this.#refusedSinceMs ??= this.#clock.nowMs();
  }

  failed(reason: string, isDisk: boolean): void {
    this.reason = reason;
    if (isDisk) this.#failingSinceMs ??= this.#clock.nowMs();
    this.#backoffMs = Math.min(BACKOFF_MAX_MS, Math.max(BACKOFF_FIRST_MS, 2 * this.#backoffMs));
    this.retryAtMs = this.#clock.nowMs() + this.#backoffMs;
  }

  /** Whether it left requests unanswered for `silentMs`, failed at all of them for its disk, or brought nothing to disk; or could not be connected to, or served another store, for `refusedMs`. */
  suspect(silentMs: number, refusedMs: number): boolean {
    const now = this.#clock.nowMs();
    const isSince = (sinceMs: number | null, lastsMs: number) => sinceMs !== null && now - sinceMs >= lastsMs;
    if (isSince(this.#refusedSinceMs, refusedMs)) return true;
    if (isSince(this.#failingSinceMs, silentMs) || isSince(this.#syncingSinceMs, silentMs)) return true;
    return this.#calls > 0 && isSince(this.#silentSinceMs, silentMs);
  }

  /** Somebody else reaches it, and its disk does what it is asked: the counts start anew. */
  cleared(): void {
    this.heard();
    const nowMs = this.#clock.nowMs();
    if (this.#failingSinceMs !== null) this.#failingSinceMs = nowMs;
    if (this.#syncingSinceMs !== null) this.#syncingSinceMs = nowMs;
  }
}
