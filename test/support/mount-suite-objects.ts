import { createHash, randomBytes } from "node:crypto";
import type { Dirent } from "node:fs";
import * as fs from "node:fs/promises";
import { join } from "node:path";
import type { Check } from "./mount-check.ts";
import { ok, run } from "./run.ts";

export function contentTests(check: Check): void {
  check("what is written is read, and truncating on open empties", async (t, { directory }) => {
    const path = join(await directory("write"), "file");
    const content = randomBytes(3_000_001);
    await fs.writeFile(path, content);
    t.is(digest(await fs.readFile(path)), digest(content));
    await fs.appendFile(path, "the end");
    t.is((await fs.readFile(path)).subarray(3_000_001).toString(), "the end");
    await fs.writeFile(path, "short");
    t.is(await fs.readFile(path, "utf8"), "short");
    t.is((await fs.stat(path)).size, 5);
  });

  check("overwriting at odd offsets leaves the rest alone", async (t, { directory }) => {
    const path = join(await directory("overwrite"), "file");
    const model = randomBytes(1_000_000);
    await fs.writeFile(path, model);
    const file = await fs.open(path, "r+");
    for (let round = 0; round < 200; round++) {
      const piece = randomBytes(1 + ((round * 977) % 20_000));
      const at = (round * 48_611) % 980_000;
      piece.copy(model, at);
      await file.write(piece, 0, piece.length, at);
    }
    await file.close();
    t.is(digest(await fs.readFile(path)), digest(model));
  });

  check("holes read as zeros and take no space", async (t, { directory, tool }) => {
    const path = join(await directory("sparse"), "file");
    const file = await fs.open(path, "w+");
    await file.write("start", 0);
    await file.write("far away", 1024 ** 3);
    await file.sync();
    const hole = await file.read(Buffer.alloc(70_000, 1), 0, 70_000, 5);
    t.true(hole.buffer.every((byte) => byte === 0));
    const status = await file.stat();
    t.is(status.size, 1024 ** 3 + 8);
    t.true(status.blocks * 512 <= 1024 * 1024, `${status.blocks} blocks`);
    await file.close();
    const map = await ok(tool, ["seek", path]);
    t.regex(map, /^data 0 /);
    t.regex(map, /^data \d+ 1073741832$/m);
  });

  check("truncating up and down: what was cut off never comes back", async (t, { directory }) => {
    const path = join(await directory("truncate"), "file");
    await fs.writeFile(path, Buffer.alloc(100_000, "x"));
    await fs.truncate(path, 10_001);
    await fs.truncate(path, 90_000);
    const content = await fs.readFile(path);
    t.is(content.length, 90_000);
    t.true(content.subarray(0, 10_001).every((byte) => byte === 0x78));
    t.true(content.subarray(10_001).every((byte) => byte === 0));
    await fs.truncate(path, 0);
    await fs.appendFile(path, "again");
    t.is(await fs.readFile(path, "utf8"), "again");
  });

  check("punching a hole, and allocating ahead", async (t, { directory, tool }) => {
    const path = join(await directory("allocate"), "file");
    await fs.writeFile(path, Buffer.alloc(65_536, "y"));
    await ok(tool, ["allocate", "punch", path, "5000", "20000"]);
    const content = await fs.readFile(path);
    t.is(content.length, 65_536);
    t.true(content.subarray(0, 5_000).every((byte) => byte === 0x79));
    t.true(content.subarray(5_000, 25_000).every((byte) => byte === 0));
    t.true(content.subarray(25_000).every((byte) => byte === 0x79));
    await ok(tool, ["allocate", "extend", path, "0", "100000"]);
    t.is((await fs.stat(path)).size, 100_000);
    await ok(tool, ["allocate", "keep", path, "0", "200000"]);
    t.is((await fs.stat(path)).size, 100_000);
    await ok(tool, ["allocate", "zero", path, "30000", "1000"]);
    const zeroed = await fs.readFile(path);
    t.true(zeroed.subarray(30_000, 31_000).every((byte) => byte === 0));
    t.is(zeroed[31_000], 0x79);
  });

  check("an unlinked file lives on while it is open", async (t, { directory }) => {
    const folder = await directory("unlinked");
    const path = join(folder, "file");
    const content = randomBytes(200_000);
    await fs.writeFile(path, content);
    const file = await fs.open(path, "r+");
    await fs.unlink(path);
    await t.throwsAsync(fs.stat(path), { code: "ENOENT" });
    t.is(digest(await file.readFile()), digest(content));
    await file.write("still here", 0);
    await file.sync();
    const { buffer } = await file.read(Buffer.alloc(10), 0, 10, 0);
    t.is(buffer.toString(), "still here");
    t.is((await file.stat()).nlink, 0);
    await file.close();
    t.deepEqual(await fs.readdir(folder), []);
  });

  check("mapped memory, private and shared, agrees with reads and writes", async (t, { directory, tool }) => {
    const path = join(await directory("mapped"), "file");
    t.is(await ok(tool, ["mmap", path]), "ok\n");
  });
}

export function nameTests(check: Check): void {
  check("renaming over an existing file replaces it, and whoever has it open keeps it", async (t, { directory, tool }) => {
    const folder = await directory("rename");
    const [old, fresh] = [join(folder, "old"), join(folder, "fresh")];
    await fs.writeFile(old, "old content");
    await fs.writeFile(fresh, "fresh content");
    const opened = await fs.open(old, "r");
    await fs.rename(fresh, old);
    t.is(await fs.readFile(old, "utf8"), "fresh content");
    t.is((await opened.readFile()).toString(), "old content");
    await opened.close();
    t.deepEqual(await fs.readdir(folder), ["old"]);
    await fs.writeFile(fresh, "kept");
    t.regex((await run(tool, ["rename", "noreplace", fresh, old])).stderr, /EEXIST/);
    await ok(tool, ["rename", "exchange", fresh, old]);
    t.is(await fs.readFile(old, "utf8"), "kept");
    t.is(await fs.readFile(fresh, "utf8"), "fresh content");
  });

  check("directories move with what they hold, but not into themselves", async (t, { directory }) => {
    const folder = await directory("move");
    await fs.mkdir(join(folder, "a/b/c"), { recursive: true });
    await fs.writeFile(join(folder, "a/b/c/file"), "deep");
    await fs.mkdir(join(folder, "other"));
    await fs.rename(join(folder, "a/b"), join(folder, "other/b"));
    t.is(await fs.readFile(join(folder, "other/b/c/file"), "utf8"), "deep");
    t.deepEqual(await fs.readdir(join(folder, "a")), []);
    t.is((await fs.stat(join(folder, "a"))).nlink, 2);
    t.is((await fs.stat(join(folder, "other"))).nlink, 3);
    await t.throwsAsync(fs.rename(join(folder, "other"), join(folder, "other/b/inside")), { code: "EINVAL" });
    t.is((await fs.stat(join(folder, "other/b/.."))).ino, (await fs.stat(join(folder, "other"))).ino);
  });

  check("hard links are one file", async (t, { directory }) => {
    const folder = await directory("links");
    await fs.writeFile(join(folder, "one"), "shared");
    await fs.mkdir(join(folder, "sub"));
    await fs.link(join(folder, "one"), join(folder, "sub/two"));
    const [one, two] = await Promise.all([fs.stat(join(folder, "one")), fs.stat(join(folder, "sub/two"))]);
    t.is(one.ino, two.ino);
    t.is(two.nlink, 2);
    await fs.appendFile(join(folder, "sub/two"), ", and more");
    await fs.unlink(join(folder, "one"));
    t.is(await fs.readFile(join(folder, "sub/two"), "utf8"), "shared, and more");
    t.is((await fs.stat(join(folder, "sub/two"))).nlink, 1);
  });

  check("symbolic links, long ones and dangling ones too", async (t, { directory }) => {
    const folder = await directory("symlinks");
    await fs.writeFile(join(folder, "target"), "reached");
    await fs.symlink("target", join(folder, "link"));
    t.is(await fs.readFile(join(folder, "link"), "utf8"), "reached");
    t.is(await fs.readlink(join(folder, "link")), "target");
    const long = "x/".repeat(2_000);
    await fs.symlink(long, join(folder, "long"));
    t.is(await fs.readlink(join(folder, "long")), long);
    t.is((await fs.lstat(join(folder, "long"))).size, 4_000);
    await t.throwsAsync(fs.stat(join(folder, "long")), { code: "ENOENT" });
  });

  check("names of 255 bytes, names that are no UTF-8, and deep paths", async (t, { directory }) => {
    const folder = await directory("names");
    const names = [
      Buffer.alloc(255, "n"),
      Buffer.from("ÿ\xfe\x80bytes", "latin1"),
      Buffer.from("ünïcödé ✓"),
      Buffer.from(" \t\n\\'\"*?"),
      Buffer.from("...."),
    ];
    const at = (name: Buffer) => Buffer.concat([Buffer.from(`${folder}/`), name]);
    for (const name of names) await fs.writeFile(at(name), name);
    const listed = await fs.readdir(folder, { encoding: "buffer" });
    t.deepEqual(listed.map((name) => name.toString("latin1")).sort(), names.map((name) => name.toString("latin1")).sort());
    for (const name of names) t.deepEqual(await fs.readFile(at(name)), name);
    await t.throwsAsync(fs.writeFile(at(Buffer.alloc(256, "n")), ""), { code: "ENAMETOOLONG" });
    const deep = join(folder, ...Array.from({ length: 200 }, (_, level) => `level-${level}`));
    await fs.mkdir(deep, { recursive: true });
    await fs.writeFile(join(deep, "bottom"), "here");
    t.is(await fs.readFile(join(deep, "bottom"), "utf8"), "here");
  });

  check("fifos and sockets are kept as what they are", async (t, { directory, tool }) => {
    const folder = await directory("nodes");
    await ok(tool, ["node", "fifo", join(folder, "fifo")]);
    await ok(tool, ["node", "socket", join(folder, "socket")]);
    t.true((await fs.stat(join(folder, "fifo"))).isFIFO());
    t.true((await fs.stat(join(folder, "socket"))).isSocket());
  });
}

export function attributeTests(check: Check): void {
  check("mode and owner, set and kept", async (t, { directory }) => {
    const path = join(await directory("owner"), "file");
    await fs.writeFile(path, "");
    for (const mode of [0o000, 0o4755, 0o2640, 0o1777, 0o600]) {
      await fs.chmod(path, mode);
      t.is((await fs.stat(path)).mode & 0o7777, mode);
    }
    await fs.chown(path, 1234, 5678);
    const { uid, gid } = await fs.stat(path);
    t.deepEqual([uid, gid], [1234, 5678]);
    await fs.chmod(path, 0o4755);
    await fs.chown(path, 4321, 5678);
    t.is((await fs.stat(path)).mode & 0o7777, 0o755, "a new owner does not get the set-user-id bit");
  });

  check("permissions hold for other users", async (t, { directory }) => {
    const folder = await directory("permissions");
    await fs.writeFile(join(folder, "secret"), "secret", { mode: 0o600 });
    await fs.writeFile(join(folder, "public"), "public", { mode: 0o644 });
    const nobody = { uid: 65_534, gid: 65_534 };
    t.is(await ok("cat", [join(folder, "public")], nobody), "public");
    t.regex((await run("cat", [join(folder, "secret")], nobody)).stderr, /Permission denied/);
    t.regex((await run("touch", [join(folder, "new")], nobody)).stderr, /Permission denied/);
    await fs.chmod(folder, 0o777);
    await ok("touch", [join(folder, "new")], nobody);
    t.is((await fs.stat(join(folder, "new"))).uid, 65_534);
  });

  check("times are kept to the nanosecond", async (t, { directory }) => {
    const folder = await directory("times");
    const path = join(folder, "file");
    await fs.writeFile(path, "");
    await ok("touch", ["-m", "-d", "@1234567890.123456789", path]);
    await ok("touch", ["-a", "-d", "@1000000001.000000001", path]);
    const status = await fs.stat(path, { bigint: true });
    t.is(status.mtimeNs, 1_234_567_890_123_456_789n);
    t.is(status.atimeNs, 1_000_000_001_000_000_001n);
    await ok("touch", ["-d", "@-86400.5", path]);
    t.is((await fs.stat(path, { bigint: true })).mtimeNs, -86_400_500_000_000n);
    const before = (await fs.stat(folder, { bigint: true })).mtimeNs;
    await fs.writeFile(join(folder, "another"), "");
    t.true((await fs.stat(folder, { bigint: true })).mtimeNs > before, "a new name changes the directory's time");
    await fs.appendFile(path, "x");
    t.true((await fs.stat(path)).mtimeMs > Date.now() - 60_000);
  });

  check("extended attributes", async (t, { directory, tool }) => {
    const path = join(await directory("attributes"), "file");
    await fs.writeFile(path, "");
    await ok(tool, ["xattr", "set", path, "user.one", "first value"]);
    await ok(tool, ["xattr", "set", path, "user.two", ""]);
    t.is(await ok(tool, ["xattr", "get", path, "user.one"]), "first value");
    t.is(await ok(tool, ["xattr", "get", path, "user.two"]), "");
    t.deepEqual((await ok(tool, ["xattr", "list", path])).trim().split("\n").sort(), ["user.one", "user.two"]);
    t.regex((await run(tool, ["xattr", "create", path, "user.one", "x"])).stderr, /EEXIST/);
    t.regex((await run(tool, ["xattr", "replace", path, "user.three", "x"])).stderr, /ENODATA/);
    await ok(tool, ["xattr", "replace", path, "user.one", "second"]);
    await ok(tool, ["xattr", "set", path, "user.large", "bytes:30000"]);
    t.is((await ok(tool, ["xattr", "get", path, "user.large"])).length, 30_000);
    await ok(tool, ["xattr", "remove", path, "user.two"]);
    t.regex((await run(tool, ["xattr", "get", path, "user.two"])).stderr, /ENODATA/);
    t.is(await ok(tool, ["xattr", "get", path, "user.one"]), "second");
  });

  check("statfs tells plausible figures", async (t, { cluster, directory, tool }) => {
    const folder = await directory("statfs");
    const figures = async () => (await ok(tool, ["statfs", folder])).trim().split(" ").map(Number);
    const [blockBytes = 0, blocks = 0, free = 0, available = 0, , , nameBytes] = await figures();
    const { members } = await cluster.status();
    const capacity = members.reduce((sum, member) => sum + member.bytesUsed + member.bytesFree, 0);
    t.true(blocks * blockBytes > 0 && blocks * blockBytes <= capacity, `${blocks * blockBytes} of ${capacity} bytes on the servers`);
    t.true(available <= free && free <= blocks, "what is free is part of the whole");
    t.is(nameBytes, 255);
    t.true((await ok("df", ["-h", folder])).includes("%"));
  });
}

export function directoryTests(check: Check): void {
  check("a directory that holds something is not removed", async (t, { directory }) => {
    const folder = await directory("full");
    await fs.mkdir(join(folder, "sub"));
    await t.throwsAsync(fs.rmdir(folder), { code: "ENOTEMPTY" });
    t.is((await fs.stat(folder)).nlink, 3);
    await fs.rmdir(join(folder, "sub"));
    await fs.rmdir(folder);
    await t.throwsAsync(fs.stat(folder), { code: "ENOENT" });
  });

  check("5,000 entries are listed once each, with their types, and while others go", async (t, { directory }) => {
    const folder = await directory("many");
    await Promise.all(Array.from({ length: 5_000 }, (_, index) => fs.writeFile(join(folder, `file-${index}`), "")));
    await fs.mkdir(join(folder, "folder"));
    const entries: Dirent[] = await fs.readdir(folder, { withFileTypes: true });
    t.is(entries.length, 5_001);
    t.is(new Set(entries.map((entry) => entry.name)).size, 5_001);
    t.deepEqual(
      entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name),
      ["folder"],
    );
    const open = await fs.opendir(folder, { bufferSize: 32 });
    const seen: string[] = [];
    for await (const entry of open) {
      seen.push(entry.name);
      if (seen.length === 100) for (let index = 0; index < 1_000; index++) await fs.unlink(join(folder, `file-${index}`));
    }
    t.is(new Set(seen).size, seen.length, "no name came twice");
    const names = new Set(seen);
    for (let index = 1_000; index < 5_000; index++) t.true(names.has(`file-${index}`), `file-${index} was listed`);
    await ok("rm", ["-r", folder]);
    await t.throwsAsync(fs.stat(folder), { code: "ENOENT" });
  });

  check("100,000 entries", async (t, { directory }) => {
    const folder = await directory("very-many");
    await ok("bash", ["-c", 'cd "$1" && seq -f "entry-%.0f" 1 100000 | xargs touch', "_", folder], { timeoutMs: 300_000 });
    t.is(Number(await ok("bash", ["-c", 'ls -f "$1" | grep -c ^entry-', "_", folder], { timeoutMs: 300_000 })), 100_000);
    const long = await ok("bash", ["-c", 'ls -l "$1" | grep -c " entry-"', "_", folder], { timeoutMs: 300_000 });
    t.is(Number(long), 100_000);
    await ok("rm", ["-rf", folder], { timeoutMs: 300_000 });
  });
}

function digest(bytes: Uint8Array): string {
  return createHash("sha256").update(bytes).digest("hex");
}
