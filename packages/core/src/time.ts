import { DazzleError } from "./errors.ts";
import type { Clock } from "./ports.ts";

/** Resolves after `delayMs`, or rejects `cancelled` when `signal` aborts. */
export function sleep(clock: Clock, delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(new DazzleError("cancelled", "sleep"));
    const abort = () => {
      timer.cancel();
      reject(new DazzleError("cancelled", "sleep"));
    };
    const timer = clock.after(delayMs, () => {
      signal?.removeEventListener("abort", abort);
      resolve();
    });
    signal?.addEventListener("abort", abort, { once: true });
  });
}

/** `promise`, or a rejection `timedOut` that names `what` after `deadlineMs`. The promise itself goes on. */
export function withDeadline<T>(clock: Clock, deadlineMs: number, what: string, promise: Promise<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    const timer = clock.after(deadlineMs, () => reject(new DazzleError("timedOut", `${what} took over ${deadlineMs} ms`)));
    promise.then(
      (value) => {
        timer.cancel();
        resolve(value);
      },
      (error) => {
        timer.cancel();
        reject(error);
      },
    );
  });
}

/** A promise with its resolvers outside. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T): void;
  reject(error: unknown): void;
}

export function deferred<T = void>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: unknown) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => {});
  return { promise, resolve, reject };
}
