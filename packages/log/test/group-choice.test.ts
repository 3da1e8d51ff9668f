import test from "ava";
import { chooseGroup, type GroupLoad, sharesOf } from "../src/group-choice.ts";

const LIMITS = { segmentBytes: 1_000, underWayMax: 4 };

function load(group: number, fields: Partial<GroupLoad> = {}): GroupLoad {
  return { group, dataFragments: 2, dataServers: 2, roomBytes: 1_000_000, answerMs: 2, underWay: 0, owedBytes: 0, ...fields };
}

/** Writes until `bytes` were written, of segments as large as `segment` answers; what each group got. */
function write(loads: readonly GroupLoad[], bytes: number, segment = () => 1_000): Map<number, number> {
  const got = new Map(loads.map(({ group }) => [group, 0]));
  const owed = new Map(got);
  let present = loads[0]?.group as number;
  for (let written = 0; written < bytes; ) {
    const now = loads.map((one) => ({
      ...one,
      owedBytes: owed.get(one.group) as number,
      roomBytes: one.roomBytes === null ? null : one.roomBytes - (got.get(one.group) as number),
    }));
    present = chooseGroup(now, present, LIMITS) as number;
    const size = segment();
    written += size;
    got.set(present, (got.get(present) as number) + size);
    for (const [index, share] of sharesOf(now).entries()) {
      const { group } = now[index] as GroupLoad;
      owed.set(group, (owed.get(group) as number) + size * share - (group === present ? size : 0));
    }
  }
  return got;
}

test("groups of any size are equally full in the end", (t) => {
  const loads = [load(1, { roomBytes: 900_000 }), load(2, { roomBytes: 300_000 }), load(3, { roomBytes: 100_000 })];
  for (const bytes of [130_000, 650_000, 1_200_000]) {
    const got = write(loads, bytes);
    for (const { group, roomBytes } of loads) {
      const full = (got.get(group) as number) / (roomBytes as number);
      t.true(Math.abs(full - bytes / 1_300_000) < 0.03, `group ${group}: ${full}`);
    }
  }
});

test("a group that begins fuller gets less until they are level", (t) => {
  const got = write([load(1, { roomBytes: 200_000 }), load(2, { roomBytes: 1_000_000 })], 600_000);
  t.true(Math.abs((got.get(1) as number) - 100_000) < 5_000);
});

test("a slow group gets less, a little slower one as much", (t) => {
  const slow = write([load(1), load(2, { answerMs: 20 })], 100_000);
  t.true(Math.abs((slow.get(2) as number) / 100_000 - 1 / 6) < 0.03);
  const like = write([load(1), load(2, { answerMs: 3.5 })], 100_000);
  t.true(Math.abs((like.get(2) as number) / 100_000 - 1 / 2) < 0.03);
});

test("groups that have not told their room count by their width", (t) => {
  const got = write([load(1, { roomBytes: null, dataServers: 6 }), load(2, { dataServers: 2 })], 80_000);
  t.true(Math.abs((got.get(1) as number) - 60_000) <= 2_000);
});

test("small segments stay in one group until the other is owed a whole one", (t) => {
  const chosen: number[] = [];
  for (let owed = 0; owed <= 1_200; owed += 200) chosen.push(chooseGroup([load(1), load(2, { owedBytes: owed })], 1, LIMITS) as number);
  t.deepEqual(chosen, [1, 1, 1, 1, 1, 2, 2]);
});

test("none gets a segment that does not fit, or with too much under way, while another is better off", (t) => {
  const one = load(1);
  t.is(chooseGroup([load(2, { roomBytes: 999, owedBytes: 9_000 }), one], 2, LIMITS), 1);
  t.is(chooseGroup([load(2, { underWay: 4, owedBytes: 9_000 }), one], 2, LIMITS), 1);
  t.is(chooseGroup([load(2, { underWay: 4 }), load(1, { underWay: 5 })], 2, LIMITS), 2);
  t.is(chooseGroup([load(2, { underWay: 4 }), load(1, { roomBytes: 0 })], 2, LIMITS), 2, "a full one is worse than a busy one");
  t.is(chooseGroup([load(1, { roomBytes: 0 }), load(2, { roomBytes: 0 })], 2, LIMITS), 2, "somebody must say that nothing fits");
  t.is(chooseGroup([], 2, LIMITS), undefined);
});

test("a segment fits a group whose stripes are narrower than it is where the servers of one stripe have room for it", (t) => {
  const narrow = (roomBytes: number) => load(2, { dataServers: 4, roomBytes, owedBytes: 9_000 });
  t.is(chooseGroup([narrow(2_000), load(1)], 1, LIMITS), 2);
  t.is(chooseGroup([narrow(1_999), load(1)], 1, LIMITS), 1);
});
