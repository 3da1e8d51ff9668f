import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type ClusterMap, type Group, type Handlers, helloHandlers, leadersOf, MAP_FORMAT, type Reply, RpcPeer } from "@dazzle/core";
import { realClock, webSocketNetwork } from "@dazzle/runtime";
import test, { type ExecutionContext } from "ava";
import { NO_MAP } from "../src/calls.ts";
import { CleanRequest, isHindered } from "../src/clean-request.ts";

const CLUSTER_ID = "0123456789abcdef0123456789abcdef";
const GROUP = { id: 1, name: "main", parity: 0, wanted: [1], versions: [] } as unknown as Group;
const MEMBER = { id: 1, name: "one", addresses: ["unix:/nowhere"], roles: ["cleaner"], incarnation: 1, store: "", leaving: false };
const MAP = {
  ...{ format: MAP_FORMAT, clusterId: CLUSTER_ID, version: 1, nextLog: 1, nextMember: 2, members: [MEMBER], groups: [GROUP] },
  ...{ slots: [], logs: [], keepers: [1], formerKeepers: [] },
} as unknown as ClusterMap;

/** A leader that answers `replies` one after the other, and who asks it. */
async function bench(t: ExecutionContext, replies: readonly Partial<Reply<"clean">>[]) {
  const directory = mkdtempSync(join(tmpdir(), "dazzle-cli-"));
  const stops: boolean[] = [];
  const handlers: Handlers = {
    ...helloHandlers(CLUSTER_ID, 1),
    clean: ({ stop }) => {
      const told = replies[Math.min(stops.length, replies.length - 1)];
      stops.push(stop);
      return {
        reply: {
          ...{ segments: 0, skipped: 0, bytesRead: 0, bytesWritten: 0, bytesWon: 0, stored: 4, storedBytes: 4_096, liveBytes: 2_048 },
          ...{ done: false, hindrance: "", hinderedMs: 0, ...told },
        },
      };
    },
  };
  const listener = await webSocketNetwork().listen(
    `unix:${join(directory, "leader")}`,
    (connection) => new RpcPeer(connection, realClock, handlers, NO_MAP),
  );
  t.teardown(async () => {
    await listener.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const near = new Map([[1, listener.address]]);
  t.is(leadersOf(MAP, GROUP.id).length, 1);
  const request = new CleanRequest({ directory, near, addresses: [], clusterId: CLUSTER_ID, way: "" }, MAP, GROUP, 0.9);
  return { request, stops };
}

test("what gets nowhere for two minutes is given up, with the reason, and stopped", async (t) => {
  const reason = "noSpace: the cleaner's log has no room";
  const { request, stops } = await bench(t, [
    { hindrance: reason, hinderedMs: 100_000 },
    { hindrance: reason, hinderedMs: 120_000 },
  ]);
  const told = await request.run(
    () => false,
    () => {},
  );
  t.true(isHindered(told));
  t.like(told, { done: false, hindrance: reason });
  t.deepEqual(stops, [false, false, true]);
});

test("what is done is not given up, though something was in its way", async (t) => {
  const { request } = await bench(t, [{ done: true, hindrance: "a slot can't be read", hinderedMs: 500_000 }]);
  const told = await request.run(
    () => false,
    () => {},
  );
  t.false(isHindered(told));
});
