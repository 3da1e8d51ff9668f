import { type Clock, type Deferred, deferred, type KernelNotifier, type Logger, sleep, withDeadline } from "@dazzle/core";
import { Recent } from "./recent.ts";

/** Reads and writes that come while pages are being dropped wait so long, then they are answered, and the pages are dropped once more. */
const DOOR_MS = 3;
/** How long one pass over the pages may take. */
const PASS_MS = 20;
/** Passes in which something is answered, until a file's pages must be dropped. */
const PASSES_MAX = 100;
/** The kernel is asked again so soon, and later each time, whether it knows a file that it was told of. */
const ARRIVAL_MS = 1;
/** Names of a directory that an older kernel is told at once. */
const NAMES_AT_ONCE = 64;

/** Whether the kernel has dropped what it cached of a file. Unknown: what it was told of the file is on its way yet, and would be cached when it is there. */
type Told = "clean" | "unknown" | "refused";

/** Files whose pages are being dropped. */
interface Dropping {
  /** Something was answered since the kernel was told, so that it may have cached what it was answered. */
  answered: boolean;
  /** Resolves when requests may be answered; null where they may now. */
  door: Promise<void> | null;
}

/** What the kernel caches of this mount's files and names, and how it drops that. */
export class KernelCache {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #deadlineMs: number;
  readonly #references: ReadonlyMap<number, number>;
  readonly #dropping = new Map<number, Dropping>();
  /** Directories that another mount wanted: their names are not to be cached. */
  readonly #shared = new Recent();
  /** The last one that began, and one that has yet to. */
  #epoch: Promise<unknown> = Promise.resolve();
  #nextEpoch: Promise<void> | null = null;
  notifier: KernelNotifier | null = null;

  /** `deadlineMs`: how long a request may wait. */
  constructor(options: { clock: Clock; logger: Logger; references: ReadonlyMap<number, number>; deadlineMs: number }) {
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#deadlineMs = options.deadlineMs;
    this.#references = options.references;
  }

  /** Whether the kernel may cache names of this directory. */
  mayCacheNames(directory: number): boolean {
    return !this.#shared.has(directory, this.#clock.nowMs());
  }

  /** Whether the kernel may cache that a name is not there: an older one is told the names that are known here when they are to be dropped. */
  get mayCacheAbsence(): boolean {
    return this.notifier?.hasEpoch ?? true;
  }

  /** Null where a read or write of the file may be answered now; else what it has to wait for. */
  door(ino: number): Promise<void> | null {
    return this.#dropping.size === 0 ? null : (this.#dropping.get(ino)?.door ?? null);
  }

  /** A read or write is answered. */
  answers(ino: number): void {
    if (this.#dropping.size === 0) return;
    const dropping = this.#dropping.get(ino);
    if (dropping !== undefined) dropping.answered = true;
  }

  /** Has the kernel drop the file's attributes and pages (see `KernelPages`). Reads and writes go on meanwhile, under the token that is here
   * still: the kernel may be waiting for one (rule 31). Calls `closed` in the turn in which nothing is cached any more; or, with a warning, where requests were answered in
   * every pass, or the kernel dropped nothing for as long as a request may wait. */
  async dropFile(ino: number, closed: () => void): Promise<void> {
    const { notifier } = this;
    if (notifier === null || !this.#references.has(ino)) return closed();
    const dropping: Dropping = { answered: false, door: null };
    this.#dropping.set(ino, dropping);
    const ended = deferred();
    const endMs = this.#clock.nowMs() + this.#deadlineMs;
    let reason = "it takes too long";
    const refused = (error: Error) => {
      reason = error.message;
    };
    let told: Promise<Told> | null = null;
    let [passes, refusals] = [0, 0];
    while (passes < PASSES_MAX && this.#clock.nowMs() < endMs) {
      if (told === null || dropping.answered) {
        dropping.answered = false;
        told = this.#tell(notifier, ino, refused);
      }
      const outcome = await this.#pass(dropping, told, ended.promise);
      if (outcome === "clean" && !dropping.answered) return this.#end(ino, closed, ended);
      // One that is out waits for a request that has not come yet: another one would wait as well.
      if (outcome !== "late") told = null;
      if (dropping.answered || outcome === "unknown") passes++;
      if (outcome === "refused") refusals++;
      if (outcome === "unknown" || outcome === "refused") await sleep(this.#clock, Math.min(PASS_MS, ARRIVAL_MS * (passes + refusals)));
    }
    this.#logger("warning", "the kernel was not seen to drop what it cached", { ino, reason });
    this.#end(ino, closed, ended);
    // What was answered last goes with this: from now on nothing is answered under that token.
    void this.#tell(notifier, ino, refused);
  }

  #end(ino: number, closed: () => void, ended: Deferred<void>): void {
    this.#dropping.delete(ino);
    closed();
    ended.resolve();
  }

  /** Has the kernel drop the attributes and pages of a file that nobody uses. False where it was not seen to. */
  async forget(ino: number): Promise<boolean> {
    try {
      return (await this.notifier?.invalidateInode(ino, 0, 0)) !== false || !this.#references.has(ino);
    } catch (error) {
      this.#logger("warning", "the kernel did not take a notification", { ino, reason: (error as Error).message });
      return false;
    }
  }

  async #tell(notifier: KernelNotifier, ino: number, refused: (error: Error) => void): Promise<Told> {
    try {
      return (await notifier.invalidateInode(ino, 0, 0)) || !this.#references.has(ino) ? "clean" : "unknown";
    } catch (error) {
      refused(error as Error);
      return "refused";
    }
  }

  /** Requests wait for a moment, then they are answered. */
  async #pass(dropping: Dropping, told: Promise<Told>, ended: Promise<void>): Promise<Told | "late"> {
    const opened = sleep(this.#clock, DOOR_MS).then(() => {
      if (dropping.door === door) dropping.door = null;
    });
    const door = Promise.race([ended, opened]);
    dropping.door = door;
    const late = () => "late" as const;
    const outcome = await Promise.race([told, sleep(this.#clock, PASS_MS).then(late)]);
    if (outcome === "unknown" || outcome === "refused") dropping.door = null;
    return outcome;
  }

  /** Has the kernel look up all names anew, be they there or not. */
  async dropNames(directory: number, names: () => Iterable<string>): Promise<void> {
    this.#shared.add(directory, this.#clock.nowMs());
    const { notifier } = this;
    if (notifier === null) return;
    try {
      await (notifier.hasEpoch ? this.#incrementEpoch(notifier) : this.#dropEach(notifier, directory, [...names()]));
    } catch (error) {
      this.#logger("warning", "the kernel was not seen to drop names that it cached", { ino: directory, reason: (error as Error).message });
    }
  }

  /** One that has not begun yet is for all who ask. Takes no lock, so it never waits for a request. */
  #incrementEpoch(notifier: KernelNotifier): Promise<void> {
    this.#nextEpoch ??= this.#epoch.then(() => {
      this.#nextEpoch = null;
      const incremented = notifier.incrementEpoch();
      this.#epoch = incremented.catch(() => {});
      return incremented;
    });
    return this.#nextEpoch;
  }

  /** Each name waits for the directory's lock, which an operation that waits for a token may hold. What is late goes on behind. */
  async #dropEach(notifier: KernelNotifier, directory: number, names: readonly string[]): Promise<void> {
    const deadlineMs = PASSES_MAX * PASS_MS;
    const endMs = this.#clock.nowMs() + deadlineMs;
    await withDeadline(this.#clock, deadlineMs, "the kernel's dropping of names", this.#tellEach(notifier, directory, names, endMs));
  }

  /** Those that the kernel refuses are told it again. */
  async #tellEach(notifier: KernelNotifier, directory: number, names: readonly string[], endMs: number): Promise<void> {
    for (let left = names; ; ) {
      const refused: string[] = [];
      let reason: unknown;
      for (let at = 0; at < left.length; at += NAMES_AT_ONCE) {
        const told = left.slice(at, at + NAMES_AT_ONCE).map((name) =>
          notifier.invalidateEntry(directory, name).catch((error: unknown) => {
            refused.push(name);
            reason = error;
          }),
        );
        await Promise.all(told);
      }
      if (refused.length === 0) return;
      if (this.#clock.nowMs() >= endMs) throw reason;
      await sleep(this.#clock, PASS_MS);
      left = refused;
    }
  }
}
