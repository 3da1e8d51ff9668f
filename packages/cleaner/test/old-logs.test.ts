import type { LogId, Sequence } from "@dazzle/core";
import test from "ava";
import { CLOSED_LOGS_MAX, ofSmallestLogs } from "../src/old-logs.ts";
import type { StoredSegment } from "../src/survey.ts";
import { logRow, oneMember } from "./support/one-member.ts";

function segments(log: number, count: number, live: number): StoredSegment[] {
  return Array.from({ length: count }, (_, index) => ({
    ...{ log: log as LogId, sequence: (index + 1) as Sequence, groupVersion: 1 },
    ...{ bytes: 1_000, live, named: live, age: 0, seenMs: 0 },
  }));
}

/** Each log has one segment more than the one before it. */
function bench(logs: number, state: "closed" | "live" = "closed") {
  const rows = Array.from({ length: logs }, (_, index) => logRow(index + 1, { state }));
  const { map } = oneMember({}, rows);
  return { map: map.current, candidates: rows.flatMap(({ id }) => segments(id, Number(id), 900)).reverse() };
}

const logsOf = (chosen: readonly StoredSegment[]) => [...new Set(chosen.map(({ log }) => Number(log)))];

test("of too many closed logs the smallest are emptied, as far as that is bounded", (t) => {
  const { map, candidates } = bench(CLOSED_LOGS_MAX + 3);
  const chosen = ofSmallestLogs(map, candidates, 1_000_000);
  t.deepEqual(logsOf(chosen), [1, 2, 3]);
  t.is(chosen.length, 6, "whole logs");
  t.deepEqual(logsOf(ofSmallestLogs(map, candidates, 3 * 900)), [1, 2]);
});

test("some closed logs, and any number of live ones, are left", (t) => {
  for (const { map, candidates } of [bench(CLOSED_LOGS_MAX), bench(2 * CLOSED_LOGS_MAX, "live")])
    t.deepEqual(ofSmallestLogs(map, candidates, 1_000_000), []);
});
