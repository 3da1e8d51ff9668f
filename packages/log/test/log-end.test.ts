import { type GroupServer, type GroupVersionRow, type ListedFragment, type MemberId, placeOf, type StoreId } from "@dazzle/core";
import test from "ava";
import type { ServerListing } from "../src/listing.ts";
import { LogEvidence, planEnd, type WrittenVersion } from "../src/log-end.ts";

const GROUP = 1;

function version(number: number, members: readonly number[], lastSequence = Number.MAX_SAFE_INTEGER, parityFragments = 1): WrittenVersion {
  const servers = members.map((member): GroupServer => ({ member: member as MemberId, store: `${member}` as StoreId }));
  const row = { version: number, servers, dataFragments: Math.max(1, members.length - parityFragments), parityFragments, frozen: null };
  return { group: GROUP, row: row as unknown as GroupVersionRow, lastSequence };
}

interface Fragment {
  readonly version: WrittenVersion;
  readonly sequence: number;
  readonly index: number;
  readonly width: number;
  /** Its header names the m of the version from which it was carried over, where that is another one. */
  readonly headerParity?: number;
}

/** Every fragment of a segment of this width under a version. */
function fragmentsOf(under: WrittenVersion, sequence: number, width: number): Fragment[] {
  return Array.from({ length: width }, (_, index) => ({ version: under, sequence, index, width }));
}

function memberOf({ version: { row }, sequence, index }: Fragment): number {
  return row.servers[placeOf(sequence, index, row.servers.length)]?.member as number;
}

function listed({ version: { row }, sequence, index, width, headerParity }: Fragment): ListedFragment {
  const parityFragments = headerParity ?? row.parityFragments;
  const shape = {
    dataFragments: width - row.parityFragments,
    parityFragments,
    payloadBytes: 100,
    dataBytes: 100,
    bytesSince: 0,
    summaryOffset: 50,
  };
  return { log: 1, sequence, group: GROUP, groupVersion: row.version, index, ...shape };
}

/** What the servers that answer list, where these fragments were stored. */
function evidence(
  versions: readonly WrittenVersion[],
  present: readonly Fragment[],
  answering: readonly number[],
  known: { stable?: number; trimmed?: number; doubted?: readonly number[] } = {},
): LogEvidence {
  const listings = answering.map((member): [StoreId, ServerListing] => [
    `${member}` as StoreId,
    {
      fragments: present.filter((fragment) => memberOf(fragment) === member).map(listed),
      stableSequence: known.stable ?? 0,
      trimmedTo: known.trimmed ?? 0,
      vouched: known.doubted?.includes(member) !== true,
      boot: "",
    },
  ]);
  return new LogEvidence(versions, new Map(listings));
}

/** The last sequence that the writer may have told stable: all fragments of one version were on disk, for it and each before. */
function toldStable(all: ReadonlyArray<readonly Fragment[][]>, present: ReadonlySet<Fragment>): number {
  let told = 0;
  for (const sets of all) {
    if (!sets.some((set) => set.every((fragment) => present.has(fragment)))) break;
    told++;
  }
  return told;
}

function* subsets<T>(items: readonly T[]): Generator<T[]> {
  for (let mask = 0; mask < 2 ** items.length; mask++) yield items.filter((_, index) => (mask & (1 << index)) !== 0);
}

test("every crash of a writer, one server silent or none: an end is decided, at or after all that was told stable", (t) => {
  const one = version(1, [1, 2, 3]);
  const all = [[fragmentsOf(one, 1, 3)], [fragmentsOf(one, 2, 2)], [fragmentsOf(one, 3, 3)], [fragmentsOf(one, 4, 2)]];
  let decisions = 0;
  for (const present of subsets(all.flat(2))) {
    const told = toldStable(all, new Set(present));
    for (const answering of [
      [1, 2, 3],
      [2, 3],
      [1, 3],
      [1, 2],
    ]) {
      const plan = planEnd(evidence([one], present, answering));
      if (plan.kind !== "decided") return t.fail(`${plan.kind} with ${answering}`);
      if (plan.end < told) return t.fail(`end ${plan.end} before ${told}, which was told stable; ${answering} answer`);
      decisions++;
    }
  }
  t.is(decisions, 4 * 2 ** 10);
});

test("every crash around a change of the group: the end is at or after all that was told stable under either version", (t) => {
  const before = version(1, [1, 2, 3]);
  const after = version(2, [1, 2]);
  const all = [
    [fragmentsOf(before, 1, 3), fragmentsOf(after, 1, 2)],
    [fragmentsOf(before, 2, 2), fragmentsOf(after, 2, 2)],
  ];
  let undecided = 0;
  for (const present of subsets(all.flat(2))) {
    const told = toldStable(all, new Set(present));
    for (const answering of [
      [1, 2, 3],
      [1, 2],
      [2, 3],
      [1, 3],
    ]) {
      const plan = planEnd(evidence([before, after], present, answering));
      if (plan.kind === "awaited") undecided++;
      else if (plan.kind === "lost" || plan.end < told) return t.fail(`${JSON.stringify(plan)} before ${told}; ${answering} answer`);
    }
  }
  t.is(undecided, 0);
});

test("every crash, and whatever has rotted beyond recognition on one server: no other that is silent is taken to have nothing, and where all answer an end is decided", (t) => {
  const one = version(1, [1, 2, 3]);
  const all = [[fragmentsOf(one, 1, 3)], [fragmentsOf(one, 2, 2)], [fragmentsOf(one, 3, 2)]];
  let awaited = 0;
  for (const present of subsets(all.flat(2))) {
    const told = toldStable(all, new Set(present));
    for (const rotten of subsets(present.filter((fragment) => memberOf(fragment) === 2))) {
      const left = present.filter((fragment) => !rotten.includes(fragment));
      for (const answering of withoutTwo([1, 2, 3])) {
        const plan = planEnd(evidence([one], left, answering, { doubted: [2] }));
        if (plan.kind === "awaited") awaited++;
        const isRight = plan.kind === "decided" ? plan.end >= told : plan.kind === "awaited" && answering.length < 3;
        if (!isRight) return t.fail(`${JSON.stringify(plan)} before ${told}; ${answering} answer`);
      }
    }
  }
  t.true(awaited > 0);
});

test("what has rotted beyond recognition wherever it may have been ends a log, unless it is known to have been stable", (t) => {
  const one = version(1, [1, 2, 3]);
  const present = [...fragmentsOf(one, 1, 3)];
  t.like(planEnd(evidence([one], present, [1, 2, 3], { doubted: [1, 2, 3] })), { kind: "decided", end: 1 });
  t.like(planEnd(evidence([one], present, [1, 2], { doubted: [1, 2] })), { kind: "awaited" });
  t.like(planEnd(evidence([one], present, [1, 2, 3], { doubted: [1, 2, 3], stable: 2 })), { kind: "lost", sequence: 2 });
  const alone = version(1, [1], Number.MAX_SAFE_INTEGER, 0);
  t.like(planEnd(evidence([alone], fragmentsOf(alone, 1, 1), [1], { doubted: [1] })), { kind: "decided", end: 1 });
});

test("what was stable and has rotted beyond recognition is written again", (t) => {
  const one = version(1, [1, 2, 3]);
  const plan = planEnd(evidence([one], fragmentsOf(one, 1, 3).slice(1), [1, 2, 3], { stable: 1, doubted: [1, 2, 3] }));
  t.like(plan, { kind: "decided", end: 1, restores: [{ sequence: 1, beyond: false }] });
});

/** All of them, and all without any one, and without any two. */
function withoutTwo(members: readonly number[]): number[][] {
  return [...subsets(members)].filter((answering) => answering.length >= members.length - 2);
}

test("two parities, every crash of a writer, up to two servers silent: an end is decided, at or after all that was told stable", (t) => {
  const members = [1, 2, 3, 4];
  const one = version(1, members, Number.MAX_SAFE_INTEGER, 2);
  const all = [[fragmentsOf(one, 1, 4)], [fragmentsOf(one, 2, 3)], [fragmentsOf(one, 3, 4)]];
  let decisions = 0;
  for (const present of subsets(all.flat(2))) {
    const told = toldStable(all, new Set(present));
    for (const answering of withoutTwo(members)) {
      const plan = planEnd(evidence([one], present, answering));
      if (plan.kind !== "decided") return t.fail(`${plan.kind} with ${answering}`);
      if (plan.end < told) return t.fail(`end ${plan.end} before ${told}, which was told stable; ${answering} answer`);
      decisions++;
    }
  }
  t.is(decisions, 11 * 2 ** 11);
  for (const answering of subsets(members))
    if (answering.length < 2) t.is(planEnd(evidence([one], [], answering)).kind, "awaited", `${answering} answer`);
});

for (const [what, before, after, silent] of [
  [
    "a server with two parities left out",
    version(1, [1, 2, 3, 4], Number.MAX_SAFE_INTEGER, 2),
    version(2, [1, 2, 3], Number.MAX_SAFE_INTEGER, 2),
    2,
  ],
  ["a second parity added", version(1, [1, 2, 3]), version(2, [1, 2, 3, 4], Number.MAX_SAFE_INTEGER, 2), 1],
] as const)
  test(`every crash around a change of the group, ${what}: the end is at or after all that was told stable under either version`, (t) => {
    const widest = ({ row }: WrittenVersion) => row.servers.length;
    const mirrored = ({ row }: WrittenVersion) => row.parityFragments + 1;
    const all = [
      [fragmentsOf(before, 1, widest(before)), fragmentsOf(after, 1, widest(after))],
      [fragmentsOf(before, 2, mirrored(before)), fragmentsOf(after, 2, mirrored(after))],
    ];
    const answers = withoutTwo([1, 2, 3, 4]).filter(({ length }) => length >= 4 - silent);
    for (const present of subsets(all.flat(2))) {
      const told = toldStable(all, new Set(present));
      for (const answering of answers) {
        const plan = planEnd(evidence([before, after], present, answering));
        if (plan.kind !== "decided" || plan.end < told) return t.fail(`${JSON.stringify(plan)} before ${told}; ${answering} answer`);
      }
    }
    t.pass();
  });

test("the second parity alone is added, every crash: the end is at or after all that was told stable, and only what has that parity is whole under the new version", (t) => {
  const members = [1, 2, 3, 4];
  const before = version(1, members);
  const after = version(2, members, Number.MAX_SAFE_INTEGER, 2);
  const raised = (sequence: number, width: number) =>
    fragmentsOf(after, sequence, width).map((one) => (one.index < width - 1 ? { ...one, headerParity: 1 } : one));
  const all = [
    [fragmentsOf(before, 1, 3), raised(1, 4)],
    [fragmentsOf(before, 2, 2), raised(2, 3)],
  ];
  for (const present of subsets(all.flat(2))) {
    const told = toldStable(all, new Set(present));
    for (const answering of withoutTwo(members).filter(({ length }) => length >= 3)) {
      const known = evidence([before, after], present, answering);
      const plan = planEnd(known);
      if (plan.kind !== "decided" || plan.end < told) return t.fail(`${JSON.stringify(plan)} before ${told}; ${answering} answer`);
      for (const [at, sets] of all.entries())
        for (const { version: of, complete } of known.verdict(at + 1).readable) {
          const set = sets[of === before ? 0 : 1] as Fragment[];
          const isWhole = set.every((one) => present.includes(one) && answering.includes(memberOf(one)));
          if (complete !== isWhole) return t.fail(`${at + 1} under ${of.row.version} is ${complete ? "" : "not "}whole`);
        }
    }
  }
  t.pass();
});

test("silence of more than m servers decides nothing, whatever the others hold", (t) => {
  const one = version(1, [1, 2, 3]);
  for (const present of subsets([...fragmentsOf(one, 1, 3), ...fragmentsOf(one, 2, 2)]))
    for (const member of [1, 2, 3]) {
      const plan = planEnd(evidence([one], present, [member]));
      if (plan.kind !== "awaited") return t.fail(plan.kind);
      if (plan.servers.some((server) => server.member === member)) return t.fail("who answered is not awaited");
    }
  t.pass();
});

test("4+1: one refusing server does not seal a log that may write two-server tails", (t) => {
  const one = version(1, [1, 2, 3, 4, 5]);
  t.is(planEnd(evidence([one], [], [1])).kind, "awaited");
  t.is(planEnd(evidence([one], [], [1, 2, 3])).kind, "awaited");
  t.like(planEnd(evidence([one], [], [1, 2, 3, 4])), { kind: "decided", end: 0 });
});

test("a held header tells the width: a server that lacks an index past m proves as much", (t) => {
  const one = version(1, [1, 2, 3, 4, 5]);
  // Indices 0 and 1 of a stripe of five, on servers 2 and 3: 4, 5 and 1 must have the others.
  const [first, second] = fragmentsOf(one, 1, 5) as [Fragment, Fragment];
  t.like(planEnd(evidence([one], [first, second], [2, 3, 4, 5])), { kind: "decided", end: 0 });
});

test("a segment of a stripe with a hole ends the log, and what lies past it is not taken", (t) => {
  const one = version(1, [1, 2, 3]);
  const present = [...fragmentsOf(one, 1, 3), ...fragmentsOf(one, 3, 3)];
  t.like(planEnd(evidence([one], present, [1, 2, 3])), { kind: "decided", end: 1, restores: [] });
});

test("what lacks a fragment is restored, what has all of one version is not", (t) => {
  const one = version(1, [1, 2, 3]);
  const present = [...fragmentsOf(one, 1, 3), ...fragmentsOf(one, 2, 3).slice(1)];
  const plan = planEnd(evidence([one], present, [1, 2, 3]));
  t.is(plan.kind, "decided");
  if (plan.kind !== "decided") return;
  t.is(plan.end, 2);
  t.deepEqual(
    plan.restores.map(({ sequence }) => sequence),
    [2],
  );
});

test("what was stable is not written again because a server is silent, and is where one that answers lacks it", (t) => {
  const one = version(1, [1, 2, 3]);
  const restored = (present: readonly Fragment[], answering: readonly number[], stable: number) => {
    const plan = planEnd(evidence([one], present, answering, { stable }));
    return plan.kind === "decided" ? plan.restores.map(({ sequence }) => sequence) : plan.kind;
  };
  const present = [...fragmentsOf(one, 1, 3), ...fragmentsOf(one, 2, 3), ...fragmentsOf(one, 3, 3)];
  t.deepEqual(restored(present, [1, 2], 2), [3]);
  t.deepEqual(restored(present, [1, 2], 0), [1, 2, 3]);
  t.deepEqual(restored(present.slice(1), [1, 2, 3], 2), [1]);
});

test("fragments of two versions are never taken together", (t) => {
  const before = version(1, [1, 2, 3]);
  const after = version(2, [3, 2, 1]);
  const present = [fragmentsOf(before, 1, 3)[0] as Fragment, fragmentsOf(after, 1, 3)[1] as Fragment];
  t.like(planEnd(evidence([before, after], present, [1, 2, 3])), { kind: "decided", end: 0 });
});

test("a segment that a header tells stable never is past the end: with too little of it, it is awaited, then lost", (t) => {
  const one = version(1, [1, 2, 3]);
  const present = [...fragmentsOf(one, 1, 3), ...fragmentsOf(one, 2, 3).slice(2)];
  t.like(planEnd(evidence([one], present, [1, 2], { stable: 2 })), { kind: "awaited" });
  t.like(planEnd(evidence([one], present, [1, 2, 3], { stable: 2 })), { kind: "lost", sequence: 2 });
});

test("a member that came back with another store proves nothing about what its old one held", (t) => {
  const before = version(1, [1, 2, 3]);
  const servers = before.row.servers.map((server) => (server.member === 2 ? { ...server, store: "2, older" as StoreId } : server));
  const older = { ...before, row: { ...before.row, servers } };
  // Segment 1 lies first on server 2; servers 1 and 3 don't tell whether it was whole.
  t.is(planEnd(evidence([older], [], [2, 1])).kind, "awaited");
  t.is(planEnd(evidence([before], [], [2, 1])).kind, "decided");
});

test("a frozen version needs nobody past its record", (t) => {
  // Segment 4 would lie on servers 2 and 3 under version 1, segment 1 likewise: server 1 proves nothing of them.
  const unfrozen = version(1, [1, 2, 3]);
  const frozen = version(1, [1, 2, 3], 3);
  const now = version(2, [1, 2]);
  t.like(planEnd(evidence([frozen, now], [], [1], { trimmed: 3 })), { kind: "decided", end: 3 });
  t.is(planEnd(evidence([unfrozen, now], [], [1], { trimmed: 3 })).kind, "awaited");
  t.is(planEnd(evidence([frozen, now], [], [1], { trimmed: 0 })).kind, "awaited");
});

test("what is trimmed was stable, whoever lacks it now: who is silent may have it", (t) => {
  const one = version(1, [1, 2, 3]);
  const held = fragmentsOf(one, 5, 3).filter((fragment) => memberOf(fragment) === 1);
  const awaitedFor = (known: { trimmed?: number }) =>
    evidence([one], held, [1, 2], known)
      .verdict(5)
      .awaited.map(({ member }) => member as number);
  t.deepEqual(awaitedFor({}), []);
  t.deepEqual(awaitedFor({ trimmed: 5 }), [3]);
});
