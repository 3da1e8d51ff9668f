import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { isDazzleError } from "@dazzle/core";
import test from "ava";
import { openDisk } from "../src/index.ts";
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
