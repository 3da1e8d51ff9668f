import { type Caller, DazzleError, type Deferred, deferred, type LockRange } from "@dazzle/core";

interface HeldLock {
  readonly owner: bigint;
  readonly start: number;
  /** Inclusive. */
  readonly end: number;
  readonly write: boolean;
  readonly pid: number;
}

interface Waiter {
  readonly owner: bigint;
  readonly range: LockRange;
  readonly deferred: Deferred<void>;
}

/** Waiting requests for one file's locks. */
const WAITERS_MAX = 10_000;

/** Advisory locks of one kind (fcntl's, or flock's) among the processes of this mount. */
export class LockTable {
  // INVARIANT: locks of one owner on a file never overlap; a write lock overlaps no lock of another owner.
  readonly #held = new Map<number, HeldLock[]>();
  readonly #waiting = new Map<number, Waiter[]>();

  /** The first lock that is in the way of `range`. */
  conflict(ino: number, owner: bigint, range: LockRange): LockRange | undefined {
    const held = (this.#held.get(ino) ?? []).find(
      (lock) => lock.owner !== owner && lock.start <= range.end && range.start <= lock.end && (lock.write || range.type === "write"),
    );
    return held && { start: held.start, end: held.end, type: held.write ? "write" : "read", pid: held.pid };
  }

  /** Takes, changes or drops a lock. Rejects `lockConflict` where it may not wait, `cancelled` where the wait is interrupted. */
  set(caller: Caller, ino: number, owner: bigint, range: LockRange, wait: boolean): void | Promise<void> {
    if (range.type === "unlock" || this.conflict(ino, owner, range) === undefined) {
      this.#put(ino, owner, range);
      return undefined;
    }
    if (!wait) throw new DazzleError("lockConflict", `index number ${ino}`);
    const waiters = this.#waiting.get(ino) ?? [];
    if (waiters.length >= WAITERS_MAX)
      throw new DazzleError("lockConflict", `${WAITERS_MAX} requests wait for locks of index number ${ino}`);
    if (this.#deadlocks(owner, ino, range)) throw new DazzleError("deadlock", `index number ${ino}`);
    const waiter: Waiter = { owner, range, deferred: deferred() };
    waiters.push(waiter);
    this.#waiting.set(ino, waiters);
    caller.signal?.addEventListener("abort", () => this.#giveUp(ino, waiter), { once: true });
    return waiter.deferred.promise;
  }

  /** Drops whatever an owner holds on a file. */
  drop(ino: number, owner: bigint): void {
    if (this.#held.has(ino)) this.#put(ino, owner, { start: 0, end: Number.MAX_SAFE_INTEGER, type: "unlock", pid: 0 });
  }

  #giveUp(ino: number, waiter: Waiter): void {
    this.#forget(ino, waiter);
    waiter.deferred.reject(new DazzleError("cancelled", `a lock of index number ${ino}`));
  }

  #forget(ino: number, waiter: Waiter): void {
    const left = (this.#waiting.get(ino) ?? []).filter((other) => other !== waiter);
    if (left.length > 0) this.#waiting.set(ino, left);
    else this.#waiting.delete(ino);
  }

  /** Whether those who stand in the way wait, over others, for `owner`. */
  #deadlocks(owner: bigint, ino: number, range: LockRange): boolean {
    const seen = new Set<bigint>();
    const blockers = (file: number, who: bigint, wanted: LockRange): bigint[] =>
      (this.#held.get(file) ?? [])
        .filter(
          (lock) => lock.owner !== who && lock.start <= wanted.end && wanted.start <= lock.end && (lock.write || wanted.type === "write"),
        )
        .map((lock) => lock.owner);
    const left = blockers(ino, owner, range);
    while (left.length > 0) {
      const next = left.pop() as bigint;
      if (next === owner) return true;
      if (seen.has(next)) continue;
      seen.add(next);
      for (const [file, waiters] of this.#waiting) {
        for (const waiter of waiters) if (waiter.owner === next) left.push(...blockers(file, next, waiter.range));
      }
    }
    return false;
  }

  #put(ino: number, owner: bigint, range: LockRange): void {
    const locks: HeldLock[] = [];
    for (const lock of this.#held.get(ino) ?? []) {
      if (lock.owner !== owner || lock.end < range.start || range.end < lock.start) {
        locks.push(lock);
        continue;
      }
      if (lock.start < range.start) locks.push({ ...lock, end: range.start - 1 });
      if (lock.end > range.end) locks.push({ ...lock, start: range.end + 1 });
    }
    if (range.type !== "unlock") locks.push({ owner, start: range.start, end: range.end, write: range.type === "write", pid: range.pid });
    if (locks.length > 0) this.#held.set(ino, locks);
    else this.#held.delete(ino);
    this.#wake(ino);
  }

  #wake(ino: number): void {
    for (const waiter of this.#waiting.get(ino) ?? []) {
      if (this.conflict(ino, waiter.owner, waiter.range) !== undefined) continue;
      this.#forget(ino, waiter);
      this.#put(ino, waiter.owner, waiter.range);
      waiter.deferred.resolve();
      return;
    }
  }
}
