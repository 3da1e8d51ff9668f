import {
  type ClusterMap,
  type Deferred,
  deferred,
  type Handlers,
  helloHandlers,
  LIMITS,
  type LogId,
  type LogRow,
  MAP_FORMAT,
  MapCache,
  type Member,
  type MemberId,
  Peers,
  RpcPeer,
  SLOTS,
} from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Managers, type ManagersPorts } from "../src/managers.ts";

const MEMBER = 1 as MemberId;
const MOUNT = 9;
const SLOT = 3;
const CLUSTER = "0123456789abcdef0123456789abcdef";

/** One manager has all slots, under a log for each term; `state`: of the first. */
function clusterMap(term: number, state: LogRow["state"] = "live"): ClusterMap {
  const roles = ["manager" as const];
  const member: Member = { id: MEMBER, name: "one", addresses: ["sim:one"], roles, incarnation: 1, store: null, leaving: false };
  const log: LogRow = { id: 1 as LogId, kind: "manager", member: MEMBER, process: "", state, groups: [], end: null, label: "" };
  const chain = Array.from({ length: term }, (_, index) => ({ log: (index + 1) as LogId, term: index + 1, end: null }));
  return {
    format: MAP_FORMAT,
    clusterId: CLUSTER,
    version: term,
    nextLog: 3,
    nextMember: 2,
    members: [member],
    groups: [],
    slots: Array.from({ length: SLOTS }, () => ({ manager: MEMBER, term, chain })),
    logs: [log, { ...log, id: 2 as LogId, state: "live" }],
    keepers: [MEMBER],
    formerKeepers: [],
  };
}

/** A mount's managers beside one manager that answers nothing but how it is opened. */
async function bench() {
  const world = new World(1);
  const [node, mount] = [world.spawn("one"), world.spawn("mount")];
  const map = new MapCache({ read: async () => map.current, compareAndSwap: async () => {} }, clusterMap(1));
  const asked: AbortSignal[] = [];
  const opens: Deferred<void>[] = [];
  const isSlow = { now: false };
  const handlers: Handlers = {
    ...helloHandlers(CLUSTER, MEMBER),
    openMount: async () => {
      if (isSlow.now) await opens[opens.push(deferred()) - 1]?.promise;
      return { reply: { leaseMs: 10_000, slots: [], applied: [], stable: [], terms: [] } };
    },
    attributes: (_request, { signal }) => {
      asked.push(signal);
      return new Promise(() => {});
    },
  };
  await world.run(
    node.ports.network.listen(
      "sim:one",
      (connection) => void new RpcPeer(connection, node.ports.clock, handlers, { version: 0, reach: async () => {} }),
    ),
  );
  const { clock, network, logger } = mount.ports;
  const peers = new Peers({ network, clock, map, handlers: {}, self: null });
  const ports: ManagersPorts = {
    opening: async () => {},
    progressed: () => {},
    trimmedTo: () => 0,
    holdings: () => new Map(),
    declareLocks: async () => {},
  };
  const managers = new Managers({ mount: MOUNT, peers, map, clock, logger, limits: LIMITS, ports });
  return { world, map, managers, asked, opens, isSlow };
}

test("what is asked of a manager that is given up is rejected, and cancelled there, also where the slot stays with its member", async (t) => {
  const { world, map, managers, asked } = await bench();
  const answer = managers.ofSlot(SLOT).callOnce("attributes", { mount: MOUNT, ino: SLOT });
  answer.catch(() => {});
  await world.run(() => asked.length === 1);
  map.learn(clusterMap(2, "expelled"));
  const again = managers.ofSlot(SLOT).callOnce("attributes", { mount: MOUNT, ino: SLOT });
  again.catch(() => {});
  await t.throwsAsync(answer, { message: /staleMap: the manager that had slot 3 is given up/ });
  await world.run(() => asked.length === 2);
  t.deepEqual(
    asked.map(({ aborted }) => aborted),
    [true, false],
  );
});

test("what is asked of a manager that goes on is answered by it, though the slot has moved", async (t) => {
  const { world, map, managers, asked } = await bench();
  const answer = managers.ofSlot(SLOT).callOnce("attributes", { mount: MOUNT, ino: SLOT });
  answer.catch(() => {});
  await world.run(() => asked.length === 1);
  map.learn(clusterMap(2));
  await world.advance(1_000);
  t.false(asked[0]?.aborted);
  map.learn({ ...clusterMap(2, "expelled"), version: 3 });
  await t.throwsAsync(answer, { message: /staleMap/ });
  await world.run(() => asked[0]?.aborted === true);
});

test("a request is not made up once the manager that was to be asked is given up", async (t) => {
  const { world, map, managers, asked, opens, isSlow } = await bench();
  isSlow.now = true;
  let madeUp = 0;
  const request = () => {
    madeUp++;
    return { mount: MOUNT, ino: SLOT };
  };
  const answer = managers.callOnce(SLOT, "attributes", request);
  answer.catch(() => {});
  await world.run(() => opens.length === 1);
  map.learn(clusterMap(2, "expelled"));
  await t.throwsAsync(answer, { message: /staleMap/ });
  isSlow.now = false;
  opens[0]?.resolve();
  const again = managers.callOnce(SLOT, "attributes", request);
  again.catch(() => {});
  await world.run(() => asked.length === 1);
  t.is(madeUp, 1);
});
