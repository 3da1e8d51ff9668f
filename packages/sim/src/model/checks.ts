import { type Answer, type Entry, isDazzleError } from "@dazzle/core";
import { describe, type History } from "./history.ts";
import { attributesDifference } from "./observed.ts";
import { type NodeId, nodeOf, type Operation, Refused, type Touched, whole } from "./state.ts";

/** A filesystem that did something else than the model. `cause` is what it threw, if it threw. */
export class MismatchError extends Error {
  override name = "MismatchError";
}

export interface CheckEvents {
  /** Both refused. */
  refused(): void;
  /** The filesystem said that there is no space. Answers whether that may be. */
  full(): boolean;
}

/** Calls of a filesystem, held against the model. */
export class Checks {
  readonly #history: History;
  readonly #mount: string;
  readonly #events: CheckEvents;

  constructor(history: History, mount: string, events: CheckEvents) {
    this.#history = history;
    this.#mount = mount;
    this.#events = events;
  }

  /** Carries out a change in the model and in the filesystem. Undefined where both refuse it. */
  async change<T>(operation: Operation, run: () => Answer<T>): Promise<T | undefined> {
    let done: () => void;
    try {
      done = this.#history.begin(this.#mount, operation);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      await this.#refusal(operation, error, run);
      return undefined;
    }
    try {
      const result = await run();
      done();
      return result;
    } catch (error) {
      if (!isDazzleError(error, "noSpace") || !this.#events.full())
        throw this.mismatch(describe(operation), (error as Error).message, error);
      this.#history.retract();
      return undefined;
    }
  }

  /** Carries out what only looks. */
  async look<T>(touched: Touched, what: string, run: () => Answer<T>): Promise<T> {
    const looked = this.#history.looks(this.#mount, [touched]);
    const result = await this.expect(what, run);
    looked();
    return result;
  }

  /** What must not fail. */
  async expect<T>(what: string, run: () => Answer<T>): Promise<T> {
    try {
      return await run();
    } catch (error) {
      throw this.mismatch(what, (error as Error).message, error);
    }
  }

  checkEntry(id: NodeId, entry: Entry, what: string): void {
    const { attributes } = entry;
    const ino = this.#history.numbers.get(id);
    if (attributes.ino !== ino) throw this.mismatch(`${what} of ${id}`, `is ${attributes.ino}, not ${ino}`);
    const difference = attributesDifference(nodeOf(this.#history.current, id), attributes);
    if (difference !== undefined) throw this.mismatch(`${what} of ${id} (${ino})`, difference);
  }

  mismatch(what: string, how: string, cause?: unknown): MismatchError {
    return new MismatchError(`${this.#mount}, after operation ${this.#history.lastNumber}: ${what}: ${how}`, { cause });
  }

  async #refusal(operation: Operation, refused: Refused, run: () => Answer<unknown>): Promise<void> {
    this.#events.refused();
    const looked = this.#history.looks(this.#mount, lookedAt(operation).map(whole));
    try {
      await run();
    } catch (error) {
      if (!isDazzleError(error, ...refused.codes)) throw this.mismatch(describe(operation), (error as Error).message, error);
      looked();
      return;
    }
    throw this.mismatch(describe(operation), `succeeded, but must fail with ${refused.codes.join(" or ")}`);
  }
}

/** What a mount has looked at for certain when it refuses an operation: the directory, not what the name leads to. That a name is taken, say, is
 * known without a token of whatever has it. */
function lookedAt(operation: Operation): NodeId[] {
  switch (operation.kind) {
    case "create":
    case "makeDirectory":
    case "symlink":
    case "unlink":
    case "removeDirectory":
      return [operation.parent];
    default:
      return [];
  }
}
