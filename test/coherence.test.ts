import { promises as fs } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { ok } from "./support/run.ts";
import { script } from "./support/script.ts";
import { tool } from "./support/tool.ts";
import { Viewer } from "./support/viewer.ts";
import { Workspace } from "./support/workspace.ts";

const DEADLINE_MS = 120_000;

/** One cluster with two mounts, for all tests. */
let workspace: Workspace;
let cluster: Cluster;
let other: string;
let names = 0;

test.before(async (t) => {
  t.timeout(5 * 60_000);
  workspace = new Workspace();
  cluster = await Cluster.start(workspace, { nodes: 1 });
  other = workspace.directory("other-mnt");
  const result = await cluster.command(["mount", other, "--dir", cluster.directory], DEADLINE_MS);
  if (result.code !== 0) throw new Error(`dazzle mount failed (${result.code}): ${result.stderr}`);
});

test.after.always(async () => {
  await workspace?.close();
});

/** A new directory by its path on either mount. */
async function directories(): Promise<[string, string]> {
  const name = `directory${++names}`;
  await fs.mkdir(cluster.path(name));
  return [cluster.path(name), join(other, name)];
}

const BEFORE = "0123456789".repeat(1_000);

/** What is done to a file on one mount, and its bytes after. */
const CHANGES: ReadonlyArray<readonly [what: string, change: (path: string) => Promise<unknown>, after: string]> = [
  [
    "overwriting a few bytes",
    (path) => withFile(path, "r+", (file) => file.write("XYZ", 5_000)),
    `${BEFORE.slice(0, 5_000)}XYZ${BEFORE.slice(5_003)}`,
  ],
  ["appending", (path) => fs.appendFile(path, "and more"), `${BEFORE}and more`],
  ["cutting it off", (path) => fs.truncate(path, 4_100), BEFORE.slice(0, 4_100)],
  ["emptying it", (path) => fs.truncate(path, 0), ""],
  ["lengthening it", (path) => fs.truncate(path, 20_000), BEFORE.padEnd(20_000, "\0")],
  ["writing it anew", (path) => fs.writeFile(path, "something else"), "something else"],
];

async function withFile<T>(path: string, flags: string, action: (file: fs.FileHandle) => Promise<T>): Promise<T> {
  const file = await fs.open(path, flags);
  try {
    return await action(file);
  } finally {
    await file.close();
  }
}

for (const [from, to] of [
  [0, 1],
  [1, 0],
] as const) {
  test.serial(`what mount ${from} does to a file mount ${to} sees by name, by descriptor and by mapping`, async (t) => {
    t.timeout(5 * 60_000);
    const paths = await directories();
    for (const [what, change, after] of CHANGES) {
      const [here, there] = [join(paths[from], "file"), join(paths[to], "file")];
      await fs.writeFile(there, BEFORE);
      const viewer = new Viewer(workspace, await tool(), there);
      t.teardown(() => viewer.close());
      const before = await viewer.look();
      t.deepEqual([before.size, before.read === BEFORE, before.mapped === BEFORE], [BEFORE.length, true, true], `before ${what}`);
      await change(here);
      const seen = await viewer.look();
      t.is(seen.size, after.length, `${what}: the size by fstat`);
      t.true(seen.read === after, `${what}: the bytes by descriptor`);
      t.true(seen.mapped === after, `${what}: the bytes by mapping`);
      t.is((await fs.stat(there)).size, after.length, `${what}: the size by name`);
      t.is(await fs.readFile(there, "latin1"), after, `${what}: the bytes by name`);
      await viewer.close();
    }
  });

  test.serial(`a name that mount ${from} moved to where both work goes from it when mount ${to} removes it`, async (t) => {
    t.timeout(5 * 60_000);
    const paths = await directories();
    const [here, there] = [paths[from], paths[to]];
    for (const path of [join(here, "own"), join(here, "both")]) await fs.mkdir(path);
    for (let round = 0; round < 10; round++) {
      await fs.writeFile(join(here, "own", "f"), "f");
      await fs.stat(join(here, "own", "f"));
      await fs.writeFile(join(here, "both", "z"), "z");
      await fs.rm(join(there, "both", "z"));
      await fs.rename(join(here, "own", "f"), join(here, "both", "g"));
      await fs.rm(join(there, "both", "g"));
      await t.throwsAsync(fs.stat(join(here, "both", "g")), { code: "ENOENT" }, `round ${round}`);
    }
  });

  test.serial(`names and attributes that mount ${from} changes mount ${to} sees, what is missing too`, async (t) => {
    t.timeout(5 * 60_000);
    const paths = await directories();
    const [here, there] = [paths[from], paths[to]];
    const missing = async (name: string) => {
      await t.throwsAsync(fs.stat(join(there, name)), { code: "ENOENT" }, name);
    };
    await missing("a");
    await fs.writeFile(join(here, "a"), "a");
    t.is(await fs.readFile(join(there, "a"), "utf8"), "a");
    await missing("b");
    await fs.rename(join(here, "a"), join(here, "b"));
    await missing("a");
    t.is(await fs.readFile(join(there, "b"), "utf8"), "a");
    await fs.mkdir(join(here, "d"));
    t.deepEqual((await fs.readdir(there)).sort(), ["b", "d"]);
    await fs.writeFile(join(there, "d", "x"), "x");
    await fs.rename(join(here, "d"), join(here, "e"));
    t.deepEqual(await fs.readdir(join(there, "e")), ["x"]);
    await missing("d/x");
    await fs.symlink("one", join(here, "l"));
    t.is(await fs.readlink(join(there, "l")), "one");
    await fs.rm(join(here, "l"));
    await fs.symlink("two", join(here, "l"));
    t.is(await fs.readlink(join(there, "l")), "two");
    await fs.chmod(join(here, "b"), 0o751);
    await fs.utimes(join(here, "b"), 1_000, 2_000);
    await fs.chown(join(here, "b"), 7, 8);
    await fs.link(join(here, "b"), join(here, "c"));
    const { mode, mtimeMs, uid, gid, nlink } = await fs.stat(join(there, "b"));
    t.deepEqual([mode & 0o7777, mtimeMs, uid, gid, nlink], [0o751, 2_000_000, 7, 8, 2]);
    await fs.rm(join(here, "b"));
    await missing("b");
    t.is((await fs.stat(join(there, "c"))).nlink, 1);
    await fs.rm(join(here, "e"), { recursive: true });
    t.deepEqual((await fs.readdir(there)).sort(), ["c", "l"]);
  });

  test.serial(`a file that mount ${from} removes stays for who has it open on mount ${to}`, async (t) => {
    t.timeout(5 * 60_000);
    const paths = await directories();
    const [here, there] = [join(paths[from], "file"), join(paths[to], "file")];
    await fs.writeFile(here, "kept");
    const viewer = new Viewer(workspace, await tool(), there);
    t.teardown(() => viewer.close());
    t.is((await viewer.look()).read, "kept");
    await fs.rm(here);
    await fs.writeFile(here, "another");
    const { links, read, mapped } = await viewer.look();
    t.deepEqual({ links, read, mapped }, { links: 0, read: "kept", mapped: "kept" });
    t.is(await fs.readFile(there, "utf8"), "another");
    await viewer.close();
  });
}

test.serial("what two mounts append to one file is all there, each line whole and in its writer's order", async (t) => {
  t.timeout(10 * 60_000);
  const paths = await directories();
  const path = await tool();
  const LINES = 2_000;
  await Promise.all(paths.map((directory, index) => ok(path, ["append", join(directory, "log"), `m${index}`, String(LINES)])));
  for (const directory of paths) {
    const lines = (await fs.readFile(join(directory, "log"), "utf8")).split("\n");
    t.is(lines.pop(), "");
    t.is(lines.length, paths.length * LINES);
    for (const tag of ["m0", "m1"]) {
      const numbers = lines.filter((line) => line.startsWith(`${tag} `)).map((line) => Number(line.split(" ")[1]));
      t.deepEqual(
        numbers,
        Array.from({ length: LINES }, (_, index) => index),
      );
    }
  }
});

test.serial("programs on two mounts that work at the same few names never wait for ever, and end with the same tree", async (t) => {
  t.timeout(15 * 60_000);
  const paths = await directories();
  for (const name of ["p", "q"]) await fs.mkdir(join(paths[0], name));
  const hammer = join(import.meta.dirname, "support/hammer.ts");
  const runs = [0, 1, 2, 3].map((index) =>
    script(hammer, [paths[index % 2] as string, String(index + 1), "300"], { environment: workspace.environment, timeoutMs: 10 * 60_000 }),
  );
  t.deepEqual(await Promise.all(runs), ["", "", "", ""]);
  const [one, two] = await Promise.all(paths.map((directory) => fs.readdir(directory, { recursive: true })));
  t.deepEqual(one?.sort(), two?.sort());
});
