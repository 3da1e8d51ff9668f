import { type FileSystem, joined, LIMITS, memberId } from "@dazzle/core";
import { SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { CALLER, O_RDWR, ROOT } from "./support/files.ts";
import { Mover } from "./support/mover.ts";

const LIMIT_MS = 120_000;
const ALL_VERSIONS = -1;
/** More than a mount caches. */
const FILES = 16;
const BYTES = 20_000;
/** Behind what is asked of a manager at once. */
const FAR = 100 * 1024 * 1024;
const CLEAN = { findings: [], unsettled: [], unchecked: [] };

interface OpenFile {
  readonly ino: number;
  readonly handle: number;
  readonly bytes: Buffer;
}

class Bench {
  readonly world: World;
  readonly cluster: SimCluster;

  constructor(seed: number) {
    this.world = new World(seed);
    this.cluster = new SimCluster(this.world, { limits: SMALL_LIMITS, nodes: 4, parity: 1 });
  }

  run<T>(action: () => T | Promise<T>): Promise<T> {
    return this.world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  }

  /** Files that the mount wrote and has open. */
  async make(fileSystem: FileSystem, at = 0): Promise<OpenFile[]> {
    const files: OpenFile[] = [];
    for (let index = 0; index < FILES; index++) {
      const bytes = Buffer.from(this.world.random.bytes(BYTES));
      const { entry, file } = await this.run(() => fileSystem.create(CALLER, ROOT, `f${index}`, 0o644, O_RDWR));
      files.push({ ino: entry.attributes.ino, handle: file.handle, bytes });
      await this.write(fileSystem, files[index] as OpenFile, at, bytes);
    }
    await this.run(() => fileSystem.fsync(CALLER, files[0]?.ino as number, files[0]?.handle as number, false));
    return files;
  }

  write(fileSystem: FileSystem, { ino, handle }: OpenFile, at: number, bytes: Buffer): Promise<number> {
    return this.run(() => fileSystem.write(CALLER, ino, handle, at, bytes, { open: O_RDWR, killPrivileges: false }));
  }

  async read(fileSystem: FileSystem, { ino, handle }: OpenFile, at = 0): Promise<Buffer> {
    return Buffer.from(joined(await this.run(() => fileSystem.read(CALLER, ino, handle, at, BYTES))));
  }

  /** As another mount has them: by the same names. */
  async open(fileSystem: FileSystem, files: readonly OpenFile[]): Promise<OpenFile[]> {
    const opened: OpenFile[] = [];
    for (const [index, { bytes }] of files.entries()) {
      const { attributes } = await this.run(() => fileSystem.lookup(CALLER, ROOT, `f${index}`));
      const { handle } = await this.run(() => fileSystem.open(CALLER, attributes.ino, 0));
      opened.push({ ino: attributes.ino, handle, bytes });
    }
    return opened;
  }

  async held(log: number, servers: readonly number[] = this.cluster.numbers): Promise<Set<number>> {
    const held = new Set<number>();
    const { peers } = this.cluster.node(1);
    for (const number of servers) {
      const { reply } = await this.run(() => peers.call(memberId(number), "list", { log, after: 0, limit: 10_000 }));
      for (const { sequence } of reply.fragments) held.add(sequence);
    }
    return held;
  }

  /** Moves everything out of what the mount has written. Resolves when the segments are gone from the servers that are there. */
  async moveAll({ client }: SimMount, servers?: readonly number[]): Promise<void> {
    await this.world.advance(3_000);
    const mover = await this.run(() => Mover.start(this.cluster));
    const moved = await this.run(() => mover.move(client.log));
    if (moved.length === 0) throw new Error("nothing was moved");
    for (let left = true; left; ) {
      await this.world.advance(500);
      const held = await this.held(client.log, servers);
      left = moved.some((sequence) => held.has(sequence));
    }
  }
}

test("who has old addresses reads the same bytes when everything was moved and deleted: the writer, and who only read", async (t) => {
  const bench = new Bench(1);
  await bench.cluster.startAll();
  const [writer, reader] = [await bench.cluster.mount(), await bench.cluster.mount()];
  const files = await bench.make(writer.fileSystem);
  const opened = await bench.open(reader.fileSystem, files);
  for (const file of opened) t.true(file.bytes.equals(await bench.read(reader.fileSystem, file)));
  await bench.moveAll(writer);
  for (const [index, file] of opened.entries()) t.true(file.bytes.equals(await bench.read(reader.fileSystem, file)), `reader f${index}`);
  for (const [index, file] of files.entries()) t.true(file.bytes.equals(await bench.read(writer.fileSystem, file)), `writer f${index}`);
  t.like(await bench.cluster.fsck("data"), CLEAN);
});

test("a part of a block is written over what was moved, and nothing else of it changes", async (t) => {
  const bench = new Bench(2);
  await bench.cluster.startAll();
  const writer = await bench.cluster.mount();
  const files = await bench.make(writer.fileSystem);
  await bench.moveAll(writer);
  for (const [index, file] of files.entries()) {
    const at = 1_000 * index + 500;
    file.bytes.fill(index + 1, at, at + 10);
    t.is(await bench.write(writer.fileSystem, file, at, file.bytes.subarray(at, at + 10)), 10);
  }
  for (const [index, file] of files.entries()) t.true(file.bytes.equals(await bench.read(writer.fileSystem, file)), `f${index}`);
  await bench.run(() => writer.client.close());
  const other = await bench.cluster.mount();
  for (const [index, file] of (await bench.open(other.fileSystem, files)).entries())
    t.true(file.bytes.equals(await bench.read(other.fileSystem, file)), `other f${index}`);
});

test("while a server is silent that may have some of it, the shard is asked before the server is waited for", async (t) => {
  const bench = new Bench(3);
  const { world, cluster } = bench;
  await cluster.startAll();
  const writer = await cluster.mount();
  const files = await bench.make(writer.fileSystem);
  await world.advance(3_000);
  cluster.kill(4);
  await bench.moveAll(writer, [1, 2, 3]);
  const beganMs = world.nowMs;
  for (const [index, file] of files.entries()) t.true(file.bytes.equals(await bench.read(writer.fileSystem, file)), `f${index}`);
  // It is not back, and one read alone would have waited for longer.
  t.true(world.nowMs - beganMs < LIMITS.writeDeadlineMs, `${world.nowMs - beganMs} ms`);
});

test("what is gone and was not moved is an error at once, wherever in the file it was", async (t) => {
  const bench = new Bench(4);
  const { cluster } = bench;
  await cluster.startAll();
  const [writer, reader] = [await cluster.mount(), await cluster.mount()];
  const files = await bench.open(reader.fileSystem, await bench.make(writer.fileSystem, FAR));
  for (const file of files) t.true(file.bytes.equals(await bench.read(reader.fileSystem, file, FAR)));
  // Nobody has it in memory.
  await bench.run(() => writer.client.close());
  await bench.world.advance(3_000);
  for (const number of cluster.numbers) {
    const request = {
      log: writer.client.log,
      sequences: [...(await bench.held(writer.client.log))],
      trimmedTo: 10_000,
      group: ALL_VERSIONS,
      groupVersion: ALL_VERSIONS,
    };
    await bench.run(() => cluster.node(1).peers.call(memberId(number), "delete", request));
  }
  const before = reader.client.counters()["read.reads"] as number;
  const failed = await bench.run(() =>
    Promise.resolve(reader.fileSystem.read(CALLER, files[0]?.ino as number, files[0]?.handle as number, FAR, BYTES)).then(
      () => "read",
      ({ code }) => code,
    ),
  );
  t.is(failed, "fragmentMissing");
  t.true((reader.client.counters()["read.reads"] as number) - before < 10);
});
