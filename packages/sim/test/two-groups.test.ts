import { currentVersion, type Group } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { readFile, writeFile } from "./support/files.ts";

const KIB = 1024;
const LIMIT_MS = 60_000;
const FIRST: readonly number[] = [1, 2, 3];
const SECOND: readonly number[] = [4, 5];

/** A cluster of a group of three and one of two, with a mount. */
async function start(seed: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 5, second: 2, parity: 1 });
  await cluster.startAll();
  await cluster.makeGroups();
  const run = <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS);
  const { fileSystem } = await cluster.mount();
  const contents = new Map<string, Buffer>();
  const write = async (name: string) => {
    const bytes = Buffer.from(world.random.bytes(100 * KIB));
    await run(() => writeFile(fileSystem, name, bytes));
    contents.set(name, bytes);
  };
  return { world, cluster, run, write, contents };
}

for (const [name, lost, left] of [
  ["first, where the manager's log is", FIRST.slice(1), SECOND],
  ["second", SECOND, FIRST],
] as const)
  test(`without enough servers of the ${name}, mounts come and write on in the other; afterwards all is there`, async (t) => {
    const { world, cluster, run, write, contents } = await start(301);
    for (let index = 0; index < 4; index++) await write(`before${index}`);
    const { map } = cluster.node(1);
    const log = map.current.logs.find(({ kind }) => kind === "mount");
    t.is(log?.groups.length, 2, "the mount wrote to both");
    for (const number of lost) cluster.kill(number);
    for (let index = 0; index < 4; index++) await write(`during${index}`);
    const other = await cluster.mount();
    t.deepEqual(await run(() => readFile(other.fileSystem, "during0")), contents.get("during0"));
    await run(() => writeFile(other.fileSystem, "another", "what a mount wrote that came later"));
    const [begun] = map.current.logs.find(({ label }) => label === other.instance.name)?.groups ?? [];
    const group = map.current.groups.find(({ id }) => id === begun) as Group;
    t.true(currentVersion(group).servers.every(({ member }) => left.includes(member)));
    await cluster.startAll();
    await world.advance(10_000);
    const { fileSystem } = await cluster.mount();
    for (const [file, bytes] of contents) t.deepEqual(await run(() => readFile(fileSystem, file)), bytes, file);
    const report = await cluster.fsck("data");
    t.deepEqual(report.findings, []);
  });
