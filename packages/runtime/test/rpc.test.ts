import { join } from "node:path";
import { type Connection, DazzleError, deferred, type Handlers, isDazzleError, type MapVersions, RpcPeer, serve } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { realClock, webSocketNetwork } from "../src/index.ts";
import { pattern, temporaryDirectory } from "./helpers.ts";

const MAP: MapVersions = { version: 1, reach: async () => {} };

async function peerOf(t: ExecutionContext, handlers: Handlers, back: Handlers = {}): Promise<RpcPeer> {
  const network = webSocketNetwork();
  const address = `unix:${join(temporaryDirectory(t), "socket")}`;
  const server = await serve({ network, clock: realClock, map: MAP, handlers, address });
  t.teardown(() => server.close());
  const connection: Connection = await network.connect(address, 5_000);
  const peer = new RpcPeer(connection, realClock, back, MAP);
  t.teardown(() => peer.close());
  return peer;
}

test("a call is answered with its tail; a failure keeps its code", async (t) => {
  const peer = await peerOf(t, {
    vouchGone: (request, context) => {
      if (request.process === "none") throw new DazzleError("notFound", "no such process");
      return { reply: { gone: true }, tail: context.tail };
    },
  });
  const tail = [pattern(100_000, 1), pattern(3, 2)];
  const answer = await peer.call("vouchGone", { process: "p" }, { tail });
  t.true(answer.reply.gone);
  t.true(Buffer.concat(answer.tail).equals(Buffer.concat(tail)));
  t.true(isDazzleError(await t.throwsAsync(peer.call("vouchGone", { process: "none" })), "notFound"));
  t.true(isDazzleError(await t.throwsAsync(peer.call("status", {})), "badMessage"));
});

test("a call that is not answered ends at its deadline, and one that is cancelled at once; the server hears of both", async (t) => {
  const aborted = [deferred(), deferred()];
  let calls = 0;
  const peer = await peerOf(t, {
    status: (_request, context) => {
      const mine = aborted[calls++];
      return new Promise((_resolve, reject) => {
        context.signal.addEventListener("abort", () => {
          mine?.resolve();
          reject(new DazzleError("cancelled", "status"));
        });
      });
    },
  });
  t.true(isDazzleError(await t.throwsAsync(peer.call("status", {}, { deadlineMs: 30 })), "timedOut"));
  await aborted[0]?.promise;
  const controller = new AbortController();
  const call = peer.call("status", {}, { signal: controller.signal });
  controller.abort();
  t.true(isDazzleError(await t.throwsAsync(call), "cancelled"));
  await aborted[1]?.promise;
  t.is(calls, 2);
});

test("a server calls back over the connection it was called on", async (t) => {
  const peer = await peerOf(
    t,
    {
      renew: async (_request, context) => {
        const back = await context.peer?.call("syncMount", {});
        return { reply: { leaseMs: back?.reply.sequence ?? 0, slots: [], applied: [], stable: [], terms: [] } };
      },
    },
    { syncMount: () => ({ reply: { sequence: 77 } }) },
  );
  t.is((await peer.call("renew", { mount: 1, trimmedTo: 0, settle: false })).reply.leaseMs, 77);
});

test("many calls under way at once are each answered with their own reply", async (t) => {
  const peer = await peerOf(t, {
    numbers: async (request) => {
      if (request.count % 3 === 0) await new Promise((resolve) => setImmediate(resolve));
      return { reply: { first: request.slot, count: request.count } };
    },
  });
  const answers = await Promise.all(Array.from({ length: 3_000 }, (_, index) => peer.call("numbers", { mount: 1, slot: 5, count: index })));
  t.deepEqual(
    answers.map((answer) => answer.reply.count),
    Array.from({ length: 3_000 }, (_, index) => index),
  );
});

test("calls under way are unreachable when the connection ends", async (t) => {
  const peer = await peerOf(t, {
    status: (_request, context) => {
      context.peer?.close();
      return new Promise(() => {});
    },
  });
  t.true(isDazzleError(await t.throwsAsync(peer.call("status", {})), "unreachable"));
  t.true(peer.closed);
});
