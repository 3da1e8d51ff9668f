import { promises as fs } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { Workspace } from "./support/workspace.ts";

const DEADLINE_MS = 120_000;
const MIB = 1024 * 1024;

/** One cluster with three mounts, for all tests. */
let workspace: Workspace;
let cluster: Cluster;
let mounts: readonly [string, string, string];

test.before(async (t) => {
  t.timeout(5 * 60_000);
  workspace = new Workspace();
  cluster = await Cluster.start(workspace, { nodes: 1 });
  const others = [workspace.directory("second-mnt"), workspace.directory("third-mnt")] as const;
  for (const other of others) {
    const result = await cluster.command(["mount", other, "--dir", cluster.directory], DEADLINE_MS);
    if (result.code !== 0) throw new Error(`dazzle mount failed (${result.code}): ${result.stderr}`);
  }
  mounts = [cluster.mountpoint, ...others];
});

test.after.always(async () => {
  await workspace?.close();
});

/** The same new file, open on each mount. */
async function opened(name: string): Promise<readonly [fs.FileHandle, fs.FileHandle, fs.FileHandle]> {
  await fs.writeFile(join(mounts[0], name), "");
  const files = await Promise.all(mounts.map((mount) => fs.open(join(mount, name), "r+")));
  return files as unknown as readonly [fs.FileHandle, fs.FileHandle, fs.FileHandle];
}

const piece = (mount: number, number: number) => Buffer.alloc(MIB / 4, `m${mount} piece ${number} `);

test.serial("two mounts write the halves of a file at once, a third one sees its size grow, and all read the same", async (t) => {
  t.timeout(5 * 60_000);
  const files = await opened("halves");
  const pieces = 32;
  const half = pieces * piece(0, 0).length;
  let isDone = false;
  const write = async (mount: 0 | 1) => {
    for (let number = 0; number < pieces; number++)
      await files[mount].write(piece(mount, number), 0, null, mount * half + number * piece(0, 0).length);
  };
  const look = async () => {
    let size = 0;
    while (!isDone) {
      const { size: seen } = await files[2].stat();
      t.true(seen >= size && seen <= 2 * half, `${seen} bytes after ${size}`);
      size = seen;
    }
  };
  const looking = look();
  await Promise.all([write(0), write(1)]);
  isDone = true;
  await looking;
  for (const file of files) t.is((await file.stat()).size, 2 * half);
  const expected = Buffer.concat([0, 1].flatMap((mount) => Array.from({ length: pieces }, (_, number) => piece(mount, number))));
  for (const mount of mounts) t.true((await fs.readFile(join(mount, "halves"))).equals(expected));
  for (const file of files) await file.close();
});

test.serial("writes of two mounts over the border of their parts are there on all, whole", async (t) => {
  t.timeout(5 * 60_000);
  const files = await opened("border");
  const expected = Buffer.alloc(8 * MIB);
  const write = async (mount: 0 | 1, offset: number, bytes: Buffer) => {
    await files[mount].write(bytes, 0, null, offset);
    bytes.copy(expected, offset);
  };
  await write(0, 7 * MIB, Buffer.alloc(MIB, "above"));
  for (let round = 0; round < 12; round++) {
    // Beside each other, each in its own part, then over the border between them, by the one or the other.
    const [below, above] = [Buffer.alloc(5_000, `below ${round} `), Buffer.alloc(5_000, `above ${round} `)];
    await Promise.all([write(1, round * 4_000, below), write(0, 6 * MIB + round * 4_000, above)]);
    await write((round % 2) as 0 | 1, 4 * MIB - 3_000 + round * 100, Buffer.alloc(6_000, `border ${round} `));
  }
  for (const mount of mounts) t.true((await fs.readFile(join(mount, "border"))).equals(expected));
  for (const file of files) await file.close();
});

test.serial("what a mount has read of what another one then writes beside it, it reads anew", async (t) => {
  t.timeout(5 * 60_000);
  const files = await opened("read");
  const at = async (mount: 0 | 1 | 2, offset: number) => (await files[mount].read(Buffer.alloc(8), 0, 8, offset)).buffer.toString();
  for (let round = 0; round < 5; round++) {
    await files[0].write(`old ${round}   `, 0);
    await files[0].write(`mine ${round}  `, 5 * MIB);
    t.is(await at(0, 0), `old ${round}   `);
    await files[1].write(`new ${round}   `, 0);
    t.is(await at(0, 5 * MIB), `mine ${round}  `);
    t.is(await at(0, 0), `new ${round}   `);
    t.is(await at(2, 0), `new ${round}   `);
  }
  for (const file of files) await file.close();
});
