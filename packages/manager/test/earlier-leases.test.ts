import { type ChainLink, LIMITS, type LogId, type MemberId } from "@dazzle/core";
import test from "ava";
import { awaitedSinceMs, earlierOwners, grantedLeaseMs } from "../src/mounts/earlier-leases.ts";

const NOW_MS = 100_000;
const CAME_MS = 99_000;
/** When the last owner's lease was over, and that of the one before. */
const ENDED_MS = 96_000;
const EARLIER_MS = 80_000;
const LOST = 3 as MemberId;
/** For leases of both kinds, with the drift of clocks. */
const LATEST_MS = NOW_MS + LIMITS.mountLeaseMs * 1.01;
const AFTER_MS = (LIMITS.mountLeaseMs - LIMITS.managerLeaseMs) * 1.01;

function link(log: number, term: number, end: number | null = null): ChainLink {
  return { log: log as LogId, term, end };
}

const ends = new Map([
  [1, EARLIER_MS],
  [2, ENDED_MS],
]);

function owners(term: number, links: readonly ChainLink[]) {
  return earlierOwners({ term, links, cameMs: CAME_MS }, { limits: LIMITS, nowMs: NOW_MS, ends, memberOf: () => LOST });
}

const isAbout = (one: number, other: number) => Math.abs(one - other) < 1;

test("mounts' leases end by the latest that an owner before may have given, counted from the end of its own", (t) => {
  t.true(isAbout(owners(6, [link(1, 4), link(2, 5)]).leasesEndMs, ENDED_MS + AFTER_MS));
  for (const [what, term, links] of [
    ["one that gave the slot away", 6, [link(1, 4, 17), link(2, 5)]],
    ["one whose end is not known", 6, [link(2, 4), link(9, 5)]],
    ["one between that left the chain", 6, [link(1, 3), link(2, 5)]],
    ["the last one left the chain", 7, [link(1, 4), link(2, 5)]],
    ["all have left the chain", 6, []],
  ] as const)
    t.true(isAbout(owners(term, links).leasesEndMs, LATEST_MS), what);
});

test("a mount is silent for as long as the manager on its machine that had the slot before, and is given a manager's lease to come", (t) => {
  const since = (term: number, links: readonly ChainLink[], member = LOST, nowMs = NOW_MS) =>
    awaitedSinceMs(LIMITS, owners(term, links), member, nowMs);
  t.true(isAbout(since(6, [link(2, 5)]), CAME_MS + LIMITS.managerLeaseMs - LIMITS.mountSilenceMs));
  t.is(since(6, [link(2, 5)], 4 as MemberId), NOW_MS);
  t.is(since(7, [link(2, 5)]), NOW_MS);
  t.is(since(6, [link(2, 5, 17)]), NOW_MS);
});

test("a lease that a manager gives ends with its own, by as much later as it is longer", (t) => {
  t.is(grantedLeaseMs(LIMITS, LIMITS.managerLeaseMs), LIMITS.mountLeaseMs);
  t.is(grantedLeaseMs(LIMITS, 1_000), LIMITS.mountLeaseMs - LIMITS.managerLeaseMs + 1_000);
  t.is(grantedLeaseMs(LIMITS, -LIMITS.mountLeaseMs), 0);
});
