import { type Deferred, deferred, readAhead } from "@dazzle/core";
import test from "ava";

function reading(most: number, items: readonly number[]) {
  const calls = new Map<number, Deferred<string>>();
  const read = (item: number) => {
    const call = deferred<string>();
    calls.set(item, call);
    return call.promise;
  };
  return { calls, taken: readAhead(most, items, read) };
}

test("so many are read ahead, and what they answer comes in order", async (t) => {
  const { calls, taken } = reading(2, [1, 2, 3, 4]);
  const first = taken.next();
  t.deepEqual([...calls.keys()], [1, 2]);
  calls.get(2)?.resolve("two");
  calls.get(1)?.resolve("one");
  t.deepEqual(await first, { value: "one", done: false });
  const second = taken.next();
  t.deepEqual([...calls.keys()], [1, 2, 3]);
  t.deepEqual(await second, { value: "two", done: false });
  t.true((await reading(2, []).taken.next()).done);
});

test("what fails is thrown in its turn, and not before", async (t) => {
  const { calls, taken } = reading(3, [1, 2, 3]);
  const first = taken.next();
  calls.get(2)?.reject(new Error("no"));
  await new Promise<void>((resolve) => setImmediate(resolve));
  calls.get(1)?.resolve("one");
  t.deepEqual(await first, { value: "one", done: false });
  await t.throwsAsync(taken.next(), { message: "no" });
});
