import { BLOCK_BYTES, type Caller, deferred, type FileSystem } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { PageCache } from "./support/kernel.ts";

const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const READ_WRITE = 2;
const AWAY_MS = 6_000;

// An engine with too many requests under way leaves others in the kernel's queue: nobody knows which pages those have locked.
test("a file of which a read is not seen yet is not written elsewhere while its pages can't be dropped, seed=5", async (t) => {
  const world = new World(5);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1 });
  await cluster.startAll();
  const [one, two] = [await cluster.mount(), await cluster.mount()];
  const run = <T>(action: () => Promise<T> | T) => world.run((async () => action())(), 60_000) as Promise<T>;
  const write = async (fileSystem: FileSystem, ino: number, handle: number, byte: string) =>
    fileSystem.write(CALLER, ino, handle, 0, Buffer.alloc(3 * BLOCK_BYTES, byte), { open: READ_WRITE, killPrivileges: false });
  const seen = deferred();
  let paused = false;
  const queue = new Proxy(one.fileSystem, {
    get(fileSystem, name: keyof FileSystem) {
      if (name !== "read") return (fileSystem[name] as () => unknown).bind(fileSystem);
      return async (...args: Parameters<FileSystem["read"]>) => {
        if (paused) await seen.promise;
        return fileSystem.read(...args);
      };
    },
  });
  const made = await run(() => one.fileSystem.create(CALLER, 1, "f", 0o644, READ_WRITE));
  const { ino } = made.entry.attributes;
  const { handle } = made.file;
  await run(() => write(one.fileSystem, ino, handle, "a"));
  await run(() => one.fileSystem.fsync(CALLER, ino, handle, false));
  const kernel = new PageCache(queue, world, CALLER);
  await run(() => kernel.read(ino, handle, 1));
  paused = true;
  const reading = kernel.read(ino, handle, 0);
  const theirs = await run(() => two.fileSystem.open(CALLER, ino, READ_WRITE));
  let written = false;
  const writing = write(two.fileSystem, ino, theirs.handle, "b").then(() => {
    written = true;
  });
  await world.advance(AWAY_MS);
  const cached = await run(() => kernel.read(ino, handle, 1));
  t.deepEqual([written, cached.toString("latin1", 0, 1)], [false, "a"]);
  paused = false;
  seen.resolve();
  await run(() => writing);
  await run(() => reading);
  const [first, second] = [await run(() => kernel.read(ino, handle, 0)), await run(() => kernel.read(ino, handle, 1))];
  t.deepEqual([first.toString("latin1", 0, 1), second.toString("latin1", 0, 1)], ["b", "b"]);
});
