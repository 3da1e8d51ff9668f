import { DazzleError, reasonOf } from "@dazzle/core";

export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

export function printJson(document: unknown): void {
  print(JSON.stringify(document, undefined, 2));
}

/** One line that a person understands: without the code of a `DazzleError`, without a stack. */
export function lineOf(error: unknown): string {
  return oneLine(reasonOf(error));
}

function oneLine(text: string): string {
  return text.split("\n")[0] as string;
}

/** An expected failure of the command itself. */
export function failure(message: string): DazzleError {
  return new DazzleError("invalid", message);
}

const PROGRESS_AFTER_MS = 1_000;
const PROGRESS_INTERVAL_MS = 200;
const BAR_CELLS = 24;

/** A bar on the terminal for what takes more than a second; nothing where standard error is no terminal. */
export class Progress {
  readonly #what: string;
  readonly #total: number;
  #done = 0;
  #detail = "";
  #shown = false;
  readonly #timers: NodeJS.Timeout[] = [];

  constructor(what: string, total: number) {
    this.#what = what;
    this.#total = total;
    if (!process.stderr.isTTY) return;
    const delay = setTimeout(() => this.#timers.push(setInterval(() => this.#draw(), PROGRESS_INTERVAL_MS)), PROGRESS_AFTER_MS);
    this.#timers.push(delay);
  }

  step(detail: string, done = this.#done + 1): void {
    this.#done = done;
    this.#detail = detail;
  }

  /** Prints a line above the bar. */
  print(line: string): void {
    this.#erase();
    print(line);
  }

  end(): void {
    for (const timer of this.#timers) clearInterval(timer);
    this.#erase();
  }

  #erase(): void {
    if (this.#shown) process.stderr.write("\r\x1b[K");
    this.#shown = false;
  }

  #draw(): void {
    const filled = Math.round((BAR_CELLS * this.#done) / Math.max(1, this.#total));
    const bar = "#".repeat(filled) + ".".repeat(BAR_CELLS - filled);
    process.stderr.write(`\r\x1b[K${this.#what} [${bar}] ${this.#done}/${this.#total} ${this.#detail}`);
    this.#shown = true;
  }
}
