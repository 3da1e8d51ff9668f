import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Cluster, type ClusterOptions, dropCaches } from "./support/cluster.ts";
import { findStored, flip } from "./support/fragments.ts";
import { ok } from "./support/run.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const BLOCK_BYTES = 4096;
const FILE_BLOCKS = 2048;

interface ScrubRow {
  readonly name: string;
  readonly running: boolean;
  readonly fragments: number;
  readonly damaged: number;
  readonly repaired: number;
  readonly waiting: number;
  readonly unrepairable: number;
  readonly lastPass: { readonly endedAt: string; readonly fragments: number } | null;
}

function marker(block: number): string {
  return `scrubbed file block ${block};`;
}

/** A cluster that runs, with a file whose blocks can be found where they are stored. */
async function begin(
  t: ExecutionContext<unknown>,
  options: ClusterOptions = {},
): Promise<{ cluster: Cluster; path: string; original: string }> {
  t.timeout(5 * 60_000);
  const workspace = new Workspace();
  t.teardown(() => workspace.close());
  const cluster = await Cluster.start(workspace, options);
  const original = workspace.file("original");
  const blocks = Array.from({ length: FILE_BLOCKS }, (_, block) => {
    const bytes = Buffer.alloc(BLOCK_BYTES, `${block} `);
    bytes.write(marker(block), "latin1");
    return bytes;
  });
  writeFileSync(original, Buffer.concat(blocks));
  const path = cluster.path("file");
  await ok("cp", [original, path]);
  await cluster.sync();
  return { cluster, path, original };
}

async function rowOf(cluster: Cluster, name: string): Promise<ScrubRow> {
  const { scrub } = (await cluster.status()) as unknown as { readonly scrub: readonly ScrubRow[] };
  const row = scrub.find((one) => one.name === name);
  if (row === undefined) throw new Error(`status does not tell what ${name} has verified`);
  return row;
}

test.serial("blocks are damaged on a running server: dazzle scrub has them repaired, and another server may be lost then", async (t) => {
  const { cluster, path, original } = await begin(t);
  const [damaged = "", killed = ""] = await cluster.expendable();
  const places = findStored(cluster.nodeDirectory(damaged), "scrubbed file block ").filter((_, at) => at % 50 === 0);
  t.true(places.length > 10);
  for (const place of places) flip(place, 100);

  const scrubbed = await cluster.command(["scrub", "--dir", cluster.directory, "--json"], 120_000);
  t.is(scrubbed.code, 0, scrubbed.stderr);
  const { servers } = JSON.parse(scrubbed.stdout) as { readonly servers: readonly ScrubRow[] };
  t.is(servers.length, 3);
  for (const server of servers) t.true(server.fragments > 0 && server.waiting === 0 && server.unrepairable === 0, JSON.stringify(server));
  const row = await rowOf(cluster, damaged);
  t.true(row.damaged > 0 && row.repaired === row.damaged, JSON.stringify(row));
  t.true((row.lastPass?.fragments ?? 0) > 0);
  t.is((await rowOf(cluster, killed)).damaged, 0);
  t.regex(cluster.log(), /a stored fragment is damaged/);
  t.regex(cluster.log(), /a damaged fragment was repaired/);
  await cluster.healed();
  const clean = await cluster.command(["scrub", "--dir", cluster.directory], 120_000);
  t.is(clean.code, 0, clean.stderr);
  t.is(clean.stdout.match(/none damaged/g)?.length, 3, clean.stdout);

  await cluster.killNode(killed);
  await cluster.remountCold();
  t.is(await ok("cmp", [original, path]), "");
  await cluster.startNode(killed);
  await cluster.restartCold();
  t.is(await ok("cmp", [original, path]), "");
  t.is((await rowOf(cluster, damaged)).repaired, row.repaired, "it is remembered");
});

test.serial("a reader that gets damage has it repaired; what is damaged on two servers is told, and counted", async (t) => {
  const { cluster, path, original } = await begin(t);
  const [one = "", other = ""] = await cluster.expendable();
  for (const place of findStored(cluster.nodeDirectory(one), "scrubbed file block ")) flip(place, 100);
  await cluster.remountCold();
  t.is(await ok("cmp", [original, path]), "");
  await until("all of it to be repaired", 60_000, async () => {
    const { damaged, repaired, waiting } = await rowOf(cluster, one);
    return damaged > 0 && repaired === damaged && waiting === 0;
  });

  // With 2 + 1 each block lies on one server, and its parity on another.
  for (const node of ["node1", one, other])
    for (const place of findStored(join(cluster.nodeDirectory(node), "storage"), "scrubbed file block ")) flip(place, 100);
  await dropCaches();
  const scrubbed = await cluster.command(["scrub", "--dir", cluster.directory], 120_000);
  t.is(scrubbed.code, 1);
  t.regex(scrubbed.stderr, /damaged fragments are left on .*node/);
  t.true((await cluster.status()).warnings.some((warning) => /damaged fragments that can't be repaired/.test(warning)));
  t.regex(cluster.log(), /a damaged fragment can't be repaired/);
});

test.serial(
  "with two parities, what is damaged on two servers is repaired, by a scrub and by fsck, and two others may be lost then",
  async (t) => {
    const { cluster, path, original } = await begin(t, { nodes: 6, more: ["--parity", "2"] });
    const [one = "", other = "", ...killed] = await cluster.expendable();
    const damage = () => {
      for (const name of [one, other]) {
        const places = findStored(cluster.nodeDirectory(name), "scrubbed file block ");
        t.true(places.length > 10, name);
        for (const place of places) flip(place, 100);
      }
    };
    damage();
    const scrubbed = await cluster.command(["scrub", "--dir", cluster.directory], 120_000);
    t.is(scrubbed.code, 0, scrubbed.stderr);
    const first = await Promise.all([one, other].map((name) => rowOf(cluster, name)));
    for (const row of first) t.true(row.damaged > 0 && row.repaired === row.damaged, JSON.stringify(row));
    damage();
    const checked = await cluster.command(["fsck", "--dir", cluster.directory, "--data", "--repair"], 240_000);
    t.regex(checked.stdout, /^repaired: segment /);
    for (const before of first) {
      const row = await rowOf(cluster, before.name);
      t.true(row.damaged > before.damaged && row.repaired === row.damaged, JSON.stringify({ before, row }));
    }
    const clean = await cluster.command(["fsck", "--dir", cluster.directory, "--data"], 240_000);
    t.is(clean.code, 0, clean.stdout);
    for (const name of killed.slice(0, 2)) await cluster.killNode(name);
    await cluster.remountCold();
    t.is(await ok("cmp", [original, path]), "");
  },
);
