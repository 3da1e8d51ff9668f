import { memberId } from "@dazzle/core";
import { Conflicts, checkTokens, type Disguise, noLeaks, nothingLost, PartWriters, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { CALLER, ROOT, writeFile } from "./support/files.ts";
import { ignoredRevoke, keptSegments } from "./support/plants.ts";

const LIMIT_MS = 120_000;
const LEAK_LIMIT_MS = 400_000;
const ALL_VERSIONS = -1;

async function started(seed: number, disguise: Disguise = {}) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1, disguise });
  await cluster.startAll();
  return { world, cluster, run: <T>(action: () => Promise<T> | T) => world.run((async () => action())(), LIMIT_MS) };
}

/** A file of a mount that has ended, in segments of which nothing is to be trimmed any more; and one of them. */
async function written(seed: number) {
  const { cluster, run } = await started(seed);
  const { client } = await cluster.mount();
  await run(() => writeFile(client.fileSystem, "f", Buffer.alloc(100_000, "f")));
  await run(() => client.close());
  await run(() => nothingLost(cluster));
  const shards = cluster.node(1).manager?.parts.host.shards ?? [];
  const { reply } = await run(() => cluster.node(2).peers.call(memberId(1), "list", { log: client.log, after: 0, limit: 100 }));
  for (const { log, sequence } of reply.fragments)
    for (const { imap } of shards) {
      const live = await run(() => imap.live(log, sequence));
      if (live !== undefined) return { cluster, run, imap, log, sequence, live };
    }
  throw new Error("nothing is live");
}

test("two mounts that use one token are found", async (t) => {
  for (const [disguise, isFound] of [
    [{}, false],
    [ignoredRevoke(), true],
  ] as const) {
    const { cluster, run } = await started(1, disguise);
    const clients = [(await cluster.mount()).client, (await cluster.mount()).client];
    for (const [index, { fileSystem }] of clients.entries()) await run(() => fileSystem.makeDirectory(CALLER, ROOT, `d${index}`, 0o755));
    if (isFound) t.throws(() => checkTokens(clients), { message: /token 1 is exclusive/ });
    else t.notThrows(() => checkTokens(clients));
  }
});

for (const Rounds of [Conflicts, PartWriters]) {
  test(`answers that no one filesystem gives are found by ${Rounds.name}`, async (t) => {
    let isOn = false;
    const { world, cluster, run } = await started(
      2,
      ignoredRevoke(() => isOn),
    );
    const mounts = [(await cluster.mount()).client.fileSystem, (await cluster.mount()).client.fileSystem];
    const conflicts = new Rounds(mounts, world.random.fork("conflicts"));
    const rounds = async () => {
      await conflicts.prepare(ROOT);
      isOn = true;
      for (let round = 0; round < 20; round++) await conflicts.round();
    };
    await t.throwsAsync(run(rounds), { message: /no order explains/ });
  });
}

test("a segment that is deleted though something in it lives is found", async (t) => {
  const { cluster, run, log, sequence } = await written(3);
  for (const number of [1, 2, 3])
    await run(() =>
      cluster.node(1).peers.call(memberId(number), "delete", {
        log,
        sequences: [sequence],
        trimmedTo: sequence,
        group: ALL_VERSIONS,
        groupVersion: ALL_VERSIONS,
      }),
    );
  await t.throwsAsync(
    run(() => nothingLost(cluster)),
    { message: new RegExp(`are gone: ${log}/${sequence}$`) },
  );
});

test("live bytes that are not what the extents say are found", async (t) => {
  const { cluster, run, imap, log, sequence, live } = await written(4);
  await run(() => cluster.node(1).checkInvariants());
  imap.putLive(log, sequence, { ...live, bytes: live.bytes + 1 });
  await t.throwsAsync(
    run(() => cluster.node(1).checkInvariants()),
    { message: new RegExp(`segment ${log}/${sequence} has ${live.bytes + 1} live bytes`) },
  );
});

test("a segment that is never deleted is found", async (t) => {
  let isOn = false;
  const { world, cluster, run } = await started(
    5,
    keptSegments(() => isOn),
  );
  const { client } = await cluster.mount();
  await run(() => writeFile(client.fileSystem, "f", Buffer.alloc(100_000, "f")));
  isOn = true;
  await run(async () => client.fileSystem.unlink(CALLER, ROOT, "f"));
  await run(() => client.close());
  await t.throwsAsync(world.run(noLeaks(cluster), LEAK_LIMIT_MS), {
    message: new RegExp(`nobody needs what is left: .*\\b${client.log}/`),
  });
});
