import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { realProcesses } from "@dazzle/runtime";
import test, { type ExecutionContext } from "ava";
import { acquireLock, lockHolder } from "../src/lock.ts";

const inUse = (pid: number | undefined) => `in use by ${pid}`;

function lockPath(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), "dazzle-cli-"));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, "lock");
}

test("a lock has one holder, and leaves nothing behind", (t) => {
  const path = lockPath(t);
  const lock = acquireLock(path, inUse);
  t.is(lockHolder(path), realProcesses.self);
  t.throws(() => acquireLock(path, inUse), { message: new RegExp(`in use by ${process.pid}`) });
  lock.release();
  acquireLock(path, inUse).release();
  t.deepEqual(readdirSync(join(path, "..")), []);
});

test("the lock of a process that is gone, and one that is torn, are taken over", (t) => {
  const path = lockPath(t);
  const [boot] = realProcesses.self.split(":");
  const dead = spawnSync(process.execPath, ["-e", "0"]).pid;
  for (const left of [JSON.stringify({ process: `${boot}:${dead}:1` }), "", "{"]) {
    writeFileSync(path, left);
    const lock = acquireLock(path, inUse);
    t.is(lockHolder(path), realProcesses.self);
    lock.release();
  }
});

test("a number that another process has by now does not hold a lock", (t) => {
  const path = lockPath(t);
  const [boot, pid, started] = realProcesses.self.split(":");
  writeFileSync(path, JSON.stringify({ process: `${boot}:${pid}:${Number(started) - 1}` }));
  acquireLock(path, inUse).release();
  t.pass();
});
