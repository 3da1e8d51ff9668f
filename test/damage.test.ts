import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Cluster, dropCaches, type LogMark } from "./support/cluster.ts";
import { findStored, flip, type Place } from "./support/fragments.ts";
import { ok, run } from "./support/run.ts";
import { Workspace } from "./support/workspace.ts";

const BLOCK_BYTES = 4096;
const FILE_BLOCKS = 2048;

interface Damaged {
  readonly cluster: Cluster;
  readonly path: string;
  readonly original: string;
  readonly logBefore: LogMark;
}

/** A file in a cluster that is down, after `damage` got to its stored bytes; then the cluster is up again, with cold caches. */
async function damagedFile(t: ExecutionContext<unknown>, name: string, damage: (cluster: Cluster) => void): Promise<Damaged> {
  t.timeout(5 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = await Cluster.start(workspace);
  const original = workspace.file(name);
  writeFileSync(original, Buffer.concat(Array.from({ length: FILE_BLOCKS }, (_, block) => blockBytes(name, block))));
  await ok("cp", [original, cluster.path(name)]);
  await cluster.sync();
  await cluster.down();
  damage(cluster);
  await dropCaches();
  await cluster.up();
  return { cluster, path: cluster.path(name), original, logBefore: cluster.logMark() };
}

function marker(name: string, block: number): string {
  return `file ${name} block ${block};`;
}

function blockBytes(name: string, block: number): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES, `${name} ${block} `);
  bytes.write(marker(name, block), "latin1");
  return bytes;
}

/** Where a block's bytes lie: on one server, unless its segment was mirrored. */
function placesOf(cluster: Cluster, name: string, block: number): Place[] {
  return findStored(join(cluster.directory, "nodes"), marker(name, block));
}

for (const [what, offset, length] of [
  ["a bit of it", 2_000, 1],
  ["all of it", 0, BLOCK_BYTES],
] as const) {
  test.serial(`a stored block is damaged (${what}): the right bytes are read, and the log tells`, async (t) => {
    const { cluster, path, original, logBefore } = await damagedFile(t, "one", (down) => {
      const [place, ...others] = placesOf(down, "one", 700);
      if (place === undefined || others.length > 0) throw new Error(`block 700 is stored ${others.length + (place ? 1 : 0)} times`);
      flip({ ...place, offset: place.offset + offset }, length);
    });
    t.is(await ok("cmp", [original, path]), "");
    t.regex(cluster.log(logBefore), /damage|checksum|corrupt|reconstruct/i);
  });
}

test.serial("every block of a file is damaged on one server: the right bytes are read", async (t) => {
  const { path, original } = await damagedFile(t, "server", (down) => {
    const places = findStored(down.nodeDirectory("node2"), "file server block ");
    if (places.length < FILE_BLOCKS / 4) throw new Error(`node2 holds ${places.length} blocks`);
    for (const place of places) flip(place, 100);
  });
  t.is(await ok("cmp", [original, path]), "");
});

test.serial("a header is damaged: the right bytes are read", async (t) => {
  const { path, original } = await damagedFile(t, "header", (down) => {
    const [block] = placesOf(down, "header", 700);
    const headers = findStored(down.directory, "DZFR").filter((place) => place.file === block?.file && place.offset < block.offset);
    const header = headers.sort((left, right) => left.offset - right.offset).at(-1);
    if (header === undefined) throw new Error("no fragment header before the block");
    flip({ ...header, offset: header.offset + 20 }, 4);
  });
  t.is(await ok("cmp", [original, path]), "");
});

test.serial("two fragments of one segment are damaged: EIO, and the log names the segment", async (t) => {
  const { cluster, path, original, logBefore } = await damagedFile(t, "both", (down) => {
    // With 2 + 1, a segment's data lies on two servers: both its halves are damaged, wherever they are.
    for (const place of findStored(join(down.directory, "nodes"), "file both block ")) flip(place, 100);
  });
  const read = await run("cat", [path], { timeoutMs: 60_000 });
  t.regex(read.stderr, /Input\/output error/);
  t.false(read.timedOut);
  t.true(original.length > 0);
  t.regex(cluster.log(logBefore), /segment\D{0,20}\d+\D\d+|log=\d+.*sequence=\d+/i);
  await ok("cp", [original, cluster.path("fresh")]);
  t.is(await ok("cmp", [original, cluster.path("fresh")]), "", "what is not damaged is not concerned");
});
