import {
  type Answer,
  DazzleError,
  type DeclaredLocks,
  type Deferred,
  deferred,
  HeldLocks,
  isDazzleError,
  LOCK_END,
  LockKind,
  type LockRange,
  type LockRow,
  type Reply,
  type Request,
} from "@dazzle/core";

export interface LockPorts {
  readonly mount: number;
  /** Asks the file's manager, again until the deadline. */
  lock(request: Request<"lock">): Promise<Reply<"lock">>;
  test(request: Request<"testLock">): Promise<Reply<"testLock">>;
  /** Tells the file's manager, again until the deadline; `file` is called whenever it is sent, so that nothing later is told before. */
  declare(ino: number, file: () => DeclaredLocks): Promise<void>;
  /** Whether the mount's lease at the file's manager holds. */
  isLeased(ino: number): boolean;
  nextNumber(): number;
}

export interface LockRequest extends LockRange {
  readonly kind: LockKind;
  readonly owner: string;
}

interface Job {
  /** Null: the file's locks are given back. */
  readonly request: LockRequest | null;
  readonly wait: boolean;
  readonly done: Deferred<void>;
  /** Whoever asked has an answer. */
  settled: boolean;
  number: number;
  /** The request by which the manager last heard that this one waits. */
  declared: number;
}

interface Grant {
  readonly number: number;
  readonly declared: number;
  readonly order: number;
}

/** The locks that this mount's processes hold and wait for on one file. Its manager decides, one request after the other, and
 * what it did is done here in the same order; so this is what the mount declares where a manager knows no more. While the
 * file is delegated, it is decided here, and nothing is sent. Only the manager has requests wait: where one must, the
 * file is given back first, so that the manager sees every wait (and so every deadlock). */
export class FileLocks {
  readonly ino: number;
  readonly #ports: LockPorts;
  readonly #held: readonly [HeldLocks, HeldLocks] = [new HeldLocks(), new HeldLocks()];
  /** Requests that wait at the manager, by number. */
  readonly #waits = new Map<number, Job>();
  readonly #jobs: Job[] = [];
  /** The request that is at the manager. INVARIANT: one at a time. */
  #asked: Job | null = null;
  /** Grants that came while a request was under way: it is not known yet which was first. */
  #early: Grant[] = [];
  /** INVARIANT: while it is delegated, nothing waits. */
  #delegated = false;
  /** What the manager believes may not be so: it is told before it is asked anything. */
  #dirty = false;
  /** Grows with each declaration: an answer to what was asked before it says nothing. */
  #epoch = 0;
  #running = false;
  /** Who locked through which open handle: what is left when it is released is an OFD lock's. */
  readonly #handles = new Map<number, Set<string>>();
  /** Called when nothing is under way any more. */
  readonly #onRest: (file: FileLocks) => void;

  constructor(ino: number, ports: LockPorts, onRest: (file: FileLocks) => void) {
    this.ino = ino;
    this.#ports = ports;
    this.#onRest = onRest;
  }

  /** Nobody holds, waits, or asks. */
  get isUnused(): boolean {
    const { size } = this.#waits;
    return this.#held[0].size + this.#held[1].size + size + this.#handles.size + this.#jobs.length === 0 && !this.#running && !this.#dirty;
  }

  get isHeld(): boolean {
    return this.#held[0].size + this.#held[1].size > 0;
  }

  get isDelegated(): boolean {
    return this.#delegated;
  }

  /** The manager could not be told what is held, and nothing is under way that would. */
  get isOwing(): boolean {
    return this.#dirty && !this.#running;
  }

  /** Takes, changes or drops a lock. Rejects `lockConflict` where it may not wait, `cancelled` where the wait is interrupted,
   * `deadlock` where it would have no end. */
  set(request: LockRequest, wait: boolean, signal?: AbortSignal): Answer<void> {
    if (!this.#running && this.#decides()) {
      if (this.#tryHere(request)) return undefined;
      if (!wait) throw this.#conflict();
      this.#giveBack();
    }
    return this.#enqueue(request, wait, signal);
  }

  /** The lock in the way of an fcntl lock. */
  test(request: LockRequest): Answer<LockRange> {
    const { start, end, type, owner } = request;
    if (!this.#running && this.#decides()) {
      const found = this.#held[LockKind.fcntl].conflict(this.#wanted(request));
      if (found === undefined) return { ...request, type: "unlock" };
      return { start: found.start, end: found.end, type: found.write ? "write" : "read", pid: found.pid };
    }
    return this.#testThere({ mount: this.#ports.mount, ino: this.ino, owner, start, end, type });
  }

  async #testThere(request: Request<"testLock">): Promise<LockRange> {
    for (;;) {
      try {
        return await this.#ports.test(request);
      } catch (error) {
        if (!isDazzleError(error, "outOfOrder")) throw error;
        this.#dirty = true;
        await this.#enqueue(null, false);
      }
    }
  }

  /** Drops all that an owner holds; nothing where that is nothing. */
  drop(kind: LockKind, owner: string): Answer<void> {
    const asks = (job: Job | null) => job?.request?.owner === owner && job.request.kind === kind;
    if (this.#held[kind].of(this.#named(owner)).length === 0 && !asks(this.#asked) && !this.#jobs.some(asks)) return undefined;
    return this.set({ kind, owner, start: 0, end: LOCK_END, type: "unlock", pid: 0 }, false);
  }

  lockedThrough(handle: number, owner: string): void {
    const owners = this.#handles.get(handle);
    if (owners === undefined) this.#handles.set(handle, new Set([owner]));
    else owners.add(owner);
  }

  /** A descriptor was closed: the process's locks are gone, whichever descriptor they were taken through. */
  flush(owner: string): Answer<void> {
    for (const [handle, owners] of this.#handles) if (owners.delete(owner) && owners.size === 0) this.#handles.delete(handle);
    return this.drop(LockKind.fcntl, owner);
  }

  /** The last descriptor of an open file was closed. */
  release(handle: number): Answer<void> {
    const owners = this.#handles.get(handle);
    if (owners === undefined) return undefined;
    this.#handles.delete(handle);
    const dropped = [...owners].map((owner) => this.drop(LockKind.fcntl, owner)).filter((answer) => answer !== undefined);
    return dropped.length === 0 ? undefined : Promise.all(dropped).then(() => {});
  }

  /** The manager says that a request has its lock. */
  granted(grant: Grant): void {
    if (this.#asked !== null) this.#early.push(grant);
    else this.#grant(grant);
  }

  /** The manager decides from now on: what this mount holds. */
  async returned(): Promise<LockRow[]> {
    await this.#enqueue(null, false);
    return this.#rows();
  }

  /** What the mount surely holds, and waits for: the manager that is told decides from now on. */
  describe(): DeclaredLocks {
    const number = this.#ports.nextNumber();
    this.#epoch++;
    this.#delegated = false;
    this.#dirty = false;
    this.#early = [];
    const uncertain = [...this.#waits.values(), ...(this.#asked === null ? [] : [this.#asked])];
    for (const { request } of uncertain) this.#lower(request as LockRequest);
    const waits = [...this.#waits.values()].map((job) => {
      job.declared = number;
      const { kind, owner, start, end, type, pid } = job.request as LockRequest;
      return { number: job.number, kind, owner, start, end, write: type === "write", pid };
    });
    return { ino: this.ino, number, held: this.#rows(), waits };
  }

  /** What was described may not have arrived: it is told again, as is what could not be told. */
  undescribed(): void {
    this.#dirty = true;
    void this.#run();
  }

  /** The manager need not keep anything for this mount. */
  retire(): void {
    this.#giveBack();
    void this.#run();
  }

  /** The mount ends: nobody waits any longer. */
  close(reason: DazzleError): void {
    for (const job of [...this.#waits.values(), ...this.#jobs]) this.#settle(job, reason);
    this.#waits.clear();
    this.#jobs.length = 0;
  }

  /** Leaves what its owner surely holds, whether the request was granted or not. */
  #lower(request: LockRequest): void {
    if (request.kind === LockKind.flock) this.#held[LockKind.flock].drop(this.#wanted(request));
    else this.#held[LockKind.fcntl].lower(this.#wanted(request));
  }

  #rows(): LockRow[] {
    return [LockKind.fcntl, LockKind.flock].flatMap((kind) =>
      [...this.#held[kind]].map(({ owner, start, end, write, pid }) => ({ kind, owner, start, end, write, pid })),
    );
  }

  #named(owner: string) {
    return { mount: this.#ports.mount, owner };
  }

  #wanted(request: LockRequest) {
    return { ...request, mount: this.#ports.mount };
  }

  #conflict(): DazzleError {
    return new DazzleError("lockConflict", `index number ${this.ino}`);
  }

  #giveBack(): void {
    this.#delegated = false;
    this.#dirty = true;
  }

  /** Whether it is decided here. */
  #decides(): boolean {
    if (this.#delegated && !this.#ports.isLeased(this.ino)) this.#giveBack();
    return this.#delegated;
  }

  #tryHere(request: LockRequest): boolean {
    const held = this.#held[request.kind];
    const wanted = this.#wanted(request);
    if (held.conflict(wanted) === undefined) {
      held.put(wanted);
      return true;
    }
    if (request.kind === LockKind.flock) held.drop(wanted);
    return false;
  }

  #enqueue(request: LockRequest | null, wait: boolean, signal?: AbortSignal): Promise<void> {
    const job: Job = { request, wait, done: deferred(), settled: false, number: 0, declared: 0 };
    this.#jobs.push(job);
    // One that was asked of an incarnation before may be interrupted already.
    if (signal?.aborted) this.#interrupt(job);
    else signal?.addEventListener("abort", () => this.#interrupt(job), { once: true });
    void this.#run();
    return job.done.promise;
  }

  #settle(job: Job, error?: unknown): void {
    if (job.settled) return;
    job.settled = true;
    if (error === undefined) job.done.resolve();
    else job.done.reject(error);
  }

  /** Whatever the manager did, nothing stays held: it is told what is. A request under way is looked at when its answer comes. */
  #interrupt(job: Job): void {
    if (job.settled) return;
    this.#settle(job, new DazzleError("cancelled", `a lock of index number ${this.ino}`));
    const place = this.#jobs.indexOf(job);
    if (place >= 0) this.#jobs.splice(place, 1);
    else if (this.#waits.delete(job.number)) {
      this.#dirty = true;
      void this.#run();
    }
  }

  async #run(): Promise<void> {
    if (this.#running) return;
    this.#running = true;
    for (;;) {
      try {
        if (this.#dirty) await this.#declare();
        const job = this.#jobs.shift();
        if (job === undefined) break;
        await this.#perform(job);
      } catch (error) {
        this.#failJobs(error);
        break;
      }
    }
    this.#running = false;
    this.#onRest(this);
  }

  /** The manager can't be told now (`isOwing`). What was to be dropped is, so that it is not told of it later. */
  #failJobs(error: unknown): void {
    for (const job of this.#jobs.splice(0)) {
      if (job.request?.type === "unlock") this.#lower(job.request);
      this.#settle(job, error);
    }
  }

  async #declare(): Promise<void> {
    while (this.#dirty) {
      try {
        await this.#ports.declare(this.ino, () => this.describe());
      } catch (error) {
        this.#dirty = true;
        throw error;
      }
    }
  }

  async #perform(job: Job): Promise<void> {
    const { request, wait } = job;
    if (request === null) {
      this.#delegated = false;
      this.#settle(job);
      return;
    }
    if (this.#decides()) {
      if (this.#tryHere(request)) this.#settle(job);
      else if (!wait) this.#settle(job, this.#conflict());
      else {
        this.#giveBack();
        this.#jobs.unshift(job);
      }
      return;
    }
    if (this.#dirty) {
      this.#jobs.unshift(job);
      return;
    }
    this.#asked = job;
    try {
      const reply = await this.#ask(job, request);
      this.#answered(job, request, reply);
    } catch (error) {
      // It may have been done, or not: what was to be dropped is, and the manager is told what is left.
      this.#asked = null;
      this.#early = [];
      this.#lower(request);
      this.#dirty = true;
      this.#settle(job, error);
    }
  }

  async #ask(job: Job, request: LockRequest): Promise<Reply<"lock">> {
    for (;;) {
      const epoch = this.#epoch;
      job.number = this.#ports.nextNumber();
      const { number } = job;
      try {
        const reply = await this.#ports.lock({ ...request, mount: this.#ports.mount, ino: this.ino, number, wait: job.wait });
        if (this.#epoch === epoch) return reply;
      } catch (error) {
        // The answer that delegated the file was lost, or what gave it back is still on its way.
        if (!isDazzleError(error, "outOfOrder")) throw error;
        this.#dirty = true;
        await this.#declare();
      }
    }
  }

  #answered(job: Job, request: LockRequest, reply: Reply<"lock">): void {
    const early = this.#early.sort((one, other) => one.order - other.order);
    this.#early = [];
    this.#asked = null;
    for (const grant of early) if (grant.order < reply.order) this.#grant(grant);
    this.#apply(job, request, reply);
    for (const grant of early) if (grant.order > reply.order) this.#grant(grant);
  }

  #apply(job: Job, request: LockRequest, { outcome, delegated }: Reply<"lock">): void {
    const held = this.#held[request.kind];
    const wanted = this.#wanted(request);
    if (outcome === "granted") {
      this.#delegated = delegated;
      // Interrupted meanwhile: what this mount says counts, here or at the manager.
      if (job.settled) this.#dirty = !delegated;
      else held.put(wanted);
      this.#settle(job);
      return;
    }
    if (request.kind === LockKind.flock) held.drop(wanted);
    if (outcome === "conflict") this.#settle(job, this.#conflict());
    else if (outcome === "deadlock") this.#settle(job, new DazzleError("deadlock", `index number ${this.ino}`));
    else if (job.settled) this.#dirty = true;
    else {
      job.declared = job.number;
      this.#waits.set(job.number, job);
    }
  }

  #grant({ number, declared }: Grant): void {
    const job = this.#waits.get(number);
    if (job === undefined || job.declared !== declared) return;
    this.#waits.delete(number);
    const request = job.request as LockRequest;
    this.#held[request.kind].put(this.#wanted(request));
    this.#settle(job);
  }
}
