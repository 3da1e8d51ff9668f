import { existsSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { isDazzleError } from "@dazzle/core";
import test from "ava";
import { behind } from "../src/disk-file.ts";
import { openDisk, useNative } from "../src/index.ts";
import { pattern, temporaryDirectory } from "./helpers.ts";

test("pieces are written one after the other, however many, and read back", async (t) => {
  const disk = await openDisk(temporaryDirectory(t));
  await disk.makeDirectory("a/b");
  const file = await disk.open("a/b/file", { create: true });
  const pieces = Array.from({ length: 3_000 }, (_, index) => pattern(index % 97, index));
  const bytes = Buffer.concat(pieces);
  await file.write(pieces, 4096);
  await file.sync();
  t.is(await file.size(), 4096 + bytes.length);
  const buffer = Buffer.alloc(bytes.length + 10);
  t.is(await file.read(buffer, 4096), bytes.length);
  t.true(buffer.subarray(0, bytes.length).equals(bytes));
  await file.write([], 0);
  await file.write([Buffer.alloc(0), pattern(3, 1)], 0);
  await file.truncate(3);
  t.is(await file.size(), 3);
  await file.close();
});

test("a file that is not there is notFound, and every other failure names the path", async (t) => {
  const root = temporaryDirectory(t);
  const disk = await openDisk(root);
  t.true(isDazzleError(await t.throwsAsync(disk.open("missing", { create: false })), "notFound"));
  t.deepEqual(await disk.list("missing"), []);
  t.is(await disk.readWhole("missing"), undefined);
  await disk.remove("missing");
  await disk.makeDirectory("directory");
  const error = await t.throwsAsync(disk.open("directory", { create: true }));
  t.true(isDazzleError(error, "diskFailed"));
  t.true(error?.message.includes(join(root, "directory")));
});

test("a full disk is noSpace", async (t) => {
  const disk = await openDisk("/dev");
  const full = await disk.open("full", { create: false });
  t.true(isDazzleError(await t.throwsAsync(full.write([pattern(10, 1)], 0)), "noSpace"));
  await full.close();
});

test("replace leaves the new bytes and nothing else", async (t) => {
  const root = temporaryDirectory(t);
  const disk = await openDisk(root);
  await disk.replace("small", Buffer.from("one"));
  await disk.replace("small", Buffer.from("two"));
  t.is(readFileSync(join(root, "small"), "latin1"), "two");
  t.deepEqual(await disk.list("."), ["small"]);
  await disk.remove("small");
  t.false(existsSync(join(root, "small")));
  t.true((await disk.space()).totalBytes > 0);
});

test("a read at once is all of it up to the end of the file, or undefined", async (t) => {
  const disk = await openDisk(temporaryDirectory(t));
  const file = await disk.open("file", { create: true });
  t.is(file.readNow(Buffer.alloc(1), 0), undefined, "nothing is known without the addon");
  const bytes = pattern(100, 1);
  await file.write([bytes], 0);
  let cachedBytes = 100;
  useNative({
    clockBoottimeMs: () => 0,
    punchHole: () => false,
    preadNowait: (fd, buffer, offset, length, position) => {
      const end = Math.min(position + length, cachedBytes);
      if (position < 100 && end <= position) return -1;
      return readSync(fd, buffer, offset, Math.max(0, end - position), position);
    },
  });
  const buffer = Buffer.alloc(60);
  t.is(file.readNow(buffer, 0), 60);
  t.deepEqual(buffer, Buffer.from(bytes.subarray(0, 60)));
  t.is(file.readNow(buffer, 60), 40, "the end of the file");
  t.is(file.readNow(buffer, 100), 0);
  cachedBytes = 80;
  t.is(file.readNow(buffer, 60), undefined, "the rest is on the disk alone");
  t.is(file.readNow(buffer, 90), undefined);
  t.false(await file.punchHole(0, 10));
  await file.close();
});

test("a directory that can't be made is an error, also where the parent exists", async (t) => {
  const error = await t.throwsAsync(openDisk("/proc/dazzle"));
  t.true(isDazzleError(error, "notFound", "diskFailed"));
});

test("after a short write, what is left of the pieces is what was not written", (t) => {
  const pieces = [pattern(3, 1), pattern(0, 1), pattern(5, 2), pattern(2, 3)];
  const all = Buffer.concat(pieces);
  for (let written = 0; written <= all.length; written++) t.deepEqual(Buffer.concat(behind(pieces, written)), all.subarray(written));
  t.deepEqual(behind([pattern(0, 1)], 0), []);
});
