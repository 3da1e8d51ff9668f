import { findLog, LIMITS } from "@dazzle/core";
import { SimCluster, World } from "@dazzle/sim";
import test from "ava";
import { readFile, writeFile } from "./support/files.ts";

const LIMIT_MS = 120_000;
const MACHINE = 2;
/** More than a mount ships while it asks whether everything is stable, on a line as slow as this one. */
const FILES = 50;
const SLOW_MS = 20;
/** By then the manager has told that it has applied everything, of which it makes little stable within a second. */
const APPLIED_MS = 20;

for (const seed of [1, 2])
  test(`what was fsynced before a clean unmount is there, though the manager starts anew meanwhile, seed=${seed}`, async (t) => {
    const world = new World(seed);
    const cluster = new SimCluster(world, { limits: LIMITS, nodes: 3, parity: 1 });
    await cluster.startAll();
    const { instance, mount, client, fileSystem } = await cluster.mount(MACHINE);
    const names = Array.from({ length: FILES }, (_, number) => `${number}`);
    for (const name of names) await world.run(writeFile(fileSystem, name, `text of ${name}`), LIMIT_MS);
    await world.advance(APPLIED_MS);
    t.true((client.counters().trimmedTo ?? 0) < FILES / 2, `trimmed to ${client.counters().trimmedTo}`);
    world.network.slow(instance.name, SLOW_MS);
    cluster.kill(1);
    await cluster.startNode(1);
    await world.run(mount.close(), LIMIT_MS);
    t.is(findLog(cluster.node(1).map.current, client.log)?.state ?? "closed", "closed");
    t.false(world.log.some(({ message }) => message === "the log is left to recovery"));
    const next = await cluster.mount(MACHINE);
    for (const name of names) t.is((await world.run(readFile(next.fileSystem, name), LIMIT_MS)).toString(), `text of ${name}`);
  });
