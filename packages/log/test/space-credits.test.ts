import { currentVersion, type DazzleError, findGroup } from "@dazzle/core";
import { SpaceCredits } from "@dazzle/log";
import test from "ava";
import { Cluster, GROUP, SMALL } from "./support/cluster.ts";

const MIB = 1024 * 1024;

/** Accepts as a mount does: `accepted` bytes, none of them stored. */
async function mount(options: { seed: number; servers?: number; freeBytes?: number }) {
  const cluster = await Cluster.start({ seed: options.seed, servers: options.servers ?? 2 });
  if (options.freeBytes !== undefined) for (const server of cluster.servers) server.instance.drive.capacityBytes = options.freeBytes;
  await cluster.world.advance(5_000);
  const client = cluster.client();
  const log = cluster.addLog();
  client.options.map.learn(cluster.map);
  const state = { accepted: 0 };
  const credits = new SpaceCredits({ ...client.options, log, unstoredBytes: () => state.accepted });
  const accept = async (bytes: number) => {
    await credits.take(bytes);
    state.accepted += bytes;
  };
  return { cluster, log, credits, state, accept };
}

test("nothing is accepted before the servers promised it; then much is, without asking again", async (t) => {
  const { cluster, credits, accept } = await mount({ seed: 81 });
  t.false(credits.tryTake(1));
  await cluster.run(accept(1));
  t.true(credits.tryTake(SMALL.dirtyBytes / 2));
  t.false(credits.tryTake(1000 * MIB));
});

test("every accepted byte is promised by every server, and ENOSPC comes at the write", async (t) => {
  const { cluster, state, accept } = await mount({ seed: 82, freeBytes: 20 * MIB });
  let refused: DazzleError | undefined;
  while (refused === undefined) {
    try {
      await cluster.run(accept(200_000));
    } catch (error) {
      refused = error as DazzleError;
    }
    for (const server of cluster.servers) t.true(server.store.stat().bytesReserved >= state.accepted);
  }
  t.is(refused.errno, "ENOSPC");
  t.true(state.accepted > 5 * MIB);
});

test("who lacks room waits for what a cleaner makes; where none comes, the next is refused at once, until some has come", async (t) => {
  const { cluster, state, accept } = await mount({ seed: 86, freeBytes: 20 * MIB });
  await cluster.run(accept(5 * MIB));
  const waits = accept(20 * MIB);
  for (const server of cluster.servers) cluster.world.after(4_000, () => (server.instance.drive.capacityBytes = 60 * MIB));
  await cluster.run(waits);
  t.is(state.accepted, 25 * MIB);
  await t.throwsAsync(cluster.run(accept(100 * MIB)), { code: "noSpace" } as object);
  const { nowMs } = cluster.world;
  await t.throwsAsync(cluster.run(accept(100 * MIB)), { code: "noSpace" } as object);
  t.true(cluster.world.nowMs - nowMs < 1_000);
});

test("many takers at once share what there is, and none is refused while there is room", async (t) => {
  const { cluster, state, accept } = await mount({ seed: 83 });
  await cluster.run(Promise.all(Array.from({ length: 50 }, () => accept(100_000))));
  t.is(state.accepted, 5_000_000);
  for (const server of cluster.servers) t.true(server.store.stat().bytesReserved >= state.accepted);
});

test("a silent server is waited for, and named when it stays silent", async (t) => {
  const { cluster, accept } = await mount({ seed: 84 });
  cluster.server(2).kill();
  const early = accept(1);
  early.catch(() => {});
  await cluster.world.advance(5_000);
  await cluster.run(cluster.server(2).start());
  await cluster.run(early);
  cluster.server(2).kill();
  const error = await t.throwsAsync<DazzleError>(cluster.run(accept(100 * MIB)));
  t.is(error.errno, "EIO");
  t.regex(error.message, /s2/);
});

test("a silent server that the group can do without is left out, though nothing is stored", async (t) => {
  const { cluster, accept } = await mount({ seed: 85, servers: 4 });
  cluster.server(3).kill();
  await cluster.run(accept(1));
  const { servers } = currentVersion(findGroup(cluster.map, GROUP));
  t.deepEqual(
    servers.map(({ member }) => member as number),
    [1, 2, 4],
  );
});

/** As `mount`, with disks of so many bytes in two groups of two. */
async function twoGroups(seed: number, freeBytes: readonly [number, number]) {
  const cluster = await Cluster.start({ seed, servers: 2, second: 2 });
  for (const [index, server] of cluster.servers.entries()) server.instance.drive.capacityBytes = freeBytes[index < 2 ? 0 : 1];
  await cluster.world.advance(5_000);
  const client = cluster.client();
  const log = cluster.addLog();
  client.options.map.learn(cluster.map);
  const state = { accepted: 0 };
  const credits = new SpaceCredits({ ...client.options, log, unstoredBytes: () => state.accepted });
  const accept = async (bytes: number) => {
    await credits.take(bytes);
    state.accepted += bytes;
  };
  const promised = () =>
    Math.max(
      ...[cluster.servers.slice(0, 2), cluster.servers.slice(2)].map((group) =>
        Math.min(...group.map(({ store }) => store.stat().bytesReserved)),
      ),
    );
  return { cluster, state, accept, promised };
}

test("what is accepted one of several groups has promised whole, and ENOSPC comes when none does", async (t) => {
  for (const freeBytes of [
    [10 * MIB, 20 * MIB],
    [20 * MIB, 10 * MIB],
  ] as const) {
    const { cluster, state, accept, promised } = await twoGroups(86, freeBytes);
    let refused: DazzleError | undefined;
    while (refused === undefined) {
      try {
        await cluster.run(accept(200_000));
      } catch (error) {
        refused = error as DazzleError;
      }
      t.true(promised() >= state.accepted);
    }
    t.is(refused.errno, "ENOSPC");
    t.true(state.accepted > 10 * MIB, `${state.accepted}`);
  }
});

test("a group that does not answer is not waited for while another promises", async (t) => {
  const { cluster, accept } = await twoGroups(87, [1000 * MIB, 1000 * MIB]);
  for (const server of cluster.servers.slice(0, 2)) server.frozen = true;
  const beganMs = cluster.world.nowMs;
  await cluster.run(accept(1_000));
  t.true(cluster.world.nowMs - beganMs < 100);
});
