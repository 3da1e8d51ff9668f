import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import type { TestFn } from "ava";
import { Cluster } from "./cluster.ts";
import { manifestOf } from "./manifest.ts";
import type { Check, Context, Files } from "./mount-check.ts";
import { attributeTests, contentTests, directoryTests, nameTests } from "./mount-suite-objects.ts";
import { ok, start } from "./run.ts";
import { tool } from "./tool.ts";
import { until } from "./until.ts";
import { Workspace } from "./workspace.ts";

/** What an application may expect of a local filesystem, through a real mount; both engines run it. */
export function mountSuite(test: TestFn<unknown>, engine: "addon" | "node"): void {
  const workspace = new Workspace();
  let files: Files;
  test.before(async () => {
    const cluster = await Cluster.start(workspace, { engine });
    files = {
      cluster,
      tool: await tool(),
      directory: async (name) => {
        const path = cluster.path(name);
        await fs.mkdir(path);
        return path;
      },
    };
  });
  test.after.always(() => workspace.close());
  const check = (title: string, body: (t: Context, files: Files) => Promise<void>) => {
    test.serial(`${engine}: ${title}`, (t) => body(t, files));
  };
  engineTests(check, engine);
  contentTests(check);
  nameTests(check);
  attributeTests(check);
  directoryTests(check);
  sharingTests(check);
  errorTests(check);
  restartTest(check);
}

function engineTests(check: Check, engine: "addon" | "node"): void {
  check("the mount runs on the engine asked for", async (t, { cluster }) => {
    const { mounts } = await cluster.status();
    t.is(mounts[0]?.engine, engine);
  });
}

function sharingTests(check: Check): void {
  check("two processes append to one file, and no line is lost or torn", async (t, { directory, tool }) => {
    const path = join(await directory("append"), "file");
    await Promise.all(["left", "right"].map((tag) => ok(tool, ["append", path, tag, "2000"])));
    const lines = (await fs.readFile(path, "utf8")).split("\n").slice(0, -1);
    t.is(lines.length, 4_000);
    for (const tag of ["left", "right"]) {
      const own = lines.filter((line) => line.startsWith(tag)).map((line) => Number(line.split(" ")[1]));
      t.deepEqual(
        own,
        Array.from({ length: 2_000 }, (_, index) => index),
      );
    }
  });

  for (const kind of ["flock", "posix"]) {
    check(`${kind} locks between two processes`, async (t, { directory, tool }) => {
      const path = join(await directory(`lock-${kind}`), "file");
      await fs.writeFile(path, "");
      const holder = await holdLock(tool, ["lock", kind, path, "ex"]);
      t.is(await ok(tool, ["lock", kind, path, "sh"]), "busy\n");
      const waiting = holdLock(tool, ["lockwait", kind, path, "ex"]);
      holder.stdin?.end();
      const next = await waiting;
      t.is(await ok(tool, ["lock", kind, path, "sh"]), "busy\n");
      next.kill("SIGKILL");
      await until("the lock of a dead process to be free", 10_000, async () => (await ok(tool, ["lock", kind, path, "sh"])) === "locked\n");
      const [first, second] = [await holdLock(tool, ["lock", kind, path, "sh"]), await holdLock(tool, ["lock", kind, path, "sh"])];
      t.is(await ok(tool, ["lock", kind, path, "ex"]), "busy\n");
      for (const each of [first, second]) each.stdin?.end();
    });
  }
}

async function holdLock(tool: string, args: readonly string[]) {
  const child = start(tool, args, {}, ["pipe", "pipe", "inherit"]);
  const said = await new Promise<string>((resolve, reject) => {
    child.stdout?.once("data", (chunk: Buffer) => resolve(chunk.toString()));
    child.once("exit", (code) => reject(new Error(`${args.join(" ")} ended with ${code}`)));
  });
  if (said !== "locked\n") throw new Error(`${args.join(" ")}: ${said}`);
  return child;
}

function errorTests(check: Check): void {
  check("a wrong call gets the errno that it gets everywhere", async (t, { directory, tool }) => {
    const folder = await directory("errors");
    const at = (name: string) => join(folder, name);
    await fs.writeFile(at("file"), "content");
    await fs.mkdir(at("full/inside"), { recursive: true });
    await fs.mkdir(at("empty"));
    await fs.symlink("loop-b", at("loop-a"));
    await fs.symlink("loop-a", at("loop-b"));
    await fs.symlink("file", at("link"));
    const table: readonly [call: string, path: string, other: string, errno: string][] = [
      ["stat", "missing", "", "ENOENT"],
      ["open", "missing/below", "", "ENOENT"],
      ["stat", "file/below", "", "ENOTDIR"],
      ["opendir", "file", "", "ENOTDIR"],
      ["openw", "empty", "", "EISDIR"],
      ["creat", "file", "", "EEXIST"],
      ["creat", "loop-a", "", "EEXIST"],
      ["mkdir", "file", "", "EEXIST"],
      ["mkdir", "empty", "", "EEXIST"],
      ["mkdir", "missing/below", "", "ENOENT"],
      ["rmdir", "file", "", "ENOTDIR"],
      ["rmdir", "full", "", "ENOTEMPTY"],
      ["rmdir", "missing", "", "ENOENT"],
      ["unlink", "empty", "", "EISDIR"],
      ["unlink", "missing", "", "ENOENT"],
      ["stat", "loop-a", "", "ELOOP"],
      ["nofollow", "link", "", "ELOOP"],
      ["readlink", "file", "", "EINVAL"],
      ["rename", "missing", "any", "ENOENT"],
      ["rename", "file", "empty", "EISDIR"],
      ["rename", "empty", "file", "ENOTDIR"],
      ["rename", "empty", "full", "ENOTEMPTY"],
      ["rename", "full", "full/inside/deeper", "EINVAL"],
      ["link", "file", "empty", "EEXIST"],
      ["link", "full", "any", "EPERM"],
      ["symlink", "file", "link", "EEXIST"],
      ["truncate", "empty", "0", "EISDIR"],
      ["truncate", "missing", "0", "ENOENT"],
    ];
    for (const [call, path, other, errno] of table) {
      const second = call === "truncate" ? other : at(other);
      t.is((await ok(tool, ["errno", call, at(path), second])).trim(), errno, `${call} ${path} ${other}`);
    }
    t.is(await fs.readFile(at("file"), "utf8"), "content");
  });

  check("handles do only what they were opened for", async (t, { directory }) => {
    const path = join(await directory("handles"), "file");
    await fs.writeFile(path, "content");
    const reader = await fs.open(path, constants.O_RDONLY);
    await t.throwsAsync(reader.write("x"), { code: "EBADF" });
    await reader.close();
    const writer = await fs.open(path, constants.O_WRONLY);
    await t.throwsAsync(writer.read(Buffer.alloc(1), 0, 1, 0), { code: "EBADF" });
    await writer.close();
  });
}

function restartTest(check: Check): void {
  check("down and up bring everything back as it was", async (t, { cluster, directory, tool }) => {
    const folder = await directory("kept");
    for (let index = 0; index < 50; index++) {
      await fs.mkdir(join(folder, `folder-${index % 7}`), { recursive: true });
      await fs.writeFile(join(folder, `folder-${index % 7}`, `file-${index}`), randomBytes(index * 1_777));
    }
    await ok("touch", ["-d", "@1234567890.123456789", join(folder, "folder-1/file-1")]);
    await fs.writeFile(join(folder, "large"), randomBytes(20_000_000));
    await ok(tool, ["xattr", "set", join(folder, "large"), "user.kept", "value"]);
    await fs.chown(join(folder, "large"), 1234, 5678);
    const before = await manifestOf(cluster.mountpoint);
    await cluster.restartCold();
    t.deepEqual(await manifestOf(cluster.mountpoint), before);
    t.is(await ok(tool, ["xattr", "get", join(folder, "large"), "user.kept"]), "value");
    await fs.writeFile(join(folder, "after"), "usable");
    t.is(await fs.readFile(join(folder, "after"), "utf8"), "usable");
  });
}
