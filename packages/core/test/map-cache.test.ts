import { AssertionError, type ClusterMap, DazzleError, type ErrorName, MapCache, type MapStore } from "@dazzle/core";
import test from "ava";
import { sampleMap } from "./support/message-samples.ts";

/** A register that fails as it is told. */
class Register implements MapStore {
  value: ClusterMap;
  reads = 0;
  /** Errors of the next swaps; `lost: true`: the swap took place and its answer was lost. */
  failures: Array<{ code: ErrorName; lost: boolean }> = [];

  constructor(value: ClusterMap) {
    this.value = value;
  }

  async read(): Promise<ClusterMap> {
    this.reads++;
    return this.value;
  }

  async compareAndSwap(expected: number, next: ClusterMap): Promise<void> {
    const failure = this.failures.shift();
    if (failure !== undefined && !failure.lost) throw new DazzleError(failure.code, "planted");
    if (this.value.version !== expected) throw new DazzleError("versionConflict", `at ${this.value.version}`);
    this.value = next;
    if (failure !== undefined) throw new DazzleError(failure.code, "planted");
  }
}

function takeLog(map: ClusterMap): ClusterMap {
  return { ...map, nextLog: map.nextLog + 1 };
}

test("a change is swapped in, one version on, and known here", async (t) => {
  const register = new Register(sampleMap(1));
  const cache = new MapCache(register, register.value);
  const map = await cache.change(takeLog);
  t.like(map, { version: 2, nextLog: 2 });
  t.is(register.value, map);
  t.is(cache.current, map);
});

test("a change that meets another one is applied again, to the newer map", async (t) => {
  const register = new Register(sampleMap(1));
  const cache = new MapCache(register, register.value);
  register.value = { ...sampleMap(9), nextLog: 40 };
  t.like(await cache.change(takeLog), { version: 10, nextLog: 41 });
});

test("changes of many caches are all kept", async (t) => {
  const register = new Register(sampleMap(1));
  const caches = Array.from({ length: 8 }, () => new MapCache(register, register.value));
  await Promise.all(caches.map((cache) => cache.change(takeLog)));
  t.like(register.value, { version: 9, nextLog: 9 });
});

test("a swap whose answer was lost is seen, and not done twice by a change that looks first", async (t) => {
  const register = new Register(sampleMap(1));
  register.failures = [{ code: "timedOut", lost: true }];
  const cache = new MapCache(register, register.value);
  const map = await cache.change((now) => (now.nextLog > 1 ? undefined : takeLog(now)));
  t.like(map, { version: 2, nextLog: 2 });
});

test("a change that has nothing to do writes nothing", async (t) => {
  const register = new Register(sampleMap(4));
  const cache = new MapCache(register, register.value);
  t.is(await cache.change(() => undefined), register.value);
  t.is(register.value.version, 4);
});

test("a change gives up at an error that no newer map helps, and under endless conflicts", async (t) => {
  const register = new Register(sampleMap(1));
  const cache = new MapCache(register, register.value);
  register.failures = [{ code: "diskFailed", lost: false }];
  t.like(await t.throwsAsync(cache.change(takeLog)), { code: "diskFailed" });
  register.failures = Array.from({ length: 1_000 }, () => ({ code: "versionConflict", lost: false }));
  t.like(await t.throwsAsync(cache.change(takeLog)), { code: "versionConflict" });
});

test("the map never goes back, and listeners hear each newer one once, in order", (t) => {
  const cache = new MapCache(new Register(sampleMap(1)), sampleMap(3));
  const heard: number[] = [];
  const end = cache.onChange((map) => heard.push(map.version));
  for (const version of [2, 5, 5, 4, 7]) cache.learn(sampleMap(version));
  end();
  cache.learn(sampleMap(8));
  t.deepEqual(heard, [5, 7]);
  t.is(cache.version, 8);
});

test("a map of another cluster is never taken", (t) => {
  const cache = new MapCache(new Register(sampleMap(1)), sampleMap(1));
  t.throws(() => cache.learn(sampleMap(2, "f".repeat(32))), { instanceOf: AssertionError });
  t.is(cache.version, 1);
});

test("reads at one time are one read", async (t) => {
  const register = new Register(sampleMap(6));
  const cache = new MapCache(register, sampleMap(1));
  const maps = await Promise.all([cache.refresh(), cache.refresh(), cache.reach(6)]);
  t.is(register.reads, 1);
  t.is(maps[0]?.version, 6);
});

test("a version is reached by reading, and not read for when it is known", async (t) => {
  const register = new Register(sampleMap(6));
  const cache = new MapCache(register, sampleMap(5));
  await cache.reach(5);
  t.is(register.reads, 0);
  await cache.reach(6);
  t.is(cache.version, 6);
  t.is(register.reads, 1);
});

test("a register behind a cache does not take the cache back, and the cache does not wait for ever", async (t) => {
  const register = new Register(sampleMap(2));
  const cache = new MapCache(register, sampleMap(4));
  await cache.reach(9);
  t.is(cache.version, 4);
});
