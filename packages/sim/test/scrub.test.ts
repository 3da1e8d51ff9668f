import { nodeName, rot, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { readFile, writeFile } from "./support/files.ts";

const LIMIT_MS = 120_000;
const FILES = 24;
const ROUNDS = 4;
const FLIPS = 3;

/** Until every server has verified all that it has had since now, and repaired what was damaged. */
async function scrubbed(world: World, cluster: SimCluster): Promise<void> {
  const begun = cluster.numbers.map((number) => cluster.node(number).status().scrub?.pass ?? 0);
  await world.run(
    () =>
      cluster.numbers.every((number, at) => {
        const scrub = cluster.node(number).status().scrub;
        // The pass that was under way may have been past it.
        const isPast = scrub !== null && scrub.pass - (scrub.running ? 1 : 0) > (begun[at] as number);
        return isPast && scrub.waiting === 0;
      }),
    LIMIT_MS,
  );
}

for (const seed of [1, 2, 3, 4])
  test(`bits rot on every server, one after the other; scrubbed in between, all is read whichever is lost then: seed ${seed}`, async (t) => {
    const world = new World(`scrub ${seed}`);
    const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
    await cluster.startAll();
    const { client } = await cluster.mount();
    const files = new Map<string, Buffer>();
    for (let at = 0; at < FILES; at++) {
      const bytes = Buffer.from(world.random.bytes(500 + world.random.below(60_000)));
      files.set(`f${at}`, bytes);
      await world.run(writeFile(client.fileSystem, `f${at}`, bytes), LIMIT_MS);
    }
    let flipped = 0;
    for (let round = 0; round < ROUNDS; round++)
      for (const number of cluster.numbers) {
        for (let flip = 0; flip < FLIPS; flip++)
          if (rot(world.drive(nodeName(number)), cluster.storageDirectory(number), world.random) !== undefined) flipped++;
        await scrubbed(world, cluster);
      }
    t.is(flipped, ROUNDS * FLIPS * cluster.numbers.length);
    const statuses = cluster.numbers.map((number) => cluster.node(number).status().scrub);
    const sum = (field: "damaged" | "repaired" | "unrepairable") => statuses.reduce((total, status) => total + (status?.[field] ?? 0), 0);
    // Two bits may be of one fragment, or of one that is deleted meanwhile.
    t.true(sum("repaired") > flipped / 2, `${sum("repaired")} of ${flipped}`);
    t.is(sum("repaired"), sum("damaged"));
    t.is(sum("unrepairable"), 0);
    // Node 1 has the manager and the map.
    cluster.kill(2 + world.random.below(2));
    const reader = await cluster.mount();
    for (const [name, bytes] of files) t.true((await world.run(readFile(reader.client.fileSystem, name), LIMIT_MS)).equals(bytes), name);
  });

test("a reader that meets damage has it repaired, long before its turn comes", async (t) => {
  const world = new World("scrub told");
  const limits = { ...SMALL_LIMITS, scrubIntervalMs: 1e9 };
  const cluster = new SimCluster(world, { limits, nodes: 3, parity: 1 });
  await cluster.startAll();
  const { client } = await cluster.mount();
  const files = Array.from({ length: FILES }, () => Buffer.from(world.random.bytes(60_000)));
  for (const [at, bytes] of files.entries()) await world.run(writeFile(client.fileSystem, `f${at}`, bytes), LIMIT_MS);
  await scrubbedOnce(world, cluster);
  for (let flip = 0; flip < 12; flip++) rot(world.drive(nodeName(2)), cluster.storageDirectory(2), world.random);
  const reader = await cluster.mount();
  for (const [at, bytes] of files.entries())
    t.true((await world.run(readFile(reader.client.fileSystem, `f${at}`), LIMIT_MS)).equals(bytes));
  const scrub = () => cluster.node(2).status().scrub;
  await world.run(() => (scrub()?.repaired ?? 0) > 0 && scrub()?.waiting === 0, LIMIT_MS);
  t.is(scrub()?.pass, 1);
});

async function scrubbedOnce(world: World, cluster: SimCluster): Promise<void> {
  await world.run(() => cluster.numbers.every((number) => cluster.node(number).status().scrub?.last !== null), LIMIT_MS);
}

test("a pass keeps to its budget, and goes on where it was when its server starts again", async (t) => {
  const world = new World("scrub again");
  // So slowly that a pass takes minutes.
  const limits = { ...SMALL_LIMITS, scrubBytesPerSecond: 8 * 1024 };
  const cluster = new SimCluster(world, { limits, nodes: 3, parity: 1 });
  await cluster.startAll();
  const { client } = await cluster.mount();
  for (let at = 0; at < FILES; at++)
    await world.run(writeFile(client.fileSystem, `f${at}`, Buffer.from(world.random.bytes(60_000))), LIMIT_MS);
  const scrub = () => cluster.node(3).status().scrub;
  await world.run(() => scrub()?.running === true && (scrub()?.fragments ?? 0) > 10, LIMIT_MS);
  await world.run(cluster.node(3).stop(), LIMIT_MS);
  const { pass, fragments } = scrub() ?? { pass: 0, fragments: 0 };
  cluster.kill(3);
  await cluster.startNode(3);
  t.like(scrub(), { pass, running: true });
  t.true((scrub()?.fragments ?? 0) >= fragments);
  await world.run(() => (scrub()?.last?.fragments ?? 0) > fragments, 10 * LIMIT_MS);
  const { bytes, startedMs, endedMs } = scrub()?.last ?? { bytes: 0, startedMs: 0, endedMs: 0 };
  t.true((1_000 * bytes) / (endedMs - startedMs) < 1.1 * limits.scrubBytesPerSecond, "within its budget");
});
