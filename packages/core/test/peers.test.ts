import {
  type Connection,
  DazzleError,
  deferred,
  type Handlers,
  helloHandlers,
  MapCache,
  memberId,
  type Network,
  Peers,
  PROTOCOL_VERSION,
  RefusedError,
  RpcPeer,
} from "@dazzle/core";
import test from "ava";
import { connectionPair, type TestConnection } from "./support/connection-pair.ts";
import { ManualClock } from "./support/manual-clock.ts";
import { sampleMap } from "./support/message-samples.ts";

const HERE = memberId(1);
const THERE = memberId(2);
const CLUSTER = sampleMap(1).clusterId;
const HANDLERS: Handlers = { status: (_request, { peer }) => ({ reply: { document: peer === undefined ? "here" : "there" } }) };

function bench(self: typeof HERE | null, near: ReadonlyMap<number, string> = new Map(), handlers = HANDLERS) {
  const clock = new ManualClock();
  const member = { roles: [], incarnation: 1, leaving: false, store: null };
  const map = {
    ...sampleMap(1),
    members: [
      { ...member, id: HERE, name: "one", addresses: ["unix:one"] },
      { ...member, id: THERE, name: "two", addresses: ["unix:two"] },
    ],
  };
  const cache = new MapCache({ read: async () => map, compareAndSwap: async () => {} }, map);
  const state = {
    refuse: false,
    silent: false,
    connects: 0,
    ends: [] as TestConnection[],
    addresses: [] as string[],
    hello: () => helloHandlers(CLUSTER, THERE),
  };
  const network: Network = {
    listen: () => Promise.reject(new DazzleError("invalid", "not here")),
    connect: async (address): Promise<Connection> => {
      state.connects++;
      state.addresses.push(address);
      if (state.silent) throw new DazzleError("unreachable", `${address}: no answer`);
      if (state.refuse) throw new RefusedError(`${address}: refused`);
      const [near, far] = connectionPair();
      new RpcPeer(far, clock, { ...state.hello(), ...HANDLERS }, cache);
      state.ends.push(far);
      return near;
    },
  };
  return { clock, state, peers: new Peers({ network, clock, map: cache, handlers, self, near }) };
}

test("a call to its own member runs the handler without a connection", async (t) => {
  const { peers, state } = bench(HERE);
  t.deepEqual((await peers.call(HERE, "status", {})).reply, { document: "here" });
  t.is(state.connects, 0);
});

test("a call to its own member ends by its deadline, and its handler hears of that; a store goes on until its memory is not used any more", async (t) => {
  let aborted = false;
  const stored = deferred();
  const handlers: Handlers = {
    restore: (_request, { signal }) => {
      signal.addEventListener("abort", () => {
        aborted = true;
      });
      return new Promise(() => {});
    },
    store: async () => {
      await stored.promise;
      return { reply: { boot: "b", durable: 0, ticket: 1 } };
    },
  };
  const { peers, clock } = bench(HERE, undefined, handlers);
  const restoring = peers.call(HERE, "restore", {}, { deadlineMs: 2_000 });
  const storing = peers.call(HERE, "store", { class: 0, sync: false }, { deadlineMs: 2_000 });
  clock.advance(1_999);
  t.false(aborted);
  clock.advance(1);
  t.like(await t.throwsAsync(restoring), { code: "timedOut" });
  t.true(aborted);
  clock.advance(60_000);
  stored.resolve();
  t.like((await storing).reply, { ticket: 1 });
  t.is(clock.timers, 0);
});

test("calls to a member share one connection, opened when it is first needed and again after it ended", async (t) => {
  const { peers, state } = bench(HERE);
  t.is(peers.connected(THERE), undefined);
  const replies = await Promise.all([1, 2, 3].map(() => peers.call(THERE, "status", {})));
  t.true(replies.every(({ reply }) => reply.document === "there"));
  t.is(state.connects, 1);
  state.ends[0]?.close();
  t.is(peers.connected(THERE), undefined);
  await peers.call(THERE, "status", {});
  t.is(state.connects, 2);
});

test("after a refusal calls are rejected at once for a pause that doubles up to a second, then it connects again", async (t) => {
  const { peers, state, clock } = bench(null);
  state.refuse = true;
  for (const pauseMs of [50, 100, 200, 400, 800, 1_000, 1_000]) {
    const before = state.connects;
    t.like(await t.throwsAsync(peers.call(THERE, "status", {})), { code: "unreachable" });
    t.is(state.connects, before + 1);
    clock.advance(pauseMs - 1);
    const error = await t.throwsAsync(peers.call(THERE, "status", {}));
    t.regex(error?.message ?? "", /two at unix:two: refused$/);
    t.is(state.connects, before + 1, "inside the pause");
    clock.advance(1);
  }
  state.refuse = false;
  t.deepEqual((await peers.call(THERE, "status", {})).reply, { document: "there" });
  state.refuse = true;
  state.ends[0]?.close();
  const before = state.connects;
  for (const pauseMs of [0, 50]) {
    clock.advance(pauseMs);
    t.like(await t.throwsAsync(peers.call(THERE, "status", {})), { code: "unreachable" });
  }
  t.is(state.connects, before + 2, "the pauses start anew");
});

test("a member refuses while nobody listens at its address, as far as was tried", async (t) => {
  const { peers, state, clock } = bench(null);
  const tried = async () => {
    clock.advance(1_000);
    await peers.call(THERE, "status", {}).catch(() => {});
    return peers.isRefused(THERE);
  };
  t.false(peers.isRefused(THERE));
  t.false(await tried());
  state.ends[0]?.close();
  t.false(peers.isRefused(THERE));
  state.refuse = true;
  t.true(await tried());
  state.silent = true;
  t.false(await tried());
  state.silent = false;
  t.true(await tried());
  state.refuse = false;
  t.false(await tried());
});

test("a member that the map does not know is a stale map", async (t) => {
  const { peers } = bench(null);
  t.like(await t.throwsAsync(peers.call(memberId(9), "status", {})), { code: "staleMap" });
});

test("closing ends the connections and refuses new ones", async (t) => {
  const { peers } = bench(null);
  await peers.call(THERE, "status", {});
  const peer = peers.connected(THERE);
  peers.close();
  t.true(peer?.closed);
  t.like(await t.throwsAsync(peers.call(THERE, "status", {})), { code: "unreachable" });
});

test("whoever answers is asked who it is, before anything else: another member is not taken for this one", async (t) => {
  const { peers, state } = bench(null);
  state.hello = () => helloHandlers(CLUSTER, HERE);
  const error = await t.throwsAsync(peers.call(THERE, "status", {}));
  t.like(error, { code: "unreachable" });
  t.regex(error?.message ?? "", /two at unix:two.*member 1 answers there/);
});

test("another cluster and another version are told apart, and the connection is closed", async (t) => {
  const { peers, state } = bench(null);
  const other = "f".repeat(32);
  state.hello = () => helloHandlers(other, THERE);
  t.regex((await t.throwsAsync(peers.connectTo("unix:two"))).message, /^wrongCluster: .*ffff.*, not 0011/);
  state.hello = () => ({ hello: ({ protocol }) => ({ reply: { clusterId: other, member: protocol } }) });
  t.regex((await t.throwsAsync(peers.connectTo("unix:three"))).message, /^wrongCluster: .*is of cluster ffff/);
  state.hello = () => ({
    hello: (request, context) => helloHandlers(CLUSTER, THERE).hello?.({ ...request, protocol: PROTOCOL_VERSION + 1 }, context) as never,
  });
  const message = new RegExp(`^wrongVersion: .*version ${PROTOCOL_VERSION} .*this program ${PROTOCOL_VERSION + 1}`);
  t.regex((await t.throwsAsync(peers.connectTo("unix:four"))).message, message);
  for (const end of state.ends) t.true(end.closed);
});

test("a member of this machine is met over its socket, whatever its address", async (t) => {
  const { peers, state } = bench(null, new Map([[THERE, "unix:near"]]));
  await peers.call(THERE, "status", {});
  t.deepEqual(state.addresses, ["unix:near"]);
});
