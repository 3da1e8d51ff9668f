import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { openDisk } from "@dazzle/runtime";
import test from "ava";
import { LoopDisk } from "./support/loop-disk.ts";
import { Workspace } from "./support/workspace.ts";

const DISK_BYTES = 64 * 1024 * 1024;
const FILE_BYTES = 3 * 1024 * 1024 + 777;
const MARK = "the byte behind this mark rots: ";
const MARK_AT = 2 * 1024 * 1024 + 5_000;
const ATTEMPTS_MAX = 10;

const workspace = new Workspace();
test.after.always(() => workspace.close());

test("what is stored is read as the disk has it, whatever the page cache has", async (t) => {
  const mountpoint = workspace.file("mnt");
  await LoopDisk.create(workspace, "disk", mountpoint, DISK_BYTES);
  const disk = await openDisk(mountpoint);
  const file = await disk.open("file", { create: true });
  const bytes = Buffer.from(Array.from({ length: FILE_BYTES }, (_, index) => (index * 7) % 251));
  bytes.write(MARK, MARK_AT, "latin1");
  const rotten = Buffer.from(bytes);
  rotten.writeUInt8(bytes.readUInt8(MARK_AT + MARK.length) ^ 1, MARK_AT + MARK.length);
  const read = Buffer.alloc(FILE_BYTES + 10);
  const cached = async () => {
    await file.write([bytes], 0);
    await file.sync();
    const image = workspace.file("disk.ext4");
    const at = readFileSync(image).indexOf(MARK, 0, "latin1") + MARK.length;
    t.true(at >= MARK.length);
    const device = openSync(image, "r+");
    writeSync(device, rotten, MARK_AT + MARK.length, 1, at);
    closeSync(device);
    t.is(await file.read(read, 0), FILE_BYTES);
    return read.subarray(0, FILE_BYTES).equals(bytes);
  };
  // Other tests empty the kernel's caches at any time.
  let attempts = 1;
  while (!(await cached()) && attempts < ATTEMPTS_MAX) attempts++;
  t.true(read.subarray(0, FILE_BYTES).equals(bytes), "the page cache knows nothing of it");
  t.is(await file.readStored(read, 0), FILE_BYTES);
  t.true(read.subarray(0, FILE_BYTES).equals(rotten));
  for (const [from, length] of [
    [1, 1],
    [4_095, 2],
    [MARK_AT, MARK.length + 1],
    [FILE_BYTES - 5, 5],
    [777, FILE_BYTES - 800],
  ] as const) {
    const part = Buffer.alloc(length);
    t.is(await file.readStored(part, from), length);
    t.true(part.equals(rotten.subarray(from, from + length)), `${from}+${length}`);
  }
  t.is(await file.readStored(Buffer.alloc(10), FILE_BYTES - 3), 3);
  t.is(await file.readStored(Buffer.alloc(10), FILE_BYTES + 1), 0);
  // What is written and not synced is there as well.
  await file.write([bytes.subarray(0, 9)], FILE_BYTES);
  const end = Buffer.alloc(20);
  t.is(await file.readStored(end, FILE_BYTES), 9);
  t.true(end.subarray(0, 9).equals(bytes.subarray(0, 9)));
  await file.close();
});
