import {
  type Answer,
  type Clock,
  DazzleError,
  type Limits,
  type RegionRange,
  type RequestContext,
  slotOf,
  WHOLE_FILE,
  withDeadline,
} from "@dazzle/core";
import type { Journal } from "../journal.ts";
import type { Conflict, TokenTable } from "./token-table.ts";
import { Waiter } from "./waiter.ts";

/** Of the request that is answered with a token: looked at only where that has to wait. */
export type TokenRequest = Pick<RequestContext, "signal">;

export interface GrantPorts {
  /** Resolves when the mount gave the token back and all it did under it is applied here, or when the mount is gone. Answers what it kept. Rejects once the waiter has left. */
  revoke(conflict: Conflict, ino: number, grant: number, waiter: Waiter): Promise<RegionRange>;
  /** Whether something that the mount did is not in the stable log yet. */
  hasUnstable(mount: number): boolean;
  /** Throws where the mount may not hold anything (any more). */
  checkMount(mount: number): void;
  /** Throws where the slot is not here (any more). */
  checkSlot(slot: number): void;
}

export interface Grant {
  readonly exclusive: boolean;
  /** The count of revokes at that time. */
  readonly grant: number;
}

export interface RangeGrant extends RegionRange {
  /** The count of revokes at that time. */
  readonly grant: number;
}

interface AskedToken {
  readonly mount: number;
  readonly ino: number;
  readonly exclusive: boolean;
  readonly wanted: RegionRange;
}

/** Grants tokens: at once where nobody is in the way, else when those who are gave them back and what they did is stable
 * here, so that the unstable tails of two logs never touch one object (docs/manager.md). */
export class Grants {
  readonly #table: TokenTable;
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #ports: GrantPorts;
  /** Objects whose tokens are on their way from one mount to another: requests for them wait in line. */
  readonly #moving = new Map<number, Promise<unknown>>();
  /** Objects that were given back with changes not stable then, with the segment of the manager's log that has them. */
  readonly #unsettled = new Map<number, number>();
  /** Objects whose holder is asked to share them, with the count of the last such question: until it answers, or gets another grant. */
  readonly #asked = new Map<number, number>();
  revokes = 0;
  /** Counts revokes; higher than any earlier incarnation's. What was granted under a lower count than a revoke's came before it. */
  #count: number;

  constructor(options: { table: TokenTable; journal: Journal; clock: Clock; limits: Limits; ports: GrantPorts }) {
    this.#table = options.table;
    this.#journal = options.journal;
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#ports = options.ports;
    this.#count = options.journal.log * REVOKES_MAX;
    this.#journal.onStable(() => this.#forgetSettled());
  }

  get count(): number {
    return this.#count;
  }

  /** Rejects `timedOut` where a holder is silent; trying again later helps, since
   * a silent mount is expelled. */
  acquire(mount: number, ino: number, exclusive: boolean, request?: TokenRequest): Answer<Grant> {
    const granted = () => ({ exclusive: this.#grant(mount, ino, exclusive), grant: this.#count });
    return this.#take({ mount, ino, exclusive, wanted: WHOLE_FILE }, granted, request);
  }

  /** As `acquire`, of a part of a file: for a mount that writes these regions. */
  acquireRange(mount: number, ino: number, wanted: RegionRange, request?: TokenRequest): Answer<RangeGrant> {
    const granted = () => {
      this.#asked.delete(ino);
      return { ...this.#table.grantRange(mount, ino, wanted), grant: this.#count };
    };
    return this.#take({ mount, ino, exclusive: true, wanted }, granted, request);
  }

  #take<T>(asked: AskedToken, granted: () => T, request: TokenRequest | undefined): Answer<T> {
    const { mount, ino, exclusive, wanted } = asked;
    if (this.#isFree(mount, ino, exclusive, wanted)) return granted();
    const task = async (waiter: Waiter) => {
      this.#ports.checkMount(mount);
      await this.#free(asked, waiter);
      this.#ports.checkMount(mount);
      this.#ports.checkSlot(slotOf(ino));
      if (this.#table.conflicts(mount, ino, exclusive, wanted).length > 0)
        throw new DazzleError("timedOut", `the token of ${ino} went to another mount`);
      return granted();
    };
    return this.#inLine(ino, task, request);
  }

  /** Runs `action` when no mount holds anything on `ino`, and what was done under its tokens is stable here. Nobody gets any before it is done. */
  whileNobodyHolds(ino: number, action: () => Promise<void>): Promise<void> {
    return this.#inLine(ino, async (waiter) => {
      await this.#free({ mount: NOBODY, ino, exclusive: true, wanted: WHOLE_FILE }, waiter);
      await action();
    });
  }

  /** Who is not there any more when its turn comes, or while it waits for others, holds nobody up who comes behind. */
  #inLine<T>(ino: number, task: (waiter: Waiter) => Promise<T>, request?: TokenRequest): Promise<T> {
    const waiter = new Waiter();
    const waited = (this.#moving.get(ino) ?? Promise.resolve()).then(() => {
      waiter.check();
      return task(waiter);
    });
    const done = waited
      .catch(() => {})
      // Its answer goes out before anybody is asked to give back what it grants: else it would be void when it arrives.
      .then(() => new Promise<void>((resolve) => this.#clock.soon(resolve)))
      .finally(() => {
        if (this.#moving.get(ino) === done) this.#moving.delete(ino);
      });
    this.#moving.set(ino, done);
    const answer = withDeadline(this.#clock, this.#limits.writeDeadlineMs, `the token of ${ino}`, waited);
    answer.catch((error: unknown) => waiter.leave(error));
    const leave = () => waiter.leave(new DazzleError("cancelled", `the token of ${ino}`));
    if (request?.signal.aborted) leave();
    request?.signal.addEventListener("abort", leave, { once: true });
    return answer;
  }

  /** Resolves when the grants that were under way are done, or have failed. */
  async whenStill(ino: number): Promise<void> {
    const moving = this.#moving.get(ino);
    if (moving !== undefined) await withDeadline(this.#clock, this.#limits.writeDeadlineMs, `the token of ${ino}`, moving);
  }

  /** Whether its token is on its way from one mount to another. */
  isMoving(ino: number): boolean {
    return this.#moving.has(ino);
  }

  #grant(mount: number, ino: number, exclusive: boolean): boolean {
    this.#asked.delete(ino);
    return this.#table.grant(mount, ino, exclusive);
  }

  #isFree(mount: number, ino: number, exclusive: boolean, wanted = WHOLE_FILE): boolean {
    return !this.#moving.has(ino) && !this.#unsettled.has(ino) && this.#table.conflicts(mount, ino, exclusive, wanted).length === 0;
  }

  /** Takes back what is in the way of a grant, and has what was done under it stable here. Where the waiter leaves, what was given back meanwhile still counts as held. */
  async #free({ mount, ino, exclusive, wanted }: AskedToken, waiter: Waiter): Promise<void> {
    for (;;) {
      const conflicts = this.#table.conflicts(mount, ino, exclusive, wanted);
      if (conflicts.length === 0) break;
      this.revokes += conflicts.length;
      const grant = ++this.#count;
      const kept = await Promise.all(conflicts.map((conflict) => this.#ports.revoke(conflict, ino, grant, waiter)));
      waiter.check();
      this.#ports.checkSlot(slotOf(ino));
      this.#table.revoked(ino, conflicts, kept);
      // Kept until it is stable: whoever comes next must wait for it where this one can't.
      for (const conflict of conflicts) this.#noteUnsettled(conflict.mount, [ino]);
    }
    if (this.#unsettled.has(ino)) await waiter.unlessLeft(this.#journal.settle());
  }

  /** Shared tokens on those of them for which nobody is in the way: it never waits. Answers which, and whether all of
   * those are exclusive. */
  acquireFree(mount: number, inos: Iterable<number>): { granted: ReadonlySet<number>; exclusive: boolean } {
    const granted = new Set<number>();
    let exclusive = true;
    for (const ino of inos) {
      if (!this.#isFree(mount, ino, false) || this.#table.openers.others(mount, ino)) continue;
      granted.add(ino);
      if (!this.#grant(mount, ino, false)) exclusive = false;
    }
    return { granted, exclusive };
  }

  /** Asks the holder of these to share what it can at once, and does as it says. Nobody waits for it: what is granted to the holder meanwhile it has,
   * whatever it answers. What was done under those tokens is stable here when it resolves. Answers which are shared now. */
  async share(holder: number, inos: readonly number[], ask: (grant: number) => Promise<readonly number[]>): Promise<readonly number[]> {
    const grant = ++this.#count;
    for (const ino of inos) this.#asked.set(ino, grant);
    const isAsked = (ino: number) => this.#asked.get(ino) === grant;
    let shared: readonly number[] = [];
    try {
      const answered = await ask(grant);
      shared = answered.filter((ino) => isAsked(ino) && this.#table.holder(ino) === holder);
    } finally {
      for (const ino of inos) if (isAsked(ino)) this.#asked.delete(ino);
    }
    for (const ino of shared) {
      this.#ports.checkSlot(slotOf(ino));
      this.#table.revoked(ino, [{ mount: holder, keepShared: true, wanted: WHOLE_FILE }]);
    }
    if (shared.length > 0 && this.#noteUnsettled(holder, shared)) await this.#journal.settle();
    return shared;
  }

  release(mount: number, inos: readonly number[]): void {
    for (const ino of inos) this.#table.release(mount, ino);
    this.#noteUnsettled(mount, inos);
  }

  /** Whether something that the mount did under the tokens of these may not be stable yet: until it is, nobody is granted them. */
  #noteUnsettled(mount: number, inos: readonly number[]): boolean {
    if (!this.#ports.hasUnstable(mount)) return false;
    for (const ino of inos) this.#unsettled.set(ino, this.#journal.appendedSequence);
    return true;
  }

  #forgetSettled(): void {
    if (this.#unsettled.size === 0) return;
    for (const [ino, position] of this.#unsettled) if (position <= this.#journal.stableSequence) this.#unsettled.delete(ino);
  }
}

/** Wants a token for no mount. */
const NOBODY = 0;
/** Of one incarnation. */
const REVOKES_MAX = 2 ** 31;
