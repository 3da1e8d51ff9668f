import { type Answer, DazzleError } from "@dazzle/core";

/** Tasks, one after the other, in the order in which they were given. */
export class SerialQueue {
  readonly #lengthMax: number;
  #last: Promise<unknown> = Promise.resolve();
  #length = 0;

  constructor(lengthMax: number) {
    this.#lengthMax = lengthMax;
  }

  get length(): number {
    return this.#length;
  }

  /** Rejects `notReady` where too many wait. */
  run<T>(task: () => Answer<T>): Promise<T> {
    if (this.#length >= this.#lengthMax) return Promise.reject(new DazzleError("notReady", `${this.#length} transactions wait here`));
    return this.runAnyway(task);
  }

  /** However many wait: for what undoes a task. */
  runAnyway<T>(task: () => Answer<T>): Promise<T> {
    this.#length++;
    const done = this.#last.then(task).finally(() => {
      this.#length--;
    });
    this.#last = done.catch(() => {});
    return done;
  }
}
