import { DazzleError, type ErrorName } from "@dazzle/core";
import type { ExecutionContext } from "ava";

/** `action` throws a row of the error table. */
export function throwsRow(t: ExecutionContext, code: ErrorName, action: () => unknown, message: string): void {
  const error = t.throws(action, { instanceOf: DazzleError }, message) as DazzleError | undefined;
  t.is(error?.code, code, message);
}

/** What `action` answers; undefined where it throws a row of the error table. Anything else it throws fails the test. */
export function answerOrRow<T>(t: ExecutionContext, action: () => T, message: string): T | undefined {
  try {
    return action();
  } catch (error) {
    if (error instanceof DazzleError) return undefined;
    t.fail(`${message}: ${(error as Error).stack}`);
    return undefined;
  }
}
