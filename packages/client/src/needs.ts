import { type Answer, DazzleError, isDazzleError, slotOf } from "@dazzle/core";

/** Thrown by an attempt that lacks something: it waits for it and is made again from its start. Not an error, and without a
 * stack, as it is thrown often. */
export class Needs {
  readonly overcome: () => Promise<unknown>;

  constructor(overcome: () => Promise<unknown>) {
    this.overcome = overcome;
  }
}

/** An attempt lacks something that may wait for a token which another mount has: nothing is pinned meanwhile, as that one may wait for the pins. */
export class NeedsElsewhere extends Needs {}

/** An attempt lacks room in the log. All wait in one line, in the order in which they came, however often they are made again: one that has written a part is
 * not overtaken by those that come later. */
export class NeedsRoom extends Needs {
  constructor(journal: { whenRoom(): Promise<void> }) {
    super(() => journal.whenRoom());
  }
}

/** Tokens, for attempts that lack some. */
export interface TokenSource {
  /** Resolves when the token is here, and pinned: it stays until the answer is called. Rejects `notFound`. */
  acquirePinned(ino: number, exclusive: boolean): Promise<() => void>;
}

/** An attempt lacks a token. */
export class NeedsToken extends Needs {
  readonly tokens: TokenSource;
  readonly ino: number;
  readonly exclusive: boolean;

  constructor(tokens: TokenSource, ino: number, exclusive: boolean) {
    super(() => Promise.resolve());
    this.tokens = tokens;
    this.ino = ino;
    this.exclusive = exclusive;
  }
}

const ATTEMPTS_MAX = 1_000;
/** Tokens that an operation had and lost before it could run, until it takes all it needs in order. */
const LOSSES_MAX = 2;

/** Makes an attempt that changes memory in one turn or not at all: at once where everything it needs is here, else as
 * often as something is missing. */
export function answer<T>(attempt: () => T): Answer<T> {
  try {
    return attempt();
  } catch (error) {
    if (error instanceof Needs) return later(attempt, error);
    throw error;
  }
}

async function later<T>(attempt: () => T, first: Needs): Promise<T> {
  let needs = first;
  const gathered = new Gathered();
  try {
    for (let attempts = 0; attempts < ATTEMPTS_MAX; ) {
      // The line has a deadline of its own, and may be long.
      if (!(needs instanceof NeedsRoom)) attempts++;
      if (needs instanceof NeedsToken) await gathered.take(needs);
      else {
        if (needs instanceof NeedsElsewhere) gathered.letGo();
        await needs.overcome();
      }
      try {
        return attempt();
      } catch (error) {
        if (!(error instanceof Needs)) throw error;
        needs = error;
      }
    }
  } finally {
    gathered.letGo();
  }
  throw new DazzleError("timedOut", `an operation lacked something ${ATTEMPTS_MAX} times in a row`);
}

/** The tokens that an operation lacked so far. At first it takes each when it lacks it, and what it took before may go meanwhile. One
 * that loses so again and again takes all of them in (shard, index number) order and keeps them pinned (rule 22): whoever holds
 * pins waits only for what comes behind them in that order, so nobody waits in a circle. */
class Gathered {
  readonly #wanted = new Map<number, boolean>();
  readonly #missing = new Set<number>();
  #pins: Array<() => void> = [];
  #losses = 0;

  async take({ tokens, ino, exclusive }: NeedsToken): Promise<void> {
    const known = this.#wanted.get(ino);
    if (known !== undefined && (known || !exclusive)) this.#losses++;
    this.#wanted.set(ino, exclusive || known === true);
    // Nothing is kept while something is asked for that may come before it.
    this.letGo();
    if (this.#losses < LOSSES_MAX) await this.#pin(tokens, ino, exclusive);
    else
      for (const [next, alone] of [...this.#wanted].sort(([a], [b]) => slotOf(a) - slotOf(b) || a - b))
        await this.#pin(tokens, next, alone);
  }

  async #pin(tokens: TokenSource, ino: number, exclusive: boolean): Promise<void> {
    try {
      this.#pins.push(await tokens.acquirePinned(ino, exclusive));
    } catch (error) {
      // The name that led to it may have gone with its directory's token: the next attempt sees.
      if (!isDazzleError(error, "notFound") || this.#missing.has(ino)) throw error;
      this.#missing.add(ino);
      this.#wanted.delete(ino);
    }
  }

  letGo(): void {
    for (const unpin of this.#pins.splice(0)) unpin();
  }
}
