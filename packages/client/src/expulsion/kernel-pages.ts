import {
  BLOCK_BYTES,
  type Clock,
  DazzleError,
  type Deferred,
  deferred,
  isDazzleError,
  type KernelNotifier,
  type Logger,
  withDeadline,
} from "@dazzle/core";

/** `fill`: a read into the page cache: its pages are locked, and hold nothing until it is answered. `overwrite`: a write by way of the
 * page cache: its pages are locked, and may hold something beside it. `direct`: it locks no pages. */
export type TransferKind = "fill" | "overwrite" | "direct";

/** A request of the kernel that is not answered yet. */
interface Transfer {
  readonly from: number;
  readonly to: number;
  readonly kind: TransferKind;
  /** Its pages were left out when others were dropped: they go once it is answered. */
  leftOut: boolean;
  readonly failed: Deferred<never>;
}

/** Pages of a file that are being dropped. */
interface Dropping {
  from: number;
  to: number;
  /** Raised when another request came in between: what was sent before it may wait for that one for ever. */
  round: number;
  /** The round is sent behind this turn, one for all that it brought. */
  due: boolean;
  /** Notifications of this round that the kernel has not taken yet. */
  waiting: number;
  /** Whether the kernel knows the file. */
  readonly done: Deferred<boolean>;
}

/** Files whose pages are being dropped at once. */
const DROPPED_AT_ONCE = 256;

/** Which files the kernel may hold pages of, and how it is made to drop pages whatever requests are pending. The pages of a read that is under way are
 * locked: the kernel waits for its answer before it drops those behind them, and that answer may wait for what is being given back (rule 31).
 * So it is told to drop what lies around them; they hold nothing, and are filled by what holds when the read is answered. */
export class KernelPages implements KernelNotifier {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #isOpen: (ino: number) => boolean;
  readonly #files = new Set<number>();
  /** Files whose pages may be stale: nobody had them open when all were dropped, and their pages go before anybody has. */
  readonly #stale = new Set<number>();
  readonly #transfers = new Map<number, Set<Transfer>>();
  readonly #dropping = new Map<number, Dropping>();
  /** The kernel itself. */
  notifier: KernelNotifier | null = null;

  constructor(options: { clock: Clock; logger: Logger; isOpen: (ino: number) => boolean }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#isOpen = options.isOpen;
  }

  /** The kernel is told something of the file's bytes now. */
  note(ino: number): void {
    this.#files.add(ino);
  }

  /** The kernel does not know the file any more. */
  forget(ino: number): void {
    this.#files.delete(ino);
    this.#stale.delete(ino);
  }

  /** Before a file is opened: resolves when the kernel has dropped what may be stale; undefined where nothing is. */
  beforeOpen(ino: number): Promise<void> | undefined {
    return this.#stale.has(ino) ? this.#drop(ino, 0, END).then(() => void this.#stale.delete(ino)) : undefined;
  }

  /** An answer that comes later; it may fail instead, so that the kernel can drop the pages behind it. */
  async during<T>(ino: number, offset: number, length: number, kind: TransferKind, answer: Promise<T>): Promise<T> {
    // Whole pages: a read fills those within it, a write may have locked those that it touches.
    const [down, up] = [Math.floor, Math.ceil];
    const from = (kind === "fill" ? up : down)(offset / BLOCK_BYTES) * BLOCK_BYTES;
    const to = (kind === "fill" ? down : up)((offset + length) / BLOCK_BYTES) * BLOCK_BYTES;
    const transfer: Transfer = { from, to, kind, leftOut: false, failed: deferred<never>() };
    const others = this.#transfers.get(ino);
    if (others === undefined) this.#transfers.set(ino, new Set([transfer]));
    else others.add(transfer);
    // The kernel may be waiting for it now.
    const dropping = this.#dropping.get(ino);
    if (dropping !== undefined) this.#nextRound(ino, dropping);
    try {
      const value = await Promise.race([answer, transfer.failed.promise]);
      this.#files.add(ino);
      return value;
    } finally {
      const left = this.#transfers.get(ino);
      left?.delete(transfer);
      if (left?.size === 0) this.#transfers.delete(ino);
      // Behind the answer, that is.
      if (transfer.leftOut && kind === "overwrite") this.#clock.soon(() => void this.#notify(ino, from, to).catch(() => {}));
    }
  }

  async invalidateInode(ino: number, offset: number, length: number): Promise<boolean> {
    if (length < 0) return (await this.notifier?.invalidateInode(ino, offset, length)) ?? true;
    return this.#drop(ino, offset, length === 0 ? END : offset + length);
  }

  async invalidateEntry(parent: number, name: string): Promise<void> {
    await this.notifier?.invalidateEntry(parent, name);
  }

  get hasEpoch(): boolean {
    return this.notifier?.hasEpoch ?? false;
  }

  async incrementEpoch(): Promise<void> {
    await this.notifier?.incrementEpoch();
  }

  /** Has the kernel drop every page that can be read without asking, which is those of open files. Resolves when it has. What has not been dropped after `deadlineMs` waits for a read that is pending: that one
   * fails with EIO, since nothing stale may be read. Nothing may be answered meanwhile that would fill a page. */
  async dropAll(deadlineMs: number): Promise<void> {
    if (this.notifier === null) return;
    const files: number[] = [];
    for (const ino of this.#files) {
      if (this.#isOpen(ino)) files.push(ino);
      else this.#stale.add(ino);
    }
    this.#files.clear();
    // Those that have to wait for something come last.
    files.sort((one, other) => Number(this.#transfers.has(one)) - Number(this.#transfers.has(other)));
    const late = withDeadline(this.#clock, deadlineMs, "the kernel's dropping of its pages", this.#dropEach(files));
    try {
      await late;
    } catch (error) {
      if (!isDazzleError(error, "timedOut")) throw error;
      this.#failReads(files);
    }
    this.#dropOverwritten();
  }

  /** A page of which a pending write is a part may be there to be read, with what else it held. Where it is not, the kernel waits for the write, and
   * nobody waits for the kernel. */
  #dropOverwritten(): void {
    for (const [ino, transfers] of this.#transfers)
      for (const { kind, from, to } of transfers) if (kind === "overwrite") this.#notify(ino, from, to).catch(() => {});
  }

  async #dropEach(files: readonly number[]): Promise<void> {
    const next = files.values();
    const worker = async () => {
      for (const ino of next) await this.#drop(ino, 0, END).catch(() => this.#files.add(ino));
    };
    await Promise.all(Array.from({ length: DROPPED_AT_ONCE }, worker));
  }

  /** Answers whether the kernel knows the file. Rejects where it refuses. */
  #drop(ino: number, from: number, to: number): Promise<boolean> {
    let dropping = this.#dropping.get(ino);
    if (dropping === undefined) {
      dropping = { from, to, round: 0, due: false, waiting: 0, done: deferred() };
      this.#dropping.set(ino, dropping);
    } else {
      dropping.from = Math.min(dropping.from, from);
      dropping.to = Math.max(dropping.to, to);
    }
    this.#nextRound(ino, dropping);
    return dropping.done.promise;
  }

  /** What was answered in this turn reaches the kernel first: it is under way no more. */
  #nextRound(ino: number, dropping: Dropping): void {
    dropping.round++;
    if (dropping.due) return;
    dropping.due = true;
    this.#clock.soon(() => {
      dropping.due = false;
      this.#sendRound(ino, dropping);
    });
  }

  /** Sends everything anew, but what requests under way have locked. */
  #sendRound(ino: number, dropping: Dropping): void {
    const pieces: Array<readonly [number, number]> = [];
    let from = dropping.from;
    for (const transfer of [...(this.#transfers.get(ino) ?? [])].sort((one, other) => one.from - other.from)) {
      if (transfer.kind === "direct") continue;
      const [start, end] = [Math.max(from, transfer.from), Math.min(transfer.to, dropping.to)];
      if (start >= end) continue;
      if (start > from) pieces.push([from, start]);
      transfer.leftOut = true;
      from = end;
    }
    if (from < dropping.to) pieces.push([from, dropping.to]);
    dropping.waiting = pieces.length;
    if (pieces.length === 0) this.#dropped(ino, dropping, true);
    for (const [start, end] of pieces) void this.#sendPiece(ino, dropping, dropping.round, start, end);
  }

  async #sendPiece(ino: number, dropping: Dropping, round: number, from: number, to: number): Promise<void> {
    try {
      const known = await this.#notify(ino, from, to);
      if (dropping.round === round && --dropping.waiting === 0) this.#dropped(ino, dropping, known);
    } catch (error) {
      if (dropping.round === round) this.#dropped(ino, dropping, error as Error);
    }
  }

  #dropped(ino: number, dropping: Dropping, outcome: boolean | Error): void {
    if (this.#dropping.get(ino) === dropping) this.#dropping.delete(ino);
    if (typeof outcome === "boolean") dropping.done.resolve(outcome);
    else dropping.done.reject(outcome);
  }

  async #notify(ino: number, from: number, to: number): Promise<boolean> {
    return (await this.notifier?.invalidateInode(ino, from, to === END ? 0 : to - from)) ?? true;
  }

  #failReads(files: readonly number[]): void {
    let reads = 0;
    for (const ino of files) {
      if (!this.#dropping.has(ino)) continue;
      this.#files.add(ino);
      for (const { kind, failed } of this.#transfers.get(ino) ?? []) {
        if (kind !== "fill") continue;
        reads++;
        failed.reject(new DazzleError("timedOut", "the lease ends, and the kernel must drop its pages"));
      }
    }
    this.#logger("warning", "reads fail so that the kernel can drop its pages before the lease ends", {
      reads,
      files: this.#dropping.size,
    });
  }
}

const END = Number.MAX_SAFE_INTEGER;
