import { assert } from "./assert.ts";
import type { LockRange } from "./filesystem.ts";

/** fcntl's locks (POSIX and OFD ones), and flock's: they know nothing of each other. */
export const LockKind = { fcntl: 0, flock: 1 } as const;
export type LockKind = (typeof LockKind)[keyof typeof LockKind];

/** The last offset of a range that goes on to the end of the file. */
export const LOCK_END = Number.MAX_SAFE_INTEGER;

/** Whose a lock is: an open file description or a process's table of files, as that mount's kernel names it. */
export interface LockOwner {
  readonly mount: number;
  readonly owner: string;
}

export interface HeldLock extends LockOwner {
  readonly start: number;
  /** Inclusive. */
  readonly end: number;
  readonly write: boolean;
  readonly pid: number;
}

export interface WantedLock extends LockOwner, LockRange {}

/** The locks of one kind on one file. */
export class HeldLocks {
  // INVARIANT: locks of one owner lie apart, and those that touch differ in type; a write lock overlaps no lock of another owner.
  #locks: HeldLock[] = [];

  get size(): number {
    return this.#locks.length;
  }

  [Symbol.iterator](): Iterator<HeldLock> {
    return this.#locks.values();
  }

  /** The locks that are in the way of `wanted`. */
  conflicts(wanted: WantedLock): HeldLock[] {
    return this.#locks.filter((lock) => isInTheWay(lock, wanted));
  }

  /** The first of them, by offset. */
  conflict(wanted: WantedLock): HeldLock | undefined {
    let first: HeldLock | undefined;
    for (const lock of this.#locks) if (isInTheWay(lock, wanted) && (first === undefined || lock.start < first.start)) first = lock;
    return first;
  }

  of(owner: LockOwner): HeldLock[] {
    return this.#locks.filter((lock) => isSame(lock, owner));
  }

  /** Takes, changes or drops: whatever the owner held in the range is what `wanted` says. Nothing is in the way. Answers
   * whether that made way for others. */
  put(wanted: WantedLock): boolean {
    const kept: HeldLock[] = [];
    let madeWay = false;
    let { start, end } = wanted;
    const write = wanted.type === "write";
    for (const lock of this.#locks) {
      if (!isSame(lock, wanted) || lock.end < wanted.start - 1 || wanted.end + 1 < lock.start) {
        kept.push(lock);
      } else if (wanted.type !== "unlock" && lock.write === write) {
        start = Math.min(start, lock.start);
        end = Math.max(end, lock.end);
      } else {
        madeWay ||= wanted.type !== "write" && lock.start <= wanted.end && wanted.start <= lock.end;
        if (lock.start < wanted.start) kept.push({ ...lock, end: Math.min(lock.end, wanted.start - 1) });
        if (lock.end > wanted.end) kept.push({ ...lock, start: Math.max(lock.start, wanted.end + 1) });
      }
    }
    if (wanted.type !== "unlock") kept.push({ mount: wanted.mount, owner: wanted.owner, start, end, write, pid: wanted.pid });
    this.#locks = kept;
    return madeWay;
  }

  /** Leaves the owner only what it surely holds, whether `wanted` was granted or not. */
  lower(wanted: WantedLock): void {
    if (wanted.type === "write") return;
    for (const lock of this.of(wanted)) {
      if (lock.end < wanted.start || wanted.end < lock.start || (wanted.type === "read" && !lock.write)) continue;
      this.put({ ...wanted, pid: lock.pid, start: Math.max(lock.start, wanted.start), end: Math.min(lock.end, wanted.end) });
    }
  }

  drop(owner: LockOwner): boolean {
    return this.#keep((lock) => !isSame(lock, owner));
  }

  dropMount(mount: number): boolean {
    return this.#keep((lock) => lock.mount !== mount);
  }

  #keep(which: (lock: HeldLock) => boolean): boolean {
    const before = this.#locks.length;
    this.#locks = this.#locks.filter(which);
    return this.#locks.length < before;
  }

  checkInvariants(): void {
    for (const lock of this.#locks) {
      assert(lock.start >= 0 && lock.start <= lock.end, "a lock has a range");
      for (const other of this.#locks) {
        if (other === lock) continue;
        const apart = other.end < lock.start || lock.end < other.start;
        if (isSame(lock, other)) {
          assert(apart, "locks of one owner lie apart");
          assert(lock.write !== other.write || lock.end + 1 !== other.start, "locks of one owner and type that touch are one");
        } else assert(apart || !(lock.write || other.write), "a write lock overlaps no other owner's");
      }
    }
  }
}

function isSame(one: LockOwner, other: LockOwner): boolean {
  return one.mount === other.mount && one.owner === other.owner;
}

function isInTheWay(lock: HeldLock, wanted: WantedLock): boolean {
  return (
    lock.start <= wanted.end &&
    wanted.start <= lock.end &&
    wanted.type !== "unlock" &&
    (lock.write || wanted.type === "write") &&
    !isSame(lock, wanted)
  );
}
