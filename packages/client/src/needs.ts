import { type Answer, DazzleError } from "@dazzle/core";

/** Thrown by an attempt that lacks something: it waits for it and is made again from its start. Not an error, and without a
 * stack, as it is thrown often. */
export class Needs {
  readonly overcome: () => Promise<unknown>;

  constructor(overcome: () => Promise<unknown>) {
    this.overcome = overcome;
  }
}

const ATTEMPTS_MAX = 1_000;

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
  for (let attempts = 0; attempts < ATTEMPTS_MAX; attempts++) {
    await needs.overcome();
    try {
      return attempt();
    } catch (error) {
      if (!(error instanceof Needs)) throw error;
      needs = error;
    }
  }
  throw new DazzleError("timedOut", `an operation lacked something ${ATTEMPTS_MAX} times in a row`);
}
