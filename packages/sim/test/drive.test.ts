import { type Disk, type DiskFile, isDazzleError } from "@dazzle/core";
import { type Instance, World } from "@dazzle/sim";
import test from "ava";

const SEEDS = Array.from({ length: 60 }, (_, seed) => seed);

async function opened(seed: number): Promise<{ world: World; node: Instance; disk: Disk; file: DiskFile }> {
  const world = new World(seed);
  const node = world.spawn("node");
  const file = await world.run(node.disk.open("f", { create: true }));
  await world.run(node.disk.syncDirectory(""));
  return { world, node, disk: node.disk, file };
}

async function afterCrash(world: World): Promise<Disk> {
  world.powerCut();
  return world.spawn("node").disk;
}

async function whole(world: World, disk: Disk, path: string): Promise<Buffer | undefined> {
  const bytes = await world.run(disk.readWhole(path));
  return bytes === undefined ? undefined : Buffer.from(bytes);
}

test("reads see what was written, holes read zeros, and the end is the end", async (t) => {
  const { world, file } = await opened(1);
  await world.run(file.write([Buffer.from("abc"), Buffer.from("def")], 9_998));
  const buffer = Buffer.alloc(20, 255);
  t.is(await world.run(file.read(buffer, 9_995)), 9);
  t.is(buffer.subarray(0, 9).toString("latin1"), "\0\0\0abcdef");
  t.is(await world.run(file.size()), 10_004);
  await world.run(file.truncate(10_000));
  t.is(await world.run(file.read(buffer, 10_000)), 0);
  await world.run(file.truncate(10_004));
  t.is(await world.run(file.read(buffer, 9_998)), 6);
  t.is(buffer.subarray(0, 6).toString("latin1"), "ab\0\0\0\0");
  const answers = Array.from({ length: 50 }, () => file.readNow(buffer, 9_998));
  t.true(answers.includes(6) && answers.includes(undefined));
});

test("what was synced survives every crash", async (t) => {
  for (const seed of SEEDS) {
    const { world, file } = await opened(seed);
    const bytes = Buffer.from(world.random.bytes(10_000));
    await world.run(file.write([bytes], 100));
    await world.run(file.sync());
    t.deepEqual((await whole(world, await afterCrash(world), "f"))?.subarray(100), bytes);
  }
});

test("of what was not synced any sectors survive, whole", async (t) => {
  let lost = 0;
  let kept = 0;
  let torn = 0;
  for (const seed of SEEDS) {
    const { world, file } = await opened(seed);
    await world.run(file.write([Buffer.alloc(8_192, 1)], 0));
    await world.run(file.sync());
    await world.run(file.write([Buffer.alloc(6_144, 2)], 4_096));
    const found = (await whole(world, await afterCrash(world), "f")) as Buffer;
    t.true(found.byteLength >= 8_192 && found.byteLength <= 10_240 && found.byteLength % 512 === 0);
    t.true(found.subarray(0, 4_096).every((byte) => byte === 1));
    const sectors = new Set<number | undefined>();
    for (let at = 4_096; at < found.byteLength; at += 512) {
      const sector = found.subarray(at, at + 512);
      t.true(sector.every((byte) => byte === sector[0]));
      t.true(sector[0] === 2 || sector[0] === (at < 8_192 ? 1 : 0));
      sectors.add(sector[0] === 2 ? 2 : 0);
    }
    if (sectors.size === 2) torn++;
    else if (sectors.has(2)) kept++;
    else lost++;
  }
  t.true(lost > 0 && kept > 0 && torn > 0, `${lost} lost, ${kept} kept, ${torn} torn`);
});

test("a write that had not resolved when sync was called is not durable by it", async (t) => {
  let lost = 0;
  for (const seed of SEEDS) {
    const { world, node, file } = await opened(seed);
    node.drive.faults.minDelayMs = node.drive.faults.maxDelayMs = 1;
    const write = file.write([Buffer.alloc(512, 7)], 0);
    const sync = file.sync();
    await world.run(Promise.all([write, sync]));
    const found = (await whole(world, await afterCrash(world), "f")) as Buffer;
    if (found.byteLength === 0) lost++;
  }
  t.true(lost > 0);
});

test("a process that is killed loses nothing that it had written, and tears what it was writing", async (t) => {
  let torn = 0;
  for (const seed of SEEDS.slice(0, 20)) {
    const { world, node, file } = await opened(seed);
    await world.run(file.write([Buffer.alloc(4_096, 1)], 0));
    void file.write([Buffer.alloc(4_096, 2)], 4_096);
    node.kill();
    const found = (await whole(world, world.spawn("node").disk, "f")) as Buffer;
    t.true(found.subarray(0, 4_096).every((byte) => byte === 1));
    const written = found.subarray(4_096).filter((byte) => byte === 2).byteLength;
    if (written > 0 && written < 4_096) torn++;
  }
  t.true(torn > 10);
});

test("a created file and a removed one are durable after syncDirectory, and only then", async (t) => {
  const outcomes = new Set<string>();
  for (const seed of SEEDS) {
    const { world, disk } = await opened(seed);
    await world.run(disk.makeDirectory("d"));
    await world.run(disk.syncDirectory(""));
    await world.run(disk.open("d/synced", { create: true }));
    await world.run(disk.syncDirectory("d"));
    await world.run(disk.open("d/created", { create: true }));
    await world.run(disk.remove("f"));
    const after = await afterCrash(world);
    const names = [...(await world.run(after.list(""))), ...(await world.run(after.list("d")))];
    t.true(names.includes("d") && names.includes("synced"));
    outcomes.add(names.join(" "));
  }
  t.deepEqual([...outcomes].sort(), ["d created synced", "d f created synced", "d f synced", "d synced"]);
});

test("a directory that was not synced takes along what is in it", async (t) => {
  const outcomes = new Set<string>();
  for (const seed of SEEDS) {
    const { world, disk } = await opened(seed);
    await world.run(disk.makeDirectory("d"));
    await world.run(disk.open("d/x", { create: true }));
    await world.run(disk.syncDirectory("d"));
    const after = await afterCrash(world);
    outcomes.add([...(await world.run(after.list(""))), ...(await world.run(after.list("d")))].join(" "));
  }
  t.deepEqual([...outcomes].sort(), ["d f x", "f"]);
});

test("a replace is the old or the new, and the new once it resolved", async (t) => {
  const found = new Set<string | undefined>();
  const names = new Set<string>();
  for (const seed of SEEDS) {
    const { world, disk } = await opened(seed);
    await world.run(disk.replace("d", Buffer.from("old")));
    const pending = disk.replace("d", Buffer.from("new"));
    if (seed % 3 === 0) await world.run(pending);
    const after = await afterCrash(world);
    const bytes = (await whole(world, after, "d"))?.toString();
    for (const name of await world.run(after.list(""))) names.add(name);
    if (seed % 3 === 0) t.is(bytes, "new");
    else found.add(bytes);
  }
  t.deepEqual([...found].sort(), ["new", "old"]);
  t.deepEqual([...names].sort(), ["d", "d.new", "f"]);
});

test("an index keeps a prefix of its unresolved commits, each whole", async (t) => {
  const key = (name: string) => Buffer.from(name);
  const counts = new Set<number>();
  for (const seed of SEEDS) {
    const { world, node, disk } = await opened(seed);
    const index = await world.run(disk.openIndex("index"));
    await world.run(index.commit([[key("b"), key("first")]]));
    for (let round = 0; round < 4; round++)
      void index.commit([
        [key(`c${round}`), key("1")],
        [key(`d${round}`), key("2")],
        [key("b"), round === 3 ? undefined : key(`round ${round}`)],
      ]);
    t.is(index.get(key("b")), undefined);
    t.is([...index.range(key("c"), key("d"))].length, 4);
    node.kill();
    if (seed % 2 === 0) world.powerCut();
    const again = await world.run(world.spawn("node").disk.openIndex("index"));
    const kept = [...again.range(key("c"), key("d"))].length;
    t.deepEqual(
      [...again.range(key("d"), key("e"))].map(([found]) => Buffer.from(found).toString()),
      ["d0", "d1", "d2", "d3"].slice(0, kept),
    );
    t.is(again.get(key("b"))?.toString(), [`first`, "round 0", "round 1", "round 2", undefined][kept]);
    counts.add(kept);
  }
  t.true(counts.size > 3);
});

test("a full disk refuses, and holes and removed files give their space back", async (t) => {
  const { world, node, disk, file } = await opened(3);
  node.drive.capacityBytes = 64 * 1024;
  await world.run(file.write([Buffer.alloc(60 * 1024, 1)], 0));
  const full = await t.throwsAsync(world.run(file.write([Buffer.alloc(8_192)], 60 * 1024)));
  t.true(isDazzleError(full, "noSpace"));
  t.is((await world.run(disk.space())).freeBytes, 4_096);
  t.true(await world.run(file.punchHole(4_096, 8_192)));
  t.is((await world.run(disk.space())).freeBytes, 12_288);
  const buffer = Buffer.alloc(8_192, 9);
  await world.run(file.read(buffer, 4_096));
  t.true(buffer.every((byte) => byte === 0));
  await world.run(disk.remove("f"));
  t.is((await world.run(disk.space())).freeBytes, 12_288);
  await world.run(file.close());
  t.is((await world.run(disk.space())).freeBytes, 65_536);
});

test("every fault of a drive fires, and is counted", async (t) => {
  const { world, node, disk, file } = await opened(4);
  const index = await world.run(disk.openIndex("index"));
  const failing = [
    ["read", () => file.read(Buffer.alloc(1), 0)],
    ["write", () => file.write([Buffer.alloc(1)], 0)],
    ["sync", () => file.sync()],
    ["commit", () => index.commit([])],
  ] as const;
  for (const [operation, run] of failing) {
    if (operation === "commit") node.drive.faults.commitErrorChance = 1;
    else node.drive.failNext(operation, "f");
    t.true(isDazzleError(await t.throwsAsync(world.run(run())), "diskFailed"));
    t.is(world.counters.of(`${operation}Error`), 1);
    if (operation !== "commit") await t.notThrowsAsync(world.run(run()));
  }
  await world.run(file.write([Buffer.alloc(100, 1)], 0));
  node.drive.flip("f", 50);
  const flipped = (await whole(world, disk, "f")) as Buffer;
  t.is(flipped.filter((byte) => byte !== 1).byteLength, 1);
});

test("after a failed sync a later one promises nothing for what came before", async (t) => {
  let lost = 0;
  let lostAtOnce = 0;
  for (const seed of SEEDS) {
    const { world, node, file } = await opened(seed);
    await world.run(file.write([Buffer.alloc(512, 5)], 0));
    node.drive.failNext("sync");
    await t.throwsAsync(world.run(file.sync()));
    if ((await world.run(file.size())) === 0) lostAtOnce++;
    await world.run(file.sync());
    if ((await whole(world, await afterCrash(world), "f"))?.byteLength === 0) lost++;
  }
  t.true(lostAtOnce > 5 && lost > lostAtOnce, `${lost} lost, ${lostAtOnce} of them before the crash`);
});

test("a buffer that changes while it is written is the writer's bug", async (t) => {
  const { world, file } = await opened(5);
  const bytes = Buffer.alloc(100, 1);
  const write = file.write([bytes], 0);
  bytes[3] = 2;
  await t.throwsAsync(world.run(write), { message: /node\/1 changed what it was writing to f/ });
});

test("directories of one drive are apart, and a drive outlives its process", async (t) => {
  const { world, node } = await opened(6);
  await world.run(node.diskAt("one").replace("x", Buffer.from("1")));
  await world.run(node.diskAt("other").replace("x", Buffer.from("2")));
  world.powerCut();
  const heir = world.spawn("heir", { diskDir: "node" });
  t.is((await whole(world, heir.diskAt("one"), "x"))?.toString(), "1");
  t.deepEqual(await world.run(heir.disk.list("")), ["f", "one", "other"]);
});
