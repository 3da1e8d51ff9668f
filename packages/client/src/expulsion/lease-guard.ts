import { type Clock, DazzleError, isDazzleError, type Limits, type Logger, sleep } from "@dazzle/core";

/** Before the lease ends nothing is served from the caches any more, and the kernel has this long to drop its pages. */
export const STOP_BEFORE_MS = 2_000;
const RETRY_MS = 100;

/** A manager, as far as a lease is concerned. */
export interface LeaseSource {
  /** Renews the lease. Rejects where the manager does not answer. */
  renew(settle: boolean): Promise<void>;
}

/** Whether this mount may serve from its caches: only while its lease for the slot concerned holds (rule 29). Requests
 * wait meanwhile, up to a deadline. */
export class LeaseGuard {
  readonly #sources: (ino: number) => LeaseSource;
  readonly #endMs: (ino: number) => number;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #limits: Limits;
  readonly #renewing = new Map<LeaseSource, Promise<string>>();
  #ended: DazzleError | null = null;
  #toldMs = Number.NEGATIVE_INFINITY;

  /** `sources`: the manager of an index number; throws where its slot has none. `endMs`: by when the lease for it certainly holds. */
  constructor(options: {
    sources: (ino: number) => LeaseSource;
    endMs: (ino: number) => number;
    clock: Clock;
    logger: Logger;
    limits: Limits;
  }) {
    this.#sources = options.sources;
    this.#endMs = options.endMs;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#limits = options.limits;
  }

  holds(ino: number): boolean {
    return this.#ended === null && this.#endMs(ino) - STOP_BEFORE_MS > this.#clock.nowMs();
  }

  /** Resolves when `holds`. Rejects, naming what is awaited, after as long as a write may wait, or at once when the mount has ended. */
  async whenHolds(ino: number): Promise<void> {
    const endMs = this.#clock.nowMs() + this.#limits.writeDeadlineMs;
    for (;;) {
      if (this.#ended !== null) throw this.#ended;
      if (this.holds(ino)) return;
      const reason = await this.#renew(ino);
      if (this.holds(ino)) return;
      if (this.#clock.nowMs() > endMs && this.#ended === null) throw this.#late(reason);
      await sleep(this.#clock, RETRY_MS);
    }
  }

  /** One attempt at a time for all who wait, and a pause behind it. Answers why the lease may not hold after it. */
  #renew(ino: number): Promise<string> {
    let source: LeaseSource;
    try {
      source = this.#sources(ino);
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      return Promise.resolve(error.message);
    }
    let renewing = this.#renewing.get(source);
    if (renewing === undefined) {
      renewing = this.#attempt(source);
      this.#renewing.set(source, renewing);
      const pause = () => sleep(this.#clock, RETRY_MS).then(() => void this.#renewing.delete(source));
      void renewing.then(pause, pause);
    }
    return renewing;
  }

  async #attempt(source: LeaseSource): Promise<string> {
    try {
      await source.renew(false);
      return "the renewal took too long, or the manager does not have the slot";
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      return error.message;
    }
  }

  #late(reason: string): DazzleError {
    const deadlineMs = this.#limits.writeDeadlineMs;
    // A line for all that waited at the same time.
    if (this.#clock.nowMs() - this.#toldMs > deadlineMs)
      this.#logger("error", "requests fail: the lease could not be renewed in time", { deadlineMs, reason });
    this.#toldMs = this.#clock.nowMs();
    return new DazzleError("timedOut", `the lease could not be renewed in ${deadlineMs} ms: ${reason}`);
  }

  /** Nothing is served any more: whoever waits gets this error. */
  end(error: DazzleError): void {
    this.#ended ??= error;
  }
}
