import { createHash, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import test, { type ExecutionContext } from "ava";
import { Cluster } from "./support/cluster.ts";
import { comesToBe } from "./support/comes-to-be.ts";
import { Workspace } from "./support/workspace.ts";

const NODES = 8;
const WIDE = ["node3", "node4", "node5", "node6", "node7", "node8"] as const;
const PAIRS = [
  ["node3", "node4"],
  ["node5", "node8"],
] as const;
const FILES = 24;
const FAILURE = 1;
const USAGE = 2;
const COMMAND_DEADLINE_MS = 400_000;

const workspace = new Workspace();
let cluster: Cluster;
const digests = new Map<string, string>();

const digestOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

test.before(async () => {
  cluster = await Cluster.start(workspace, { nodes: NODES, more: ["--group-size", "2"] });
});
test.after.always(() => workspace.close());

const group = (...args: string[]) => cluster.command(["group", ...args, "--dir", cluster.directory], COMMAND_DEADLINE_MS);

async function write(name: string): Promise<number> {
  const bytes = randomBytes(digests.size % 3 === 0 ? 3_000_000 : 10_000);
  await writeFile(cluster.path(name), bytes);
  digests.set(name, digestOf(bytes));
  return bytes.length;
}

/** As the disks have it. */
async function readsAll(t: ExecutionContext, what: string): Promise<void> {
  await cluster.remountCold();
  for (const [name, digest] of digests) t.is(digestOf(await readFile(cluster.path(name))), digest, `${name} ${what}`);
}

async function restoredBytes(): Promise<number> {
  const { written } = (await cluster.status()) as unknown as { readonly written: { readonly restored: number } };
  return written.restored;
}

test.serial("a bound that makes no sense is refused by one line that says what is needed", async (t) => {
  const servers = ["--servers", WIDE.join(",")];
  for (const [args, why, code] of [
    [["--data", "0"], /--data takes a whole number from 1 on, not "0"/, USAGE],
    [["--data", "300"], /--data is at most 253, not 300/, USAGE],
    [["--data", "6"], /has 6 servers, too few for 6 data and 1 parity fragments: that needs 7/, FAILURE],
    [["--data", "5", "--parity", "2"], /has 6 servers, too few for 5 data and 2 parity fragments: that needs 7/, FAILURE],
  ] as const) {
    const result = await group("create", "wide", ...servers, ...args);
    t.is(result.code, code, args.join(" "));
    t.regex(result.stderr, why);
    t.is(result.stderr.trimEnd().split("\n").length, 1, result.stderr);
  }
});

test.serial("parity is raised by writing the second one alone where d stays, and then two servers may be lost", async (t) => {
  const made = await group("create", "wide", "--servers", WIDE.join(","), "--data", "4", "--json");
  t.is(made.code, 0, made.stderr);
  t.like(JSON.parse(made.stdout), { dataFragments: 4, parityFragments: 1, dataMax: 4 });
  t.regex((await group("show", "wide")).stdout, /4\+1 \(--data 4\)/);
  let bytes = 0;
  for (let number = 0; number < FILES; number++) bytes += await write(`${number}`);
  await cluster.sync();

  const before = await restoredBytes();
  const raising = group("set-parity", "wide", "2", "--json");
  for (let number = 0; number < FILES; number++) await write(`meanwhile ${number}`);
  const raised = await raising;
  t.is(raised.code, 0, raised.stderr);
  t.like(JSON.parse(raised.stdout), { dataFragments: 4, parityFragments: 2, dataMax: 4, servers: WIDE });
  const restored = (await restoredBytes()) - before;
  t.true(restored > 0 && restored < bytes / 3, `${restored} bytes are stored anew for ${bytes}`);

  await readsAll(t, "with every server");
  for (const pair of PAIRS) {
    for (const name of pair) await cluster.killNode(name);
    await readsAll(t, `without ${pair}`);
    for (const name of pair) cluster.beginNode(name);
    await cluster.healed();
    await comesToBe<object>(t, { rebuild: [], warnings: [] }, async () => {
      const { rebuild, warnings } = (await cluster.status()) as unknown as { readonly rebuild: object[]; readonly warnings: string[] };
      return { rebuild, warnings };
    });
  }
  await cluster.sound();
});
