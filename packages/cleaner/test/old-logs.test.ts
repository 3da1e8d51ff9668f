import type { LogId } from "@dazzle/core";
import test from "ava";
import { CLOSED_LOGS_MAX, smallestLogs } from "../src/old-logs.ts";

/** Each has more than the one before it. */
function closed(logs: number) {
  return Array.from({ length: logs }, (_, index) => ({ log: (index + 1) as LogId, liveBytes: 900 * (index + 1) })).reverse();
}

test("of too many closed logs the smallest are to be emptied, the smallest first", (t) => {
  t.deepEqual(smallestLogs(closed(CLOSED_LOGS_MAX + 3)).map(Number), [1, 2, 3]);
});

test("some closed logs are left", (t) => {
  t.deepEqual(smallestLogs(closed(CLOSED_LOGS_MAX)), []);
});
