import { SegmentClass, watermarkBytes } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test, { type ExecutionContext } from "ava";
import { bytesOf, type Run } from "../src/imap/run-table.ts";
import { Cluster } from "./support/cluster.ts";
import { StripedCluster, type StripedMount } from "./support/striped-cluster.ts";
import { ino, inodeOf } from "./support/transactions.ts";

const MIB = 1024 * 1024;
const SLOT = 3;
const VALUE_BYTES = 48 * 1024;
const DATA_BYTES = 64 * 1024;
const DATA_FILES = 60;
const LIMIT_MS = 900_000;
/** Of so small a disk. */
const PROMISED = watermarkBytes("promised", 0);

/** Three servers with a shard that has one run of about 14 MiB, smaller ones, and files with data. */
class FullDisks {
  readonly world = new World(5);
  readonly cluster = new StripedCluster(this.world);
  readonly files: number[] = [];
  dataFiles: readonly number[] = [];
  mount!: StripedMount;
  #first = 0;
  #made = 0;
  leastFree = Number.POSITIVE_INFINITY;

  get imap() {
    return this.cluster.manager.parts.host.shard(SLOT).imap;
  }

  get drives() {
    return [1, 2, 3].map((member) => this.world.drive(`node${member}`));
  }

  get freeBytes(): number {
    return Math.min(...this.drives.map(({ freeBytes }) => freeBytes));
  }

  /** Others fill the disks, or give back what they have. */
  leave(freeBytes: number): void {
    for (const drive of this.drives) drive.capacityBytes += freeBytes - drive.freeBytes;
  }

  /** So long, while what is free is watched. */
  async watch(durationMs: number): Promise<void> {
    const endMs = this.world.nowMs + durationMs;
    while (this.world.nowMs < endMs) {
      await this.world.advance(20);
      this.leastFree = Math.min(this.leastFree, this.freeBytes);
    }
  }

  async start(): Promise<void> {
    const { world, cluster } = this;
    await world.run(cluster.start());
    this.mount = await world.run(cluster.mount("mount"));
    this.#first = (await world.run(this.mount.call("numbers", { slot: SLOT, count: 2_000 }))).reply.first;
    for (let index = 0; index < DATA_FILES; index++) await this.#addData();
    this.dataFiles = this.files.splice(0);
    while (!this.#isAllMergedNext) await this.add();
    await world.run(this.mount.settle());
    await world.advance(8_000);
  }

  /** One more small run, and what comes next is a merge of everything, which takes more than 7 MiB of each disk. */
  get #isAllMergedNext(): boolean {
    const { runs } = this.imap;
    const [last] = runs.slice(-1);
    return last !== undefined && bytesOf([last]) > 12 * MIB && bytesOf(runs.slice(0, -1)) * 2 > 0.9 * bytesOf([last]);
  }

  get wantsAll(): boolean {
    return this.imap.mergeable(Number.POSITIVE_INFINITY)?.at(-1) === this.imap.runs.at(-1);
  }

  async #addData(): Promise<void> {
    const file = this.#next();
    const extents = (offset: number) => [{ block: 0, offset, length: DATA_BYTES }];
    const inode = inodeOf(file, { size: DATA_BYTES });
    await this.world.run(
      this.mount.write(
        DATA_BYTES,
        (offset) => [
          { kind: "putInode", ino: ino(file), inode },
          { kind: "putExtents", ino: ino(file), extents: extents(offset) },
        ],
        true,
      ),
    );
  }

  #next(): number {
    const file = this.#first + 64 * this.#made++;
    this.files.push(file);
    return file;
  }

  async add(): Promise<void> {
    const file = this.#next();
    const value = Buffer.alloc(VALUE_BYTES, this.files.length);
    await this.world.run(
      this.mount.write(
        0,
        () => [
          { kind: "putInode", ino: ino(file), inode: inodeOf(file) },
          { kind: "putAttribute", ino: ino(file), name: "user.value", value },
        ],
        true,
        SegmentClass.metadata,
      ),
    );
    if (this.#made % 8 === 0) {
      await this.world.run(this.mount.settle());
      await this.world.advance(100);
    }
  }

  /** The first mount was silent for long. */
  async mountAnew(): Promise<void> {
    this.mount = await this.world.run(this.cluster.mount("next"), LIMIT_MS);
  }

  /** Until runs were merged into this one. */
  async addUntilMerged(large: Run | undefined): Promise<void> {
    while (this.imap.runs.at(-1) === large) {
      await this.add();
      await this.watch(200);
    }
  }

  /** As unlink does. */
  async removeData(): Promise<void> {
    const removed = this.dataFiles.map((file) => ({ kind: "removeInode" as const, ino: ino(file) }));
    await this.world.run(
      this.mount.write(0, () => removed, true, SegmentClass.metadata),
      LIMIT_MS,
    );
    await this.world.run(this.mount.settle(), LIMIT_MS);
  }

  async checkReads(t: ExecutionContext): Promise<void> {
    for (let index = 0; index < this.files.length; index += 25) {
      const [[name, value] = []] = await this.world.run(this.imap.attributes(this.files[index] as number));
      t.is(name, "user.value");
      t.deepEqual(value, Buffer.alloc(VALUE_BYTES, index + 1));
    }
  }
}

/** A manager whose logs are in memory, with four runs of a shard; what room there is to merge them the test says. */
async function mergeable(room: () => number) {
  const world = new World(2);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const mount = await world.run(cluster.mount("mount"));
  const { reply } = await world.run(mount.call("numbers", { slot: SLOT, count: 400 }));
  const { host, checkpointer } = cluster.manager.parts;
  const { imap } = host.shard(SLOT);
  cluster.logs.room = () => 0;
  for (let round = 0; round < 4; round++) {
    const files = Array.from({ length: 100 }, (_, index) => ino(reply.first + 64 * (100 * round + index)));
    await world.run(
      mount.change(files.map((file) => ({ kind: "putInode", ino: file, inode: inodeOf(file, { target: "x".repeat(1_000) }) }))),
    );
    await world.run(mount.settle());
    await world.run(checkpointer.run());
  }
  await world.advance(20_000);
  cluster.logs.room = room;
  return { world, imap, checkpointer, cluster };
}

test("a merge for which there was no room is done once there is, though nothing changes any more", async (t) => {
  let asked = 0;
  let bytes = 0;
  const room = () => {
    asked++;
    return bytes;
  };
  const { world, imap, checkpointer } = await mergeable(room);
  const { checkpoints } = checkpointer;
  await world.advance(60_000);
  t.is(imap.runs.length, 4);
  t.is(checkpointer.checkpoints, checkpoints);
  t.true(asked >= 10 && asked <= 20, `${asked} times`);
  bytes = 2 * bytesOf(imap.runs);
  await world.run(() => imap.runs.length === 1, 10_000);
});

test("a merge that was begun and given up for lack of room is tried ever more seldom, and what it wrote is deleted each time", async (t) => {
  let asked = 0;
  // Servers have room when it begins, and not when it goes on.
  const room = () => (asked++ % 2 === 0 ? 1_000_000 : 1_000);
  const { world, imap, cluster } = await mergeable(room);
  const { bytes } = cluster.logs;
  await world.advance(600_000);
  t.is(imap.runs.length, 4);
  t.true(asked >= 6 && asked <= 12, `${asked} times`);
  t.true(cluster.logs.bytes < 1.1 * bytes, `${cluster.logs.bytes} bytes are kept, ${bytes} before`);
  cluster.logs.room = () => Number.MAX_SAFE_INTEGER;
  await world.run(() => imap.runs.length === 1, LIMIT_MS);
});

test("small runs are merged also where there is no room but what unlink needs, and do not pile up", async (t) => {
  const { world, imap, checkpointer, cluster } = await mergeable(() => 0);
  const [least] = imap.runs.slice(0, 1);
  const mount = await world.run(cluster.mount("other"));
  const { reply } = await world.run(mount.call("numbers", { slot: SLOT, count: 1 }));
  const file = ino(reply.first);
  cluster.logs.leastRoom = bytesOf([least as Run]) / 2;
  for (let round = 0; round < 60; round++) {
    await world.run(mount.change([{ kind: "putInode", ino: file, inode: inodeOf(file, { target: String(round) }) }]));
    await world.run(mount.settle());
    await world.run(checkpointer.run());
    await world.advance(200);
  }
  t.true(imap.runs.length <= 8, `${imap.runs.length} runs`);
});

test("runs that don't fit on full disks are not merged before they do: files are removed meanwhile, and their space comes back", async (t) => {
  const disks = new FullDisks();
  await disks.start();
  disks.leave(7 * MIB);
  while (!disks.wantsAll) {
    await disks.add();
    await disks.watch(200);
  }
  const large = disks.imap.runs.at(-1);
  await disks.watch(120_000);
  t.true(disks.imap.runs.at(-1) === large);
  t.true(disks.leastFree >= PROMISED, `${disks.leastFree} bytes were free`);
  await disks.checkReads(t);
  const before = disks.freeBytes;
  await disks.mountAnew();
  await disks.removeData();
  await disks.world.run(() => disks.freeBytes > before + (DATA_FILES * DATA_BYTES) / 2 / 2, LIMIT_MS);
  disks.leave(30 * MIB);
  await disks.addUntilMerged(large);
  // What was merged is freed.
  await disks.world.run(() => disks.freeBytes > 28 * MIB, LIMIT_MS);
  await disks.checkReads(t);
});

test("a merge is given up when others take its room, its space comes back, and it is done when there is room again", async (t) => {
  const disks = new FullDisks();
  await disks.start();
  disks.leave(40 * MIB);
  while (!disks.wantsAll) {
    await disks.add();
    await disks.watch(200);
  }
  const large = disks.imap.runs.at(-1);
  await disks.world.run(() => disks.freeBytes < 37 * MIB, LIMIT_MS);
  const written = 40 * MIB - disks.freeBytes;
  disks.leave(10 * MIB);
  await disks.watch(60_000);
  t.true(disks.imap.runs.at(-1) === large);
  t.true(disks.world.log.some(({ message }) => message.startsWith("merging runs failed")));
  t.true(disks.leastFree >= PROMISED, `${disks.leastFree} bytes were free`);
  t.true(disks.freeBytes > 10 * MIB + written / 2, `${disks.freeBytes} bytes are free`);
  await disks.checkReads(t);
  disks.leave(40 * MIB);
  await disks.mountAnew();
  await disks.addUntilMerged(large);
  await disks.checkReads(t);
});
