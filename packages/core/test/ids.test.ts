import {
  AssertionError,
  bootId,
  groupId,
  groupVersion,
  indexNumber,
  logId,
  memberId,
  ROOT,
  SLOTS,
  sequence,
  slotOf,
  storeId,
} from "@dazzle/core";
import test from "ava";

const NUMBERED = { logId, sequence, indexNumber, memberId, groupId, groupVersion };

for (const [name, make] of Object.entries(NUMBERED)) {
  test(`${name} takes positive safe integers alone`, (t) => {
    t.is(make(1) as number, 1);
    t.is(make(Number.MAX_SAFE_INTEGER) as number, Number.MAX_SAFE_INTEGER);
    for (const wrong of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 53])
      t.throws(() => make(wrong), { instanceOf: AssertionError }, String(wrong));
  });
}

for (const [name, make] of Object.entries({ storeId, bootId })) {
  test(`${name} takes 32 hexadecimal digits alone`, (t) => {
    t.is(make("0123456789abcdef0123456789abcdef") as string, "0123456789abcdef0123456789abcdef");
    for (const wrong of ["", "0123", "0123456789ABCDEF0123456789ABCDEF", `${"0".repeat(32)}\n`, "g".repeat(32)])
      t.throws(() => make(wrong), { instanceOf: AssertionError }, JSON.stringify(wrong));
  });
}

test("a slot is the index number modulo the slots, for every safe integer", (t) => {
  t.is(slotOf(ROOT) as number, 1);
  t.is(slotOf(SLOTS) as number, 0);
  t.is(slotOf(Number.MAX_SAFE_INTEGER) as number, 63);
});
