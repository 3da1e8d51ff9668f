import {
  type ClusterMap,
  type Group,
  groupId,
  groupVersion,
  type LogRow,
  logId,
  type MemberId,
  memberId,
  type SlotRow,
  storeId,
} from "@dazzle/core";
import { initialMap } from "@dazzle/manager";
import test from "ava";
import { judge } from "../src/certainty.ts";
import { checkMapAndStores } from "../src/map-check.ts";
import { SilentServer } from "../src/servers.ts";

const ONE = memberId(1);
const STORE = storeId("1".repeat(32));
const OTHER = storeId("2".repeat(32));

function clusterMap(changes: { slot?: Partial<SlotRow>; log?: Partial<LogRow>; versions?: Group["versions"] } = {}): ClusterMap {
  const member = {
    id: ONE,
    name: "m1",
    addresses: [],
    roles: ["storage", "manager", "keeper"],
    incarnation: 1,
    store: STORE,
    leaving: false,
  } as const;
  const map = initialMap({ clusterId: "a".repeat(32), members: [member], manager: ONE });
  const servers = [{ member: ONE, store: STORE }];
  const version = { version: groupVersion(1), servers, dataFragments: 1, parityFragments: 0, frozen: null };
  const group: Group = { id: groupId(1), name: "main", parity: 0, versions: changes.versions ?? [version], wanted: [ONE] };
  const log: LogRow = {
    ...{ id: logId(1), kind: "manager", member: ONE, process: "p", state: "live", groups: [groupId(1)], end: null, label: "" },
    ...changes.log,
  };
  const slot: SlotRow = { manager: ONE, term: 1, chain: [{ log: logId(1), term: 1, end: null }] };
  return {
    ...map,
    nextLog: 2,
    groups: [group],
    logs: [log],
    slots: map.slots.map((_, index) => (index === 5 ? { ...slot, ...changes.slot } : slot)),
  };
}

function serving(store: string | SilentServer) {
  const storeOf = async () => {
    if (store instanceof SilentServer) throw store;
    return store;
  };
  return { silent: new Map<MemberId, string>(), nameOf: (member: MemberId) => `m${member}`, storeOf };
}

async function seen(map: ClusterMap, store: string | SilentServer = STORE): Promise<string[]> {
  return (await checkMapAndStores(map, serving(store))).map(({ subject, seen: what }) => `${JSON.stringify(subject)} ${what}`);
}

test("a map that agrees with itself and with the stores is right", async (t) => {
  t.deepEqual(await seen(clusterMap()), []);
});

test("a slot that nobody manages, or that is logged by another than its manager, is found", async (t) => {
  t.deepEqual(await seen(clusterMap({ slot: { manager: null } })), ['{"slot":5} nobody manages it']);
  const foreign = await seen(clusterMap({ log: { member: memberId(7) } }));
  t.is(foreign.length, 64);
  t.regex(foreign[0] as string, /it is logged in 1, which is not its manager's/);
  t.deepEqual(
    await seen(
      clusterMap({
        slot: {
          chain: [
            { log: logId(9), term: 1, end: 3 },
            { log: logId(1), term: 1, end: null },
          ],
        },
      }),
    ),
    ['{"slot":5,"log":9} its chain names a log that is no manager\'s'],
  );
});

test("a log in a group that is not there, and a map that contradicts itself, are found", async (t) => {
  t.deepEqual(await seen(clusterMap({ log: { groups: [groupId(4)] } })), ['{"log":1} it is in group 4, which is not there']);
  t.regex((await seen(clusterMap({ log: { end: 7 } })))[0] as string, /log 1 is live with the end 7/);
});

test("a server that serves another store is found for certain, though a version of its group retires while it is looked at, and not where it changes its store", async (t) => {
  const row = { servers: [{ member: ONE, store: STORE }], dataFragments: 1, parityFragments: 0, frozen: null };
  const versions = [1, 2].map((version) => ({ ...row, version: groupVersion(version) }));
  const judged = (second: Group["versions"], ...stores: readonly string[]) => {
    let looks = 0;
    const look = () => {
      const map = clusterMap({ versions: looks === 0 ? versions : second });
      return checkMapAndStores(map, serving(stores[looks++ % stores.length] as string));
    };
    return judge(look, async () => true);
  };
  const { certain, unsettled } = await judged(versions.slice(1), OTHER);
  t.like(certain, { length: 1, 0: { seen: "it serves another store than version 2 of group 1 names" } });
  t.is(unsettled.length, 0);
  t.like(await judged(versions, OTHER, storeId("3".repeat(32))), { certain: { length: 0 }, unsettled: { length: 1 } });
});

test("a server that serves another store, or is no member, is found; of one that is silent nothing is said", async (t) => {
  t.deepEqual(await seen(clusterMap(), OTHER), ['{"server":"m1"} it serves another store than version 1 of group 1 names']);
  const row = { servers: [{ member: ONE, store: STORE }], dataFragments: 1, parityFragments: 0, frozen: null };
  const both = [1, 2].map((version) => ({ ...row, version: groupVersion(version) }));
  t.deepEqual(
    await seen(clusterMap({ versions: both }), OTHER),
    ['{"server":"m1"} it serves another store than version 1 of group 1 names, it serves another store than version 2 of group 1 names'],
    "one finding for each server",
  );
  t.deepEqual(await seen(clusterMap(), new SilentServer(ONE, "unreachable")), []);
  const servers = [{ member: memberId(7), store: STORE }];
  const versions = [{ version: groupVersion(1), servers, dataFragments: 1, parityFragments: 0, frozen: null }];
  t.deepEqual(await seen(clusterMap({ versions })), ['{"server":"m7"} version 1 of group 1 names it, and it is no member']);
});
