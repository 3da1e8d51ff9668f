import { closeSync, fsyncSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
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
