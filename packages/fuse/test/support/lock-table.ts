import { type Caller, DazzleError, type LockRange } from "@dazzle/core";

type Kind = "posix" | "flock";

interface Lock {
  readonly ino: number;
  readonly kind: Kind;
  readonly owner: bigint;
  readonly range: LockRange;
}

interface Waiter {
  readonly tryAgain: () => void;
}

/** Locks as fcntl(2) and flock(2) have them, without deadlock detection. */
export class LockTable {
  #locks: Lock[] = [];
  readonly #waiters = new Set<Waiter>();

  get waiting(): number {
    return this.#waiters.size;
  }

  conflict(ino: number, kind: Kind, owner: bigint, range: LockRange): LockRange | undefined {
    return this.#locks.find((lock) => {
      if (lock.ino !== ino || lock.kind !== kind || lock.owner === owner || !overlaps(lock.range, range)) return false;
      return lock.range.type === "write" || range.type === "write";
    })?.range;
  }

  set(ino: number, kind: Kind, owner: bigint, range: LockRange, wait: boolean, caller: Caller): void | Promise<void> {
    if (range.type !== "unlock" && this.conflict(ino, kind, owner, range) !== undefined) {
      if (!wait) throw new DazzleError("lockConflict", `inode ${ino}`);
      return this.#wait(ino, kind, owner, range, caller);
    }
    this.#place(ino, kind, owner, range);
  }

  unlockAll(ino: number, kind: Kind, owner: bigint): void {
    this.#place(ino, kind, owner, { start: 0, end: Number.MAX_SAFE_INTEGER, type: "unlock", pid: 0 });
  }

  #wait(ino: number, kind: Kind, owner: bigint, range: LockRange, caller: Caller): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter = {
        tryAgain: (): void => {
          if (this.conflict(ino, kind, owner, range) !== undefined) return;
          this.#waiters.delete(waiter);
          this.#place(ino, kind, owner, range);
          resolve();
        },
      };
      this.#waiters.add(waiter);
      caller.signal?.addEventListener("abort", () => {
        if (this.#waiters.delete(waiter)) reject(new DazzleError("cancelled", `waiting for inode ${ino}`));
      });
    });
  }

  /** What the owner had in the range is replaced. */
  #place(ino: number, kind: Kind, owner: bigint, range: LockRange): void {
    const kept: Lock[] = [];
    for (const lock of this.#locks) {
      if (lock.ino !== ino || lock.kind !== kind || lock.owner !== owner || !overlaps(lock.range, range)) {
        kept.push(lock);
        continue;
      }
      if (lock.range.start < range.start) kept.push({ ...lock, range: { ...lock.range, end: range.start - 1 } });
      if (lock.range.end > range.end) kept.push({ ...lock, range: { ...lock.range, start: range.end + 1 } });
    }
    if (range.type !== "unlock") kept.push({ ino, kind, owner, range });
    this.#locks = kept;
    for (const waiter of [...this.#waiters]) waiter.tryAgain();
  }
}

function overlaps(one: LockRange, other: LockRange): boolean {
  return one.start <= other.end && other.start <= one.end;
}
