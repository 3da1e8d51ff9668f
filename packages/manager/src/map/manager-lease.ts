import {
  type Clock,
  DazzleError,
  deferred,
  hasMajorities,
  isDazzleError,
  keepersOf,
  type Limits,
  type Logger,
  type MapCache,
  type MemberId,
  type Peers,
  type Reply,
  sleep,
  type Timer,
} from "@dazzle/core";

/** Renewals within one lease. */
const RENEWALS = 6;

/** How often a manager is heard of by the keepers. */
export function renewalMs(limits: Limits): number {
  return limits.managerLeaseMs / RENEWALS;
}

export interface LeaseOptions {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: Limits;
}

type Voters = Pick<Reply<"managerLease">, "keepers" | "formerKeepers">;

interface Grant extends Voters {
  readonly endMs: number;
}

/** A manager's right to serve: a promise by a majority of the keepers, renewed in the background (rule 29). It counts from
 * when it was asked for, so that it ends here before anybody else takes it to be over. */
export class ManagerLease {
  readonly #options: LeaseOptions;
  readonly #member: MemberId;
  readonly #log: number;
  /** By keeper. */
  readonly #grants = new Map<MemberId, Grant>();
  readonly #asked = new Set<MemberId>();
  #endMs = 0;
  #whenHeld = deferred();
  #wasHeld = false;
  #timer: Timer | null = null;
  readonly #endListening: () => void;
  #stopped = false;

  /** Begins to ask at once. `log` is the manager's own, live in the map. */
  constructor(options: LeaseOptions, member: MemberId, log: number) {
    this.#options = options;
    this.#member = member;
    this.#log = log;
    this.#endListening = options.map.onChange(() => this.#count());
    this.#renew();
  }

  /** Until when it is held, as far as was promised up to now. */
  get endMs(): number {
    return this.#endMs;
  }

  held(nowMs: number): boolean {
    return nowMs < this.#endMs && !this.#stopped;
  }

  /** Resolves once it is held; at once where it is. Rejects `notReady` where it was stopped before. */
  whenHeld(): Promise<void> {
    this.#noteEnd();
    return this.held(this.#options.clock.nowMs()) ? Promise.resolve() : this.#whenHeld.promise;
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    this.#endListening();
    this.#whenHeld.reject(new DazzleError("notReady", "the manager is stopping"));
  }

  #renew(): void {
    const { map, clock, limits } = this.#options;
    const keepers = new Set([map.current, ...this.#grants.values()].flatMap(keepersOf));
    for (const keeper of keepers) if (!this.#asked.has(keeper)) void this.#ask(keeper);
    this.#timer = clock.after(renewalMs(limits), () => {
      this.#noteEnd();
      this.#renew();
    });
  }

  async #ask(keeper: MemberId): Promise<void> {
    const { peers, clock, limits } = this.#options;
    const sentMs = clock.nowMs();
    this.#asked.add(keeper);
    try {
      const request = { member: this.#member, log: this.#log };
      const { reply } = await peers.call(keeper, "managerLease", request, { deadlineMs: limits.managerLeaseMs / 2 });
      const { keepers, formerKeepers } = reply;
      this.#grants.set(keeper, { endMs: sentMs + Math.min(reply.leaseMs, limits.managerLeaseMs), keepers, formerKeepers });
      this.#count();
    } catch (error) {
      if (!isDazzleError(error)) throw error;
    } finally {
      this.#asked.delete(keeper);
    }
  }

  /** It is held while promises run by majorities of every set of keepers that is heard of: while the set changes, whoever asks
   * whether it is over may know the newer one. */
  #count(): void {
    const { map, clock } = this.#options;
    const nowMs = clock.nowMs();
    for (const [keeper, { endMs }] of this.#grants) if (endMs <= nowMs) this.#grants.delete(keeper);
    const grants = [...this.#grants.values()];
    const isCovered = (endMs: number) =>
      [map.current, ...grants].every((sets) => hasMajorities(sets, (keeper) => (this.#grants.get(keeper)?.endMs ?? 0) >= endMs));
    const ends = grants.map(({ endMs }) => endMs).sort((one, other) => other - one);
    this.#endMs = ends.find(isCovered) ?? 0;
    if (!this.held(nowMs)) return;
    this.#wasHeld = true;
    this.#whenHeld.resolve();
  }

  #noteEnd(): void {
    if (!this.#wasHeld || this.held(this.#options.clock.nowMs())) return;
    this.#wasHeld = false;
    this.#whenHeld = deferred();
    this.#options.logger("warning", "the manager's lease ran out: it serves again once a majority of the map's keepers answers", {
      log: this.#log,
    });
  }
}

/** How long the lease of a manager's log that is not live any more, by the map known here, may at most be held from now on; below zero: since
 * when it is over, at the latest. Rejects `unreachable` where no majority of the keepers answers. */
export async function leaseLeftMs({ map, peers, limits }: LeaseOptions, log: number): Promise<number> {
  const replies = new Map<MemberId, Reply<"leaseLeft">>();
  const failures: string[] = [];
  const sets = map.current;
  const asked = keepersOf(sets);
  return new Promise((resolve, reject) => {
    const step = () => {
      if (hasMajorities(sets, (keeper) => replies.has(keeper))) resolve(Math.max(...[...replies.values()].map(({ leftMs }) => leftMs)));
      else if (replies.size + failures.length === asked.length)
        reject(new DazzleError("unreachable", `no majority of the map's keepers tells of log ${log}'s lease: ${failures.join("; ")}`));
    };
    for (const keeper of asked)
      peers.call(keeper, "leaseLeft", { log }, { deadlineMs: limits.managerLeaseMs }).then(
        ({ reply }) => {
          replies.set(keeper, reply);
          step();
        },
        (error: Error) => {
          failures.push(error.message);
          step();
        },
      );
  });
}

/** Whether the manager of a live log is there for certain, and may hold its lease: some keeper has heard of it within `withinMs`, and those of which it is not known
 * could make a majority with it. */
export async function isHeardOf({ map, peers, limits }: LeaseOptions, log: number, withinMs: number): Promise<boolean> {
  const told = new Map<MemberId, boolean>();
  const sets = map.current;
  const asked = keepersOf(sets);
  let unanswered = asked.length;
  return new Promise((resolve) => {
    const step = () => {
      if (!hasMajorities(sets, (keeper) => told.get(keeper) !== false)) resolve(false);
      else if (hasMajorities(sets, (keeper) => told.get(keeper) === true)) resolve(true);
      else if (unanswered === 0) resolve([...told.values()].includes(true));
    };
    for (const keeper of asked)
      peers
        .call(keeper, "leaseAsked", { log }, { deadlineMs: limits.managerLeaseMs / 2 })
        .then(
          ({ reply }) => told.set(keeper, reply.agoMs <= withinMs),
          (error: unknown) => {
            if (!isDazzleError(error)) throw error;
          },
        )
        .finally(() => {
          unanswered--;
          step();
        });
  });
}

/** Resolves when the lease of a manager's log that is not live any more is over for certain. Rejects as `leaseLeftMs` does. */
export async function leaseOver(options: LeaseOptions, log: number): Promise<void> {
  await sleep(options.clock, Math.max(0, await leaseLeftMs(options, log)));
}
