import { type ClusterMap, DazzleError, findLog, type Group, groupId, MapCache, type MapStore, NO_MEMBER, registerLog } from "@dazzle/core";
import test from "ava";
import { sampleMap } from "./support/message-samples.ts";

const GROUP: Group = { id: groupId(1), name: "group", parity: 1, versions: [], wanted: [] };
const PORTS = { processes: { self: "100@1", isGone: () => false } };
const CLEANER = { kind: "cleaner", member: NO_MEMBER, label: "cold", ports: PORTS } as const;

/** `before` is called ahead of each swap. */
function register(before: (swap: number, store: { value: ClusterMap }) => "lost" | undefined): MapStore & { value: ClusterMap } {
  let swaps = 0;
  const store = {
    value: { ...sampleMap(1), groups: [GROUP] } as ClusterMap,
    read: async () => store.value,
    compareAndSwap: async (expected: number, next: ClusterMap) => {
      const fate = before(++swaps, store);
      if (store.value.version !== expected) throw new DazzleError("versionConflict", `at ${store.value.version}`);
      store.value = next;
      if (fate === "lost") throw new DazzleError("timedOut", "planted");
    },
  };
  return store;
}

test("a log whose registration was answered late is not registered twice", async (t) => {
  const store = register((swap) => (swap === 1 ? "lost" : undefined));
  const row = await registerLog(new MapCache(store, store.value), CLEANER);
  t.deepEqual(store.value.logs, [row]);
  t.like(row, { id: 1, kind: "cleaner", state: "live", groups: [1], end: null });
});

test("a log that another one of the process went ahead of gets the next number", async (t) => {
  const store = register((swap, held) => {
    if (swap !== 1) return undefined;
    const manager = { ...CLEANER, id: 1, kind: "manager", process: PORTS.processes.self, state: "live", groups: [], end: null, label: "" };
    held.value = { ...held.value, version: 2, nextLog: 2, logs: [manager] } as unknown as ClusterMap;
    return undefined;
  });
  const row = await registerLog(new MapCache(store, store.value), CLEANER);
  t.is(row.id, 2 as number);
  t.is(findLog(store.value, 2), row);
});

test("a log is registered by who only knows the map from before the first group", async (t) => {
  const store = register(() => undefined);
  const before = { ...store.value, groups: [] };
  store.value = { ...store.value, version: store.value.version + 1 };
  const row = await registerLog(new MapCache(store, before), CLEANER);
  t.is(findLog(store.value, row.id), row);
  store.value = before;
  await t.throwsAsync(registerLog(new MapCache(store, before), CLEANER), { code: "notReady" });
});
