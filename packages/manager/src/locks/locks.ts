import {
  type Clock,
  DazzleError,
  type DeclaredLocks,
  isDazzleError,
  type Limits,
  type Reply,
  type Request,
  type RequestContext,
  sleep,
  slotOf,
  withDeadline,
} from "@dazzle/core";
import type { MountSession } from "../mounts/mount-session.ts";
import { LockTable, type Waiter } from "./lock-table.ts";

const RETRY_MS = 100;
/** A file that two mounts locked is delegated after so many requests of one of them in a row. */
const STREAK = 16;
/** Files whose last requests are remembered. */
const SHARED_MAX = 10_000;

export interface LockPorts {
  session(mount: number): MountSession | undefined;
  /** The shard's term. Throws `staleMap` where it is not here. */
  term(ino: number): number;
  /** Whether the slot is here. */
  has(slot: number): boolean;
  /** Whether every mount that may hold something there has said what. */
  isClaimed(slot: number): boolean;
  /** The mount is expelled where it stays silent, until the returned function is called. */
  want(mount: number): () => void;
}

/** Advisory locks of the files of this manager (docs/manager.md). While no other mount asks, a mount has a file's locks delegated:
 * it decides alone, and nothing that stands here about the file counts. */
export class Locks {
  readonly #clock: Clock;
  readonly #limits: Limits;
  readonly #ports: LockPorts;
  readonly #table = new LockTable(
    (ino, waiter, order) => void this.#tell(ino, waiter, order),
    (ino) => this.#ports.isClaimed(slotOf(ino)),
  );
  /** The mount that decides about a file. INVARIANT: nobody waits for a lock of a delegated file, and no other mount holds one. */
  readonly #delegates = new Map<number, number>();
  readonly #recalls = new Map<number, Promise<void>>();
  /** Files that several mounts locked: who asked last, how often in a row. */
  readonly #shared = new Map<number, { mount: number; count: number }>();
  recalls = 0;

  constructor(options: { clock: Clock; limits: Limits; ports: LockPorts }) {
    this.#clock = options.clock;
    this.#limits = options.limits;
    this.#ports = options.ports;
  }

  async lock(request: Request<"lock">, context: RequestContext): Promise<Reply<"lock">> {
    const { mount, ino, wait } = request;
    await this.#ready(request, context);
    if (!wait) this.#noteBlockers(request);
    const { outcome, order } = this.#table.lock(ino, request, wait);
    if (outcome !== "granted" || !this.#mayDelegate(ino, mount)) return { outcome, order, delegated: false };
    this.#delegates.set(ino, mount);
    return { outcome, order, delegated: true };
  }

  async test(request: Request<"testLock">, context: RequestContext): Promise<Reply<"testLock">> {
    const { mount, ino, owner, start, end, type } = request;
    await this.#ready(request, context);
    const found = this.#table.test(ino, { mount, owner, start, end, type, pid: 0 });
    if (found === undefined) return { start, end, type: "unlock", pid: 0 };
    return { start: found.start, end: found.end, type: found.write ? "write" : "read", pid: found.mount === mount ? found.pid : 0 };
  }

  /** What a mount holds and waits for on these files, after it opened here or where it gives a delegated file back. Throws `staleMap`
   * where one of them is not here, when the others are done. */
  declare(mount: number, files: readonly DeclaredLocks[]): void {
    for (const file of files) {
      if (!this.#ports.has(slotOf(file.ino))) continue;
      if (this.#delegates.get(file.ino) === mount) this.#delegates.delete(file.ino);
      this.#table.declare(mount, file);
    }
    for (const { ino } of files) this.#ports.term(ino);
  }

  /** Every mount has claimed what it holds in these slots. */
  opened(slots: readonly number[]): void {
    this.#table.open((ino) => slots.includes(slotOf(ino)));
  }

  dropMount(mount: number): void {
    for (const [ino, holder] of this.#delegates) if (holder === mount) this.#delegates.delete(ino);
    this.#table.dropMount(mount);
  }

  /** The slot has another manager from now on. */
  dropSlot(slot: number): void {
    for (const ino of this.#delegates.keys()) if (slotOf(ino) === slot) this.#delegates.delete(ino);
    this.#table.dropFiles((ino) => slotOf(ino) === slot);
  }

  /** Whether somebody waits for a lock that the mount holds. */
  isWaitedFor(mount: number): boolean {
    return this.#table.isWaitedFor(mount);
  }

  get counts(): { held: number; waiting: number } {
    return this.#table.counts;
  }

  /** Resolves when this manager decides about the file, and the request still counts. */
  async #ready({ ino, mount }: { ino: number; mount: number }, { peer, signal }: RequestContext): Promise<void> {
    await withDeadline(this.#clock, this.#limits.writeDeadlineMs, `the locks of index number ${ino}`, this.#decides(ino, mount));
    if (signal.aborted) throw new DazzleError("cancelled", `a lock of index number ${ino}`);
    // What came over an earlier connection was asked again over this one.
    const session = this.#ports.session(mount);
    if (session === undefined || session.peer !== peer) throw new DazzleError("notReady", `mount ${mount} has opened anew`);
    this.#ports.term(ino);
    // What it holds is known to it alone: the answer that delegated the file was lost, or its giving back is on its way.
    if (this.#delegates.get(ino) === mount)
      throw new DazzleError("outOfOrder", `the locks of index number ${ino} are delegated to ${mount}`);
  }

  async #decides(ino: number, mount: number): Promise<void> {
    for (;;) {
      const delegate = this.#delegates.get(ino);
      if (delegate === undefined || delegate === mount) break;
      let recall = this.#recalls.get(ino);
      if (recall === undefined) {
        recall = this.#recall(ino, delegate).finally(() => this.#recalls.delete(ino));
        this.#recalls.set(ino, recall);
      }
      await recall;
    }
    this.#noteAsker(ino, mount);
  }

  #noteAsker(ino: number, mount: number): void {
    const shared = this.#shared.get(ino);
    if (shared !== undefined) {
      shared.count = shared.mount === mount ? shared.count + 1 : 1;
      shared.mount = mount;
    } else if (!this.#table.isAlone(ino, mount)) this.#noteShared(ino, mount);
  }

  #noteShared(ino: number, mount: number): void {
    this.#shared.delete(ino);
    this.#shared.set(ino, { mount, count: 0 });
    if (this.#shared.size > SHARED_MAX) for (const oldest of this.#shared.keys()) return void this.#shared.delete(oldest);
  }

  #mayDelegate(ino: number, mount: number): boolean {
    if (this.#recalls.has(ino) || !this.#table.isAlone(ino, mount)) return false;
    const shared = this.#shared.get(ino);
    if (shared === undefined) return true;
    if (shared.count < STREAK) return false;
    this.#shared.delete(ino);
    return true;
  }

  /** Resolves when the delegate has given the file's locks back, or is gone. */
  async #recall(ino: number, mount: number): Promise<void> {
    this.recalls++;
    this.#noteShared(ino, mount);
    const waited = this.#ports.want(mount);
    const endMs = this.#clock.nowMs() + this.#limits.writeDeadlineMs;
    try {
      for (;;) {
        const session = this.#ports.session(mount);
        if (session === undefined || this.#delegates.get(ino) !== mount) return;
        if (this.#clock.nowMs() > endMs) throw new DazzleError("timedOut", `mount ${mount} does not give the locks of ${ino} back`);
        if (await this.#askBack(session, ino)) return;
        await Promise.race([session.changed(), sleep(this.#clock, RETRY_MS)]);
      }
    } finally {
      waited();
    }
  }

  async #askBack(session: MountSession, ino: number): Promise<boolean> {
    const { peer, log } = session;
    if (session.state !== "open" || peer === undefined || peer.closed) return false;
    try {
      const asked = peer.call("returnLocks", { ino, slot: slotOf(ino), term: this.#ports.term(ino) });
      const answered = await Promise.race([asked, session.changed().then(() => undefined)]);
      if (answered === undefined || session.peer !== peer || this.#delegates.get(ino) !== log) return false;
      this.declare(log, [{ ino, number: 0, held: answered.reply.held, waits: [] }]);
      return true;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      return false;
    }
  }

  /** Tells a mount that a request of its has its lock. Where the connection ends meanwhile, the mount will declare that it
   * still waits, and is told again. */
  async #tell(ino: number, waiter: Waiter, order: number): Promise<void> {
    const session = this.#ports.session(waiter.mount);
    const peer = session?.peer;
    if (session === undefined || peer === undefined) return;
    const { number, declared } = waiter;
    while (session.peer === peer && !peer.closed) {
      try {
        await peer.call("lockGranted", { ino, number, declared, order, slot: slotOf(ino), term: this.#ports.term(ino) });
        return;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        await sleep(this.#clock, RETRY_MS);
      }
    }
  }

  /** A mount in whose way others are will ask again: it should find them gone where they are. */
  #noteBlockers({ ino, kind, ...wanted }: Request<"lock">): void {
    for (const mount of this.#table.blockers(ino, kind, wanted)) {
      const session = this.#ports.session(mount);
      if (session !== undefined && mount !== wanted.mount) session.conflictMs = this.#clock.nowMs();
    }
  }

  checkInvariants(): void {
    this.#table.checkInvariants();
    for (const [ino, mount] of this.#delegates)
      if (!this.#recalls.has(ino) && !this.#table.isAlone(ino, mount)) throw new Error(`the locks of ${ino} are delegated and shared`);
  }
}
