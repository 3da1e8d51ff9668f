import { type FileSystem, joined } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { CALLER, O_RDWR, ROOT } from "./support/files.ts";

const LIMIT_MS = 60_000;
const PLAIN = { open: O_RDWR, killPrivileges: false };
const WRITERS = 4;
/** Many segments. */
const WRITE_BYTES = 1024 * 1024;
/** Of more than one of them. */
const READ_BYTES = 64 * 1024;

/** Processes of one mount that write one file without a pause. */
async function start(seed: number, mounts: number) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  const systems: FileSystem[] = [];
  for (let mount = 0; mount < mounts; mount++) systems.push((await cluster.mount()).client.fileSystem);
  const [busy] = systems as [FileSystem];
  const run = <T>(action: () => Promise<T>) => world.run(action(), LIMIT_MS);
  const { ino } = (await run(async () => busy.makeNode(CALLER, ROOT, "f", 0o100644, 0))).attributes;
  const handles: number[] = [];
  for (const system of systems) handles.push((await run(async () => system.open(CALLER, ino, O_RDWR))).handle);
  const writes = new Array<number>(WRITERS).fill(0);
  let stopped = false;
  const writing = writes.map(async (_, writer) => {
    for (; !stopped; writes[writer] = (writes[writer] as number) + 1) {
      await busy.write(CALLER, ino, handles[0] as number, 0, Buffer.alloc(WRITE_BYTES, writer + 1), PLAIN);
      // A process comes back in another turn.
      await new Promise<void>((resolve) => world.after(0.05, resolve));
    }
  });
  const stop = async () => {
    stopped = true;
    await run(() => Promise.all(writing));
  };
  return { world, systems, run, ino, handles, writes, stop };
}

const sum = (numbers: readonly number[]) => numbers.reduce((all, one) => all + one, 0);

test("processes that write more than the log takes get its room in turn", async (t) => {
  const { world, writes, stop } = await start(1, 1);
  await world.advance(600);
  t.true(sum(writes) > 2 * WRITERS, `${writes}`);
  t.true(Math.max(...writes) - Math.min(...writes) <= 1, `${writes}`);
  await stop();
});

test("who wants a file waits for the writes of another mount that have begun, and for none that comes later", async (t) => {
  const { world, systems, run, ino, handles, writes, stop } = await start(2, 2);
  const other = systems[1] as FileSystem;
  for (let turn = 0; turn < 4; turn++) {
    await world.advance(200);
    const before = sum(writes);
    const bytes = joined(await run(async () => other.read(CALLER, ino, handles[1] as number, 0, READ_BYTES)));
    const later = sum(writes) - before;
    t.true(later <= WRITERS, `${later} writes in turn ${turn}`);
    // None was torn by it.
    t.true(bytes.every((byte) => byte === bytes[0]));
  }
  await stop();
});
