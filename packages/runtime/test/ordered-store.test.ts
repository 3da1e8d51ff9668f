import type { OrderedStore } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { openDisk } from "../src/index.ts";
import { temporaryDirectory } from "./helpers.ts";

const bytes = (text: string) => Buffer.from(text, "latin1");

function keys(store: OrderedStore, from = "\0", to = "\xff\xff"): string[] {
  return [...store.range(bytes(from), bytes(to))].map(
    ([key, value]) => `${Buffer.from(key).toString("latin1")}=${Buffer.from(value).toString("latin1")}`,
  );
}

async function open(t: ExecutionContext, root = temporaryDirectory(t)): Promise<{ store: OrderedStore; root: string }> {
  return { store: await (await openDisk(root)).openIndex("index"), root };
}

test("reads see a commit at once, and another process of the same file sees it when it has resolved", async (t) => {
  const { store, root } = await open(t);
  const first = store.commit([
    [bytes("b"), bytes("1")],
    [bytes("d"), bytes("1")],
    [bytes("\xe9"), bytes("1")],
  ]);
  t.deepEqual(keys(store), ["b=1", "d=1", "\xe9=1"]);
  const second = store.commit([
    [bytes("a"), bytes("2")],
    [bytes("b"), bytes("2")],
    [bytes("d"), undefined],
  ]);
  t.deepEqual(keys(store), ["a=2", "b=2", "\xe9=1"]);
  t.is(store.get(bytes("d")), undefined);
  t.is(Buffer.from(store.get(bytes("b")) ?? []).toString(), "2");
  await first;
  t.deepEqual(keys(store), ["a=2", "b=2", "\xe9=1"]);
  await second;
  t.deepEqual(keys(store), ["a=2", "b=2", "\xe9=1"]);
  t.deepEqual(keys(store, "a", "b"), ["a=2"]);
  await store.commit([]);
  await store.close();
  const again = await open(t, root);
  t.deepEqual(keys(again.store), ["a=2", "b=2", "\xe9=1"]);
  await again.store.close();
});

test("a value may be used for something else once commit was called, and a read one once it was read", async (t) => {
  const { store } = await open(t);
  const value = bytes("first");
  const done = store.commit([[bytes("key"), value]]);
  value.fill(0x78);
  t.is(Buffer.from(store.get(bytes("key")) ?? []).toString(), "first");
  await done;
  const entries = [...store.range(bytes("a"), bytes("z"))];
  const read = store.get(bytes("key"));
  await store.commit(Array.from({ length: 500 }, (_, index) => [bytes(`k${index}`), Buffer.alloc(200, index)] as const));
  for (let index = 0; index < 500; index++) store.get(bytes(`k${index}`));
  t.is(Buffer.from(read ?? []).toString(), "first");
  t.is(Buffer.from(entries[0]?.[1] ?? []).toString(), "first");
  await store.close();
});

test("what many commits at once leave is what one after the other would", async (t) => {
  const { store, root } = await open(t);
  const expected = new Map<string, string>();
  const commits: Promise<void>[] = [];
  let seed = 1;
  const next = (bound: number) => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % bound;
  };
  for (let step = 0; step < 2_000; step++) {
    const changes = Array.from({ length: 1 + next(4) }, () => [`key${next(300)}`, next(3) === 0 ? undefined : `value${step}`] as const);
    for (const [key, value] of changes) {
      if (value === undefined) expected.delete(key);
      else expected.set(key, value);
    }
    commits.push(store.commit(changes.map(([key, value]) => [bytes(key), value === undefined ? undefined : bytes(value)])));
    if (step % 50 === 0) await Promise.race(commits.splice(0));
    if (step % 97 === 0) t.deepEqual(keys(store), sorted(expected), `step ${step}`);
  }
  await store.close();
  const again = await open(t, root);
  t.deepEqual(keys(again.store), sorted(expected));
  await again.store.close();
});

function sorted(map: ReadonlyMap<string, string>): string[] {
  return [...map].sort(([left], [right]) => (left < right ? -1 : 1)).map(([key, value]) => `${key}=${value}`);
}
