import { nodeName, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { CALLER, ROOT, readFile, writeFile } from "./support/files.ts";

const LIMIT_MS = 120_000;
const FILES = 150;

for (const seed of [1, 2, 3, 4, 5, 6])
  test(`two disks can't be read for some seconds: who reads waits, and no manager's incarnation ends: seed ${seed}`, async (t) => {
    const world = new World(`read errors ${seed}`);
    const cluster = new SimCluster(world, { limits: { ...SMALL_LIMITS, runCacheBytes: 4_096 }, nodes: 3, parity: 1 });
    await cluster.startAll();
    const { client } = await cluster.mount();
    const files = Array.from({ length: FILES }, () => Buffer.from(world.random.bytes(100 + world.random.below(12_000))));
    for (const [at, bytes] of files.entries()) await world.run(writeFile(client.fileSystem, `f${at}`, bytes), LIMIT_MS);
    // Until what was logged is in runs, and the caches have forgotten it.
    await world.advance(5_000);
    const { log } = cluster.node(1).manager ?? {};
    const damaged = () => cluster.numbers.map((number) => cluster.node(number).status().scrub?.damaged);
    const before = damaged();
    const faults = [1, 2].map((at) => world.drive(nodeName(((at + seed) % 3) + 1)).faults);
    for (const one of faults) Object.assign(one, { readErrorChance: 1, readNowChance: 0 });
    const removing = (async () => {
      for (let at = 0; at < FILES; at += 2) await client.fileSystem.unlink(CALLER, ROOT, `f${at}`);
    })();
    removing.catch(() => {});
    await world.advance(3_000);
    for (const one of faults) Object.assign(one, { readErrorChance: 0 });
    await world.run(removing, LIMIT_MS);
    await world.run(client.close(), LIMIT_MS);
    const { client: reader } = await cluster.mount();
    for (let at = 1; at < FILES; at += 2)
      t.true((await world.run(readFile(reader.fileSystem, `f${at}`), LIMIT_MS)).equals(files[at] as Buffer), `f${at}`);
    await t.throwsAsync(world.run(readFile(reader.fileSystem, "f0"), LIMIT_MS), { code: "notFound" } as object);
    t.is(cluster.node(1).manager?.log, log);
    t.deepEqual(damaged(), before);
  });
