import { deferred } from "@dazzle/core";

/** Who waits in line for a token, until it has it, or leaves: its request is over, or took too long. */
export class Waiter {
  readonly #left = deferred<never>();
  #reason: unknown = null;

  leave(reason: unknown): void {
    this.#reason ??= reason;
    this.#left.reject(reason);
  }

  /** Throws where it has left. */
  check(): void {
    if (this.#reason !== null) throw this.#reason;
  }

  /** Rejects as soon as it has left. The promise itself goes on. */
  async unlessLeft<T>(promise: Promise<T>): Promise<T> {
    const value = await Promise.race([promise, this.#left.promise]);
    this.check();
    return value;
  }
}
