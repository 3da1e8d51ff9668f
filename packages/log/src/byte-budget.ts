import { type Deferred, deferred } from "@dazzle/core";

/** Lets so many bytes be under way at once; those who find no room wait in order. One larger than all of it goes alone. */
export class ByteBudget {
  readonly #most: number;
  #used = 0;
  readonly #waiting: { readonly bytes: number; readonly admitted: Deferred<void> }[] = [];

  constructor(most: number) {
    this.#most = most;
  }

  /** `give` must follow. */
  async take(bytes: number): Promise<void> {
    if (this.#waiting.length === 0 && this.#fits(bytes)) {
      this.#used += bytes;
      return;
    }
    const waiting = { bytes, admitted: deferred<void>() };
    this.#waiting.push(waiting);
    await waiting.admitted.promise;
  }

  give(bytes: number): void {
    this.#used -= bytes;
    for (let next = this.#waiting[0]; next !== undefined && this.#fits(next.bytes); next = this.#waiting[0]) {
      this.#waiting.shift();
      this.#used += next.bytes;
      next.admitted.resolve();
    }
  }

  #fits(bytes: number): boolean {
    return this.#used === 0 || this.#used + bytes <= this.#most;
  }
}
