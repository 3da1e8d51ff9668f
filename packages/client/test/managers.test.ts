import {
  type ClusterMap,
  DazzleError,
  type Deferred,
  deferred,
  type Handlers,
  helloHandlers,
  indexNumber,
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
  type SlotsProgress,
  TransactionBuilder,
} from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Managers, type ManagersPorts } from "../src/managers.ts";

const MEMBER = 1 as MemberId;
const MOUNT = 9;
const SLOT = 3;
/** More than are on the wire at once. */
const SECTIONS = 20;
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

/** What the member's manager has of the slot. */
class FakeManager {
  term = 1;
  applied = 0;
  stable = 0;
  /** The connection on which the mount has opened. */
  peer: RpcPeer | null = null;
  /** Whether ships wait. */
  isBusy = false;
  /** Whether the slot is there. */
  has = true;
  readonly ships: Deferred<void>[] = [];
  readonly closed: number[] = [];

  /** A new incarnation of it reads the slot, of which nothing was stable; connections end. */
  restart(): void {
    this.term++;
    this.applied = 0;
    this.peer?.close();
    this.peer = null;
  }

  get progress(): SlotsProgress {
    if (!this.has) return { slots: [], applied: [], stable: [], terms: [] };
    return { slots: [SLOT], applied: [this.applied], stable: [this.stable], terms: [this.term] };
  }

  readonly handlers: Handlers = {
    ship: async ({ sequence, previous }) => {
      if (this.isBusy) await this.ships[this.ships.push(deferred()) - 1]?.promise;
      if ((previous[0] ?? 0) > this.applied) throw new DazzleError("outOfOrder", `applied up to ${this.applied}`);
      this.applied = Math.max(this.applied, sequence);
      return { reply: { applied: [this.applied], stable: [this.stable] } };
    },
    renew: async ({ settle }, { peer }) => {
      if (this.peer !== peer) throw new DazzleError("notReady", "the mount has not opened here");
      if (settle) this.stable = this.applied;
      return { reply: { leaseMs: 10_000, ...this.progress } };
    },
    closeMount: async ({ end }) => {
      this.closed.push(end);
      return { reply: {} };
    },
  };
}

/** A mount's managers beside one manager. */
async function bench() {
  const world = new World(1);
  const [node, mount] = [world.spawn("one"), world.spawn("mount")];
  const map = new MapCache({ read: async () => map.current, compareAndSwap: async () => {} }, clusterMap(1));
  const asked: AbortSignal[] = [];
  const opens: Deferred<void>[] = [];
  const isSlow = { now: false };
  const manager = new FakeManager();
  const handlers: Handlers = {
    ...helloHandlers(CLUSTER, MEMBER),
    ...manager.handlers,
    openMount: async (_request, { peer }) => {
      if (isSlow.now) await opens[opens.push(deferred()) - 1]?.promise;
      manager.peer = peer;
      return { reply: { leaseMs: 10_000, ...manager.progress } };
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
  return { world, map, managers, manager, asked, opens, isSlow };
}

function transaction(): Buffer {
  const builder = new TransactionBuilder();
  builder.add({ kind: "removeInode", ino: indexNumber(SLOT) });
  const bytes = Buffer.allocUnsafe(builder.bytes);
  builder.encode(bytes);
  return bytes;
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

test("a clean unmount waits for a manager that starts anew meanwhile, and has less than was applied before", async (t) => {
  const { world, map, managers, manager, opens, isSlow } = await bench();
  await world.run(managers.open(SLOT));
  const queue = managers.shipping.slots[SLOT];
  for (let sequence = 1; sequence <= SECTIONS; sequence++) managers.shipping.ship(sequence, 1, 1, transaction());
  await world.run(() => queue?.applied === SECTIONS);

  isSlow.now = true;
  manager.isBusy = true;
  manager.restart();
  map.learn(clusterMap(2, "expelled"));
  await world.run(() => opens.length > 0);
  let settled = false;
  const settling = managers.settle().then(() => {
    settled = true;
  });
  await world.advance(2_000);
  isSlow.now = false;
  for (const open of opens) open.resolve();
  await world.run(() => manager.ships.length > 1);
  await world.advance(2_000);
  t.false(settled);
  await t.throwsAsync(managers.closeMount(SECTIONS), { message: /is trimmed to its end/ });
  t.deepEqual(manager.closed, []);
  manager.isBusy = false;
  for (const ship of manager.ships) ship.resolve();
  await world.run(settling);
  t.is(manager.stable, SECTIONS);
  await world.run(managers.closeMount(SECTIONS));
  t.deepEqual(manager.closed, [SECTIONS]);
});

test("the lease of a manager that has given a slot away is for what stayed, also where the map still has the slot with it", async (t) => {
  const { world, managers, manager } = await bench();
  await world.run(managers.open(SLOT));
  const endMs = managers.leases.endMs(SLOT);
  t.true(endMs > world.nowMs);
  const renewed = async () => {
    await world.advance(1_000);
    managers.renew({});
    await world.advance(1_000);
    return managers.leases.endMs(SLOT);
  };
  manager.has = false;
  t.is(await renewed(), endMs);
  manager.has = true;
  t.true((await renewed()) > endMs);
});
