import { type Clock, DazzleError, type Deferred, deferred } from "@dazzle/core";

interface Waiting {
  readonly bytes: number;
  readonly admitted: Deferred<void>;
}

/** Lets bytes pass while at most so many are inside; further ones wait in order, up to a bound. */
export class ByteGate {
  readonly #clock: Clock;
  readonly #insideMax: number;
  readonly #waitingMax: number;
  readonly #deadlineMs: number;
  #inside = 0;
  // INVARIANT: `#waitingBytes` is the sum of `#waiting`.
  #waiting: Waiting[] = [];
  #waitingBytes = 0;

  constructor(clock: Clock, options: { readonly insideMax: number; readonly waitingMax: number; readonly deadlineMs: number }) {
    this.#clock = clock;
    this.#insideMax = options.insideMax;
    this.#waitingMax = options.waitingMax;
    this.#deadlineMs = options.deadlineMs;
  }

  get insideBytes(): number {
    return this.#inside;
  }

  /** Undefined where `bytes` are inside at once, else resolves when they are; `leave` must follow. Rejects `timedOut`, `cancelled` by the
   * caller's signal, `notReady` where too much waits already. The signal is asked for only where they wait: it may be made then. */
  enter(bytes: number, caller: { readonly signal: AbortSignal }): Promise<void> | undefined {
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#inside += bytes;
      return undefined;
    }
    if (this.#waitingBytes + bytes > this.#waitingMax)
      return Promise.reject(new DazzleError("notReady", `the disk is slow: ${this.#waitingBytes} bytes wait to be written`));
    return this.#wait(bytes, caller.signal);
  }

  leave(bytes: number): void {
    this.#inside -= bytes;
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#remove(next);
      this.#inside += next.bytes;
      next.admitted.resolve();
    }
  }

  /** One larger than all that may be inside passes alone. */
  #fits(bytes: number): boolean {
    return this.#inside === 0 || this.#inside + bytes <= this.#insideMax;
  }

  async #wait(bytes: number, signal: AbortSignal): Promise<void> {
    if (signal.aborted) throw new DazzleError("cancelled", "a store that waited for its turn");
    const waiting: Waiting = { bytes, admitted: deferred() };
    this.#waiting.push(waiting);
    this.#waitingBytes += bytes;
    const giveUp = (error: DazzleError) => {
      if (this.#remove(waiting)) waiting.admitted.reject(error);
    };
    const abort = () => giveUp(new DazzleError("cancelled", "a store that waited for its turn"));
    const timer = this.#clock.after(this.#deadlineMs, () =>
      giveUp(new DazzleError("timedOut", `the disk is slow: a store waited ${this.#deadlineMs} ms for its turn`)),
    );
    signal.addEventListener("abort", abort, { once: true });
    try {
      await waiting.admitted.promise;
    } finally {
      timer.cancel();
      signal.removeEventListener("abort", abort);
    }
  }

  #remove(waiting: Waiting): boolean {
    const at = this.#waiting.indexOf(waiting);
    if (at < 0) return false;
    this.#waiting.splice(at, 1);
    this.#waitingBytes -= waiting.bytes;
    return true;
  }
}
