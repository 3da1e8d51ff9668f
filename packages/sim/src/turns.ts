/** A pass of the event loop asks the system for what has arrived, which is nothing here: one serves so many turns. */
const TURNS_A_PASS = 64;

/** Turns of the real event loop: after each, every promise has settled that can without another event. */
export class Turns {
  #left = 0;
  #waiting: (() => void)[] = [];

  next(): Promise<void> {
    if (this.#left === 0) this.#begin();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #begin(): void {
    this.#left = TURNS_A_PASS;
    for (let turn = 0; turn < TURNS_A_PASS; turn++) setImmediate(() => this.#turn());
  }

  #turn(): void {
    this.#left--;
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    for (const resolve of waiting) resolve();
  }
}
