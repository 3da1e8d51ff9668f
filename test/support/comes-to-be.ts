import { isDeepStrictEqual } from "node:util";
import type { ExecutionContext } from "ava";
import { until } from "./until.ts";

const DEADLINE_MS = 120_000;

/** What is asked again and again is so in the end: a machine under load may look dead for a moment, and a server whose disk is slow is left out of its group until it is back. */
export async function comesToBe<T>(t: ExecutionContext<unknown>, expected: T, ask: () => Promise<T>): Promise<void> {
  let last: T | undefined;
  await until("what is expected", DEADLINE_MS, async () => {
    last = await ask();
    return isDeepStrictEqual(last, expected);
  }).catch(() => {});
  t.deepEqual(last, expected);
}
