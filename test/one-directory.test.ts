import { promises as fs } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { ok } from "./support/run.ts";
import { Workspace } from "./support/workspace.ts";

const DEADLINE_MS = 300_000;
const MOUNTS = 4;
const FILES_EACH = 500;

test("four mounts create 2,000 files in one directory at once, and each of them sees them all", async (t) => {
  t.timeout(2 * DEADLINE_MS);
  const workspace = new Workspace();
  try {
    const cluster = await Cluster.start(workspace, { nodes: 1 });
    const roots = [cluster.mountpoint];
    while (roots.length < MOUNTS) {
      const root = workspace.directory(`mnt${roots.length}`);
      const { code, stderr } = await cluster.command(["mount", root, "--dir", cluster.directory], DEADLINE_MS);
      t.is(code, 0, stderr);
      roots.push(root);
    }
    await fs.mkdir(cluster.path("crowd"));
    // Nothing is there twice: `set -C` fails where the file exists.
    const loop = `set -Ce; i=0; while [ $i -lt ${FILES_EACH} ]; do : > "$1-$i"; i=$((i + 1)); done`;
    const create = (root: string, index: number) =>
      ok("sh", ["-c", loop, "sh", join(root, "crowd", `m${index}`)], { timeoutMs: DEADLINE_MS });
    await Promise.all(roots.map(create));
    const expected = roots.flatMap((_, index) => Array.from({ length: FILES_EACH }, (__, file) => `m${index}-${file}`)).sort();
    for (const [index, root] of roots.entries()) {
      t.deepEqual((await fs.readdir(join(root, "crowd"))).sort(), expected, `mount ${index}`);
      for (const name of expected.filter((_, place) => place % 97 === index)) t.true((await fs.stat(join(root, "crowd", name))).isFile());
      t.is(await fs.stat(join(root, "crowd", "m9-0")).catch((error: NodeJS.ErrnoException) => error.code), "ENOENT");
    }
    await cluster.down();
  } finally {
    await workspace.close();
  }
});
