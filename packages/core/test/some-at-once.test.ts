import { type Deferred, deferred, someAtOnce } from "@dazzle/core";
import test from "ava";

function begun(most: number, items: readonly number[]) {
  const calls = new Map<number, Deferred<string>>();
  const all = someAtOnce(most, items, (item) => {
    const call = deferred<string>();
    calls.set(item, call);
    return call.promise;
  });
  all.catch(() => {});
  return { calls, all, turn: () => new Promise<void>((resolve) => setImmediate(resolve)) };
}

test("no more than so many run at once, and what they answer is in order", async (t) => {
  const { calls, all, turn } = begun(2, [1, 2, 3]);
  t.deepEqual([...calls.keys()], [1, 2]);
  calls.get(2)?.resolve("two");
  await turn();
  t.deepEqual([...calls.keys()], [1, 2, 3]);
  calls.get(3)?.resolve("three");
  calls.get(1)?.resolve("one");
  t.deepEqual(await all, ["one", "two", "three"]);
  t.deepEqual(await begun(2, []).all, []);
});

test("after a failure nothing more is begun", async (t) => {
  const { calls, all, turn } = begun(2, [1, 2, 3]);
  calls.get(1)?.reject(new Error("no"));
  await t.throwsAsync(all, { message: "no" });
  calls.get(2)?.resolve("two");
  await turn();
  t.deepEqual([...calls.keys()], [1, 2]);
});
