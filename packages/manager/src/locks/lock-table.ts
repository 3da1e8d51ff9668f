import { assert, DazzleError, type DeclaredLocks, HeldLocks, LockKind, type LockOutcome, type WantedLock } from "@dazzle/core";

/** Requests that may wait for one file's locks, and locks that one file may have. */
const WAITERS_MAX = 10_000;
const HELD_MAX = 100_000;

export interface LockRequest extends WantedLock {
  readonly kind: LockKind;
  /** The mount's number of the request. */
  readonly number: number;
}

export interface Waiter extends LockRequest {
  /** The request, or the later declaration, by which it is known here. */
  declared: number;
}

interface FileLocks {
  readonly held: readonly [HeldLocks, HeldLocks];
  /** In the order in which they came. */
  waiting: Waiter[];
}

/** Who holds and who waits for which locks, of all files of a manager (docs/manager.md). Nothing is awaited here. */
export class LockTable {
  // INVARIANT: a file that has a row has a lock or a waiter, and no waiter could be granted.
  readonly #files = new Map<number, FileLocks>();
  /** Waiting requests for fcntl's locks, by owner: what a search for deadlocks follows. */
  readonly #waitingOwners = new Map<string, Map<Waiter, number>>();
  readonly #granted: (ino: number, waiter: Waiter, order: number) => void;
  readonly #mayGrant: (ino: number) => boolean;
  #order = 0;

  /** `granted` is called for each waiter that has its lock now. Where `mayGrant` is false there may be more locks than are known: waiters wait
   * until `open`. */
  constructor(granted: (ino: number, waiter: Waiter, order: number) => void, mayGrant: (ino: number) => boolean = () => true) {
    this.#granted = granted;
    this.#mayGrant = mayGrant;
  }

  /** Takes, changes or drops a lock. Asking again changes nothing. Rejects `noLocks` where there are too many. */
  lock(ino: number, request: LockRequest, wait: boolean): { outcome: LockOutcome; order: number } {
    const order = ++this.#order;
    const outcome = this.#lock(ino, request, wait);
    return { outcome, order };
  }

  #lock(ino: number, request: LockRequest, wait: boolean): LockOutcome {
    const file = this.#files.get(ino) ?? this.#add(ino);
    const held = file.held[request.kind];
    const waiting = file.waiting.find(({ mount, number }) => mount === request.mount && number === request.number);
    try {
      if (waiting !== undefined) return "waiting";
      const blockers = held.conflicts(request);
      if (blockers.length === 0) {
        if (request.type !== "unlock" && held.size >= HELD_MAX)
          throw new DazzleError("noLocks", `index number ${ino} has ${HELD_MAX} locks`);
        held.put(request);
        return "granted";
      }
      // As flock(2) has it: a conversion gives up the old lock first, so that two of them don't wait for each other.
      if (request.kind === LockKind.flock) held.drop(request);
      if (!wait) return "conflict";
      if (file.waiting.length >= WAITERS_MAX)
        throw new DazzleError("noLocks", `${WAITERS_MAX} requests wait for locks of index number ${ino}`);
      if (request.kind === LockKind.fcntl && this.#deadlocks(request, blockers)) return "deadlock";
      this.#wait(ino, file, { ...request, declared: request.number });
      return "waiting";
    } finally {
      this.#wake(ino, file);
    }
  }

  /** The first of fcntl's locks in the way. */
  test(ino: number, wanted: WantedLock) {
    return this.#files.get(ino)?.held[LockKind.fcntl].conflict(wanted);
  }

  /** From now on the mount holds and waits for exactly this. Who waited already keeps the place in the line. */
  declare(mount: number, { ino, number, held, waits }: DeclaredLocks): void {
    const file = this.#files.get(ino) ?? this.#add(ino);
    for (const locks of file.held) locks.dropMount(mount);
    for (const { kind, owner, start, end, write, pid } of held)
      file.held[kind].put({ mount, owner, start, end, type: write ? "write" : "read", pid });
    const declared = new Map(waits.map((wait) => [wait.number, wait]));
    for (const waiter of file.waiting) if (waiter.mount === mount && !declared.has(waiter.number)) this.#forget(waiter);
    file.waiting = file.waiting.filter((waiter) => {
      if (waiter.mount !== mount) return true;
      waiter.declared = number;
      return declared.delete(waiter.number);
    });
    for (const wait of declared.values()) {
      const { kind, owner, start, end, write, pid } = wait;
      this.#wait(ino, file, { mount, number: wait.number, kind, owner, start, end, type: write ? "write" : "read", pid, declared: number });
    }
    this.#wake(ino, file);
  }

  /** Whether no other mount holds or waits for anything, and this one waits for nothing. */
  isAlone(ino: number, mount: number): boolean {
    const file = this.#files.get(ino);
    if (file === undefined) return true;
    if (file.waiting.length > 0) return false;
    for (const locks of file.held) for (const lock of locks) if (lock.mount !== mount) return false;
    return true;
  }

  /** The mounts whose locks are in the way of `wanted`. */
  blockers(ino: number, kind: LockKind, wanted: WantedLock): Set<number> {
    return new Set(
      this.#files
        .get(ino)
        ?.held[kind].conflicts(wanted)
        .map(({ mount }) => mount),
    );
  }

  /** Whether anybody waits for something that the mount holds. */
  isWaitedFor(mount: number): boolean {
    for (const { held, waiting } of this.#files.values())
      for (const waiter of waiting) if (held[waiter.kind].conflicts(waiter).some((lock) => lock.mount === mount)) return true;
    return false;
  }

  dropMount(mount: number): void {
    for (const ino of [...this.#files.keys()]) this.declare(mount, { ino, number: 0, held: [], waits: [] });
  }

  /** Files whose locks are elsewhere from now on. */
  dropFiles(which: (ino: number) => boolean): void {
    for (const [ino, file] of this.#files) {
      if (!which(ino)) continue;
      for (const waiter of file.waiting) this.#forget(waiter);
      this.#files.delete(ino);
    }
  }

  get counts(): { held: number; waiting: number } {
    let held = 0;
    let waiting = 0;
    for (const file of this.#files.values()) {
      held += file.held[0].size + file.held[1].size;
      waiting += file.waiting.length;
    }
    return { held, waiting };
  }

  #add(ino: number): FileLocks {
    const file: FileLocks = { held: [new HeldLocks(), new HeldLocks()], waiting: [] };
    this.#files.set(ino, file);
    return file;
  }

  #wait(ino: number, file: FileLocks, waiter: Waiter): void {
    file.waiting.push(waiter);
    if (waiter.kind !== LockKind.fcntl) return;
    const key = ownerKey(waiter);
    const waiters = this.#waitingOwners.get(key) ?? new Map<Waiter, number>();
    waiters.set(waiter, ino);
    this.#waitingOwners.set(key, waiters);
  }

  #forget(waiter: Waiter): void {
    const key = ownerKey(waiter);
    const waiters = this.#waitingOwners.get(key);
    if (waiters?.delete(waiter) && waiters.size === 0) this.#waitingOwners.delete(key);
  }

  /** All locks of these files are known now. */
  open(which: (ino: number) => boolean): void {
    for (const [ino, file] of this.#files) if (which(ino)) this.#wake(ino, file);
  }

  /** Grants what can be granted, to who came first; a grant may lower what its owner held, and so make way for more. */
  #wake(ino: number, file: FileLocks): void {
    for (let place = 0; place < file.waiting.length && this.#mayGrant(ino); ) {
      const waiter = file.waiting[place] as Waiter;
      const held = file.held[waiter.kind];
      if (held.conflict(waiter) !== undefined) {
        place++;
        continue;
      }
      file.waiting.splice(place, 1);
      this.#forget(waiter);
      if (held.put(waiter)) place = 0;
      this.#granted(ino, waiter, ++this.#order);
    }
    if (file.waiting.length === 0 && file.held[0].size === 0 && file.held[1].size === 0) this.#files.delete(ino);
  }

  /** Whether those who stand in the way wait, over others, for the one who asks. */
  #deadlocks(request: LockRequest, blockers: readonly { mount: number; owner: string }[]): boolean {
    const asking = ownerKey(request);
    const seen = new Set<string>();
    const left = blockers.map(ownerKey);
    for (let next = left.pop(); next !== undefined; next = left.pop()) {
      if (next === asking) return true;
      if (seen.has(next)) continue;
      seen.add(next);
      for (const [waiter, ino] of this.#waitingOwners.get(next) ?? [])
        for (const lock of this.#files.get(ino)?.held[LockKind.fcntl].conflicts(waiter) ?? []) left.push(ownerKey(lock));
    }
    return false;
  }

  checkInvariants(): void {
    let waiters = 0;
    for (const [ino, file] of this.#files) {
      for (const locks of file.held) locks.checkInvariants();
      assert(file.waiting.length + file.held[0].size + file.held[1].size > 0, `the locks of ${ino} are someone's`);
      for (const waiter of file.waiting) {
        const waits = file.held[waiter.kind].conflict(waiter) !== undefined || !this.#mayGrant(ino);
        assert(waits, `request ${waiter.number} for a lock of ${ino} waits for something`);
        if (waiter.kind === LockKind.fcntl) {
          waiters++;
          assert(this.#waitingOwners.get(ownerKey(waiter))?.get(waiter) === ino, "whose request waits is known to wait");
        }
      }
    }
    let known = 0;
    for (const of of this.#waitingOwners.values()) known += of.size;
    assert(known === waiters, "who is known to wait does");
  }
}

function ownerKey({ mount, owner }: { mount: number; owner: string }): string {
  return `${mount}/${owner}`;
}
