import { closeSync, existsSync, fsyncSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { limitsOf } from "./support/disk-speed.ts";
import { cutPower, LoopDisk, restorePower } from "./support/loop-disk.ts";
import { Workspace } from "./support/workspace.ts";

test("a power cut keeps what was synced and loses what was not", async (t) => {
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const disk = await LoopDisk.create(workspace, "disk", workspace.file("disk"), 64 * 1024 * 1024);
  const synced = openSync(join(disk.mountpoint, "synced"), "w");
  writeSync(synced, "on disk");
  fsyncSync(synced);
  writeSync(synced, ", and not");
  writeFileSync(join(disk.mountpoint, "unsynced"), "in memory");
  await cutPower([disk], []);
  t.throws(() => writeFileSync(join(disk.mountpoint, "late"), "x"), { code: "EIO" });
  closeSync(synced);
  await restorePower([disk]);
  t.is(readFileSync(join(disk.mountpoint, "synced"), "utf8"), "on disk");
  t.throws(() => readFileSync(join(disk.mountpoint, "unsynced")), { code: "ENOENT" });
});

test("the limit of a disk's speed is the kernel's as long as it is mounted, and not that of its loop device's next user", async (t) => {
  const workspace = new Workspace();
  const bytesPerSecond = 123_456_789;
  const make = (name: string) => LoopDisk.create(workspace, name, workspace.file(name), 64 * 1024 * 1024, { bytesPerSecond });
  const limited = () =>
    (["read", "write"] as const).map((way) => readFileSync(limitsOf(way), "latin1").split(`${bytesPerSecond}`).length - 1);
  try {
    if (!existsSync(limitsOf("read"))) {
      await t.throwsAsync(make("first"), { message: /blkio controller of cgroup v1/ });
      return;
    }
    const first = await make("first");
    await make("second");
    t.deepEqual(limited(), [2, 2]);
    await first.unmount();
    t.deepEqual(limited(), [1, 1]);
    await first.mount();
    t.deepEqual(limited(), [2, 2]);
  } finally {
    await workspace.close();
  }
  t.deepEqual(limited(), [0, 0], "also where a test ends with its disks");
});
