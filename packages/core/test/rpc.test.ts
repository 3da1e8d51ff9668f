import { DazzleError, type ErrorName, encodeReply, type Handlers, type MapVersions, type RequestContext, RpcPeer } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { connectionPair, type TestConnection } from "./support/connection-pair.ts";
import { ManualClock } from "./support/manual-clock.ts";

class Versions implements MapVersions {
  version: number;
  readonly reached: number[] = [];

  constructor(version: number) {
    this.version = version;
  }

  async reach(version: number): Promise<void> {
    this.reached.push(version);
    await settled();
    this.version = Math.max(this.version, version);
  }
}

/** Of the watch over a connection on which calls wait. */
const TURN_MS = 1_000;

interface Bench {
  readonly clock: ManualClock;
  readonly caller: RpcPeer;
  readonly server: RpcPeer;
  readonly callerVersions: Versions;
  readonly serverVersions: Versions;
  readonly callerEnd: TestConnection;
  readonly serverEnd: TestConnection;
}

function bench(handlers: Handlers, callerVersion = 1, serverVersion = 1, callerHandlers: Handlers = {}): Bench {
  const clock = new ManualClock();
  const [callerEnd, serverEnd] = connectionPair();
  const callerVersions = new Versions(callerVersion);
  const serverVersions = new Versions(serverVersion);
  const caller = new RpcPeer(callerEnd, clock, callerHandlers, callerVersions);
  const server = new RpcPeer(serverEnd, clock, handlers, serverVersions);
  return { clock, caller, server, callerVersions, serverVersions, callerEnd, serverEnd };
}

/** A handler that waits until it is told, and remembers its signal. */
function held(): { handlers: Handlers; started: Promise<AbortSignal>; answer: () => void } {
  let answer = () => {};
  let start: (signal: AbortSignal) => void = () => {};
  const started = new Promise<AbortSignal>((resolve) => {
    start = resolve;
  });
  const handlers: Handlers = {
    vouchGone: (_request, { signal }) => {
      start(signal);
      return new Promise((resolve) => {
        answer = () => resolve({ reply: { gone: true } });
      });
    },
  };
  return { handlers, started, answer: () => answer() };
}

async function rejects(t: ExecutionContext, code: ErrorName, promise: Promise<unknown>): Promise<DazzleError> {
  const error = (await t.throwsAsync(promise, { instanceOf: DazzleError })) as DazzleError;
  t.is(error.code, code);
  return error;
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

test("a call is answered with the reply and its tail, and leaves no timer", async (t) => {
  const { caller, clock } = bench({
    ship: (request, { tail }) => ({ reply: { applied: [request.sequence], stable: [1] }, tail: [Buffer.concat(tail), Buffer.from("end")] }),
  });
  const touched = { touchedLow: 8, touchedHigh: 0 };
  const request = { mount: 1, sequence: 8, slots: [3], previous: [7], ...touched, group: 1, groupVersion: 1, trimmedTo: 0 };
  const result = await caller.call("ship", request, { tail: [Buffer.from("ab"), Buffer.from("cd")] });
  t.deepEqual(result.reply, { applied: [8], stable: [1] });
  t.is(Buffer.concat(result.tail).toString(), "abcdend");
  clock.advance(TURN_MS);
  t.is(clock.timers, 0);
});

test("both sides call over one connection", async (t) => {
  const { server } = bench({}, 1, 1, { syncMount: () => ({ reply: { sequence: 7 } }) });
  t.deepEqual((await server.call("syncMount", {})).reply, { sequence: 7 });
});

test("calls are answered in any order, each with its own reply", async (t) => {
  const answers = new Map<number, () => void>();
  const { caller } = bench({
    reaches: (request) =>
      new Promise((resolve) => answers.set(request.member, () => resolve({ reply: { reached: request.member === 2 } }))),
  });
  const calls = [1, 2, 3].map((member) => caller.call("reaches", { member, store: "s" }));
  await settled();
  for (const member of [3, 1, 2]) answers.get(member)?.();
  t.deepEqual(
    (await Promise.all(calls)).map((result) => result.reply.reached),
    [false, true, false],
  );
});

test("an expected failure keeps its row and its detail", async (t) => {
  const { caller } = bench({
    vouchGone: () => {
      throw new DazzleError("logSealed", "log 7: ended at 12");
    },
  });
  const error = await rejects(t, "logSealed", caller.call("vouchGone", { process: "p" }));
  t.is(error.message, "logSealed: log 7: ended at 12");
});

test("a mistake in a handler is an I/O error that names it, and the connection goes on", async (t) => {
  const { caller } = bench({
    vouchGone: () => {
      throw new TypeError("no such thing");
    },
    release: () => ({ reply: {} }),
  });
  const error = await rejects(t, "inputOutput", caller.call("vouchGone", { process: "p" }));
  t.regex(error.message, /vouchGone: TypeError: no such thing/);
  t.deepEqual((await caller.call("release", { mount: 1, inos: [] })).reply, {});
});

test("a message that nobody answers is a bad message", async (t) => {
  const { caller } = bench({});
  await rejects(t, "badMessage", caller.call("vouchGone", { process: "p" }));
});

test("a call ends at its deadline, tells the other side, and a late reply is dropped", async (t) => {
  const { handlers, started, answer } = held();
  const { caller, clock, callerEnd } = bench(handlers);
  const call = caller.call("vouchGone", { process: "p" }, { deadlineMs: 500 });
  const signal = await started;
  clock.advance(499);
  t.is(callerEnd.sent.length, 1);
  clock.advance(1);
  const error = await rejects(t, "timedOut", call);
  t.regex(error.message, /vouchGone to memory:right took over 500 ms/);
  await settled();
  t.is(callerEnd.sent.length, 2, "the cancel frame");
  t.true(signal.aborted);
  answer();
  await settled();
  t.false(caller.closed);
});

test("an aborted call rejects at once and aborts the handler", async (t) => {
  const { handlers, started } = held();
  const { caller, clock } = bench(handlers);
  const controller = new AbortController();
  const call = caller.call("vouchGone", { process: "p" }, { signal: controller.signal });
  const signal = await started;
  controller.abort();
  await rejects(t, "cancelled", call);
  await settled();
  t.true(signal.aborted);
  clock.advance(TURN_MS);
  t.is(clock.timers, 0);
  await rejects(t, "cancelled", caller.call("vouchGone", { process: "p" }, { signal: controller.signal }));
});

test("a handler that asks for its signal after the call was given up finds it aborted", async (t) => {
  const contexts: RequestContext[] = [];
  const { caller } = bench({
    vouchGone: (_request, context) => {
      contexts.push(context);
      return new Promise(() => {});
    },
  });
  const controller = new AbortController();
  const call = caller.call("vouchGone", { process: "p" }, { signal: controller.signal });
  await settled();
  controller.abort();
  await rejects(t, "cancelled", call);
  await settled();
  t.true(contexts[0]?.signal.aborted);
});

test("the end of a connection rejects every call, aborts every handler, and later calls", async (t) => {
  const { handlers, started } = held();
  const { caller, server, serverEnd, clock } = bench(handlers);
  const calls = [1, 2].map(() => caller.call("vouchGone", { process: "p" }));
  const signal = await started;
  const reasons: string[] = [];
  caller.onClose((reason) => reasons.push(reason));
  serverEnd.close();
  for (const call of calls) await rejects(t, "unreachable", call);
  t.true(signal.aborted);
  t.true(caller.closed && server.closed);
  t.is(clock.timers, 0);
  await rejects(t, "unreachable", caller.call("vouchGone", { process: "p" }));
  caller.onClose((reason) => reasons.push(reason));
  t.deepEqual(reasons, ["closed by the other side", "closed by the other side"]);
});

test("what is no message ends the connection", async (t) => {
  const { handlers } = held();
  const { caller, server, callerEnd } = bench(handlers);
  const call = caller.call("vouchGone", { process: "p" });
  callerEnd.send({ header: Buffer.from([0xc1]), tail: [] });
  await rejects(t, "unreachable", call);
  t.true(server.closed);
});

test("a reply that lacks a field rejects the call alone", async (t) => {
  const { caller, serverEnd } = bench({ release: () => ({ reply: {} }) });
  const call = caller.call("openMount", { mount: 1 });
  serverEnd.send({ header: encodeReply(1, "vouchGone", 1, { gone: true }), tail: [] });
  await rejects(t, "badMessage", call);
  t.deepEqual((await caller.call("release", { mount: 1, inos: [] })).reply, {});
});

test("a server that is behind reaches the caller's map before it acts", async (t) => {
  const seen: number[] = [];
  const { caller, serverVersions } = bench(
    {
      release: () => {
        seen.push(serverVersions.version);
        return { reply: {} };
      },
    },
    5,
    3,
  );
  await caller.call("release", { mount: 1, inos: [] });
  t.deepEqual(serverVersions.reached, [5]);
  t.deepEqual(seen, [5]);
});

test("a keeper answers about the map without having reached it", async (t) => {
  const { caller, serverVersions } = bench({ mapAccept: ({ ballot }) => ({ reply: { promised: ballot } }) }, 5, 3);
  await caller.call("mapAccept", { ballot: { counter: 1, proposer: "p" }, map: {} as never });
  t.deepEqual(serverVersions.reached, []);
});

test("a caller learns of a newer map from a reply and from a failure", async (t) => {
  const { caller, callerVersions, serverVersions } = bench({ release: () => ({ reply: {} }) }, 1, 4);
  await caller.call("release", { mount: 1, inos: [] });
  t.deepEqual(callerVersions.reached, [4]);
  serverVersions.version = 6;
  await rejects(t, "badMessage", caller.call("vouchGone", { process: "p" }));
  t.deepEqual(callerVersions.reached, [4, 6]);
});

test("the requests under way on a connection are bounded", async (t) => {
  const { caller, serverEnd } = bench(held().handlers);
  const calls = Array.from({ length: 4_096 }, () => caller.call("vouchGone", { process: "p" }));
  const over = await rejects(t, "unreachable", caller.call("vouchGone", { process: "p" }));
  t.regex(over.message, /4096 requests/);
  serverEnd.close();
  const results = await Promise.allSettled(calls);
  t.true(results.every((result) => result.status === "rejected"));
});

test("a connection over which nothing comes while a call waits is closed after 3 s", async (t) => {
  const { caller, serverEnd, clock } = bench(held().handlers);
  serverEnd.deliver = () => {};
  const call = caller.call("vouchGone", { process: "p" }, { deadlineMs: 60_000 });
  for (let turn = 0; turn < 2; turn++) {
    await settled();
    clock.advance(TURN_MS);
  }
  t.false(caller.closed, "not before");
  clock.advance(TURN_MS);
  t.true(caller.closed);
  t.regex((await rejects(t, "unreachable", call)).message, /nothing came for 3 s/);
});

test("a handler that takes its time keeps the connection: the other side answers pings", async (t) => {
  const { handlers, started, answer } = held();
  const { caller, clock } = bench(handlers);
  const call = caller.call("vouchGone", { process: "p" }, { deadlineMs: 60_000 });
  await started;
  for (let turn = 0; turn < 20; turn++) {
    clock.advance(TURN_MS);
    await settled();
  }
  answer();
  t.deepEqual((await call).reply, { gone: true });
});

test("a connection on which nobody waits is left alone", async (t) => {
  const { caller, callerEnd, clock } = bench({ release: () => ({ reply: {} }) });
  await caller.call("release", { mount: 1, inos: [] });
  const sent = callerEnd.sent.length;
  for (let turn = 0; turn < 20; turn++) {
    clock.advance(TURN_MS);
    await settled();
  }
  t.false(caller.closed);
  t.is(callerEnd.sent.length, sent, "not even pinged");
});
