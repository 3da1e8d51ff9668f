import { createHash, randomBytes } from "node:crypto";
import { existsSync, readdirSync, statSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { until } from "./support/until.ts";
import { signal, Workspace } from "./support/workspace.ts";

const DAMAGED = 4;
const FILES = 80;
const FILE_BYTES = 1_500_000;
const COMMAND_DEADLINE_MS = 600_000;
const STATE_DEADLINE_MS = 180_000;
/** Of what the new server gets, some fifteen times as much. */
const MOVED_BYTES = 2_000_000;
const LOOK_MS = 5;

const workspace = new Workspace();
test.after.always(() => workspace.close());

const digestOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

interface Rebuilding {
  readonly groups: Awaited<ReturnType<Cluster["status"]>>["groups"];
  readonly rebuild: readonly { readonly segments: number; readonly segmentsLeft: number }[];
}

function storedBytes(directory: string): number {
  const volumes = join(directory, "storage", "volumes");
  return existsSync(volumes) ? readdirSync(volumes).reduce((sum, name) => sum + statSync(join(volumes, name)).size, 0) : 0;
}

test("a second server lost while the first is rebuilt: what has parity left is read, what has not is named by path, and all else is as it was", async (t) => {
  const cluster = await Cluster.start(workspace, { nodes: 5, more: ["--group-size", "4"] });
  const digests = new Map<string, string>();
  const write = async (name: string, bytes: number) => {
    const content = randomBytes(bytes);
    await writeFile(cluster.path(name), content);
    digests.set(name, digestOf(content));
  };
  for (let number = 0; number < FILES; number++) await write(`${number}`, number % 4 === 3 ? 10_000 : FILE_BYTES);
  await cluster.sync();
  const status = async () => (await cluster.status()) as unknown as Rebuilding;

  await cluster.killNode("node3");
  for (let number = FILES; number < FILES + 8; number++) await write(`${number}`, FILE_BYTES);
  await cluster.sync();
  const replacing = cluster.start(["group", "replace-server", "main", "node3", "node5", "--dir", cluster.directory]);
  // What is not moved by then stays so.
  const pid = await cluster.pidOf("node5");
  for (const startMs = performance.now(); storedBytes(cluster.nodeDirectory("node5")) < MOVED_BYTES; await setTimeout(LOOK_MS))
    if (performance.now() - startMs > STATE_DEADLINE_MS) throw new Error("nothing is moved");
  signal(pid, "SIGSTOP");
  await cluster.killNode("node4");
  signal(pid, "SIGCONT");
  replacing.kill("SIGKILL");

  const command = (...args: string[]) => cluster.command([...args, "--dir", cluster.directory], COMMAND_DEADLINE_MS);
  // It shows what is moved, which waits for the other one.
  const first = cluster.start(["declare-lost", "node3", "--force", "--dir", cluster.directory]);
  await until("the first to be given up", STATE_DEADLINE_MS, () => /a storage server was declared lost.*node3/.test(cluster.log()));
  first.kill("SIGKILL");
  const declared = await command("declare-lost", "node4", "--force");
  t.is(declared.code, 0, declared.stderr);
  const isLossTold = /segments are lost with node4/.test(declared.stdout);
  t.regex(declared.stdout, isLossTold ? /what is left of what it held is whole/ : /and what it held is whole/);
  await until("nothing to be moved", STATE_DEADLINE_MS, async () => (await status()).rebuild.length === 0);

  const { code, stdout } = await command("fsck", "--lost", "--json");
  const told = JSON.parse(stdout) as { readonly lost: readonly { readonly path?: string }[] };
  const named = new Set(told.lost.map(({ path }) => path));
  t.is(code, named.size > 0 ? DAMAGED : 0);
  t.true(isLossTold || named.size === 0, declared.stdout);
  t.log(`${named.size} of ${digests.size} files have lost something`);
  await cluster.remountCold();
  for (const [name, digest] of digests) {
    const content = await readFile(cluster.path(name)).catch((error: NodeJS.ErrnoException) => error.code);
    if (named.has(`/${name}`)) t.is(content, "EIO", name);
    else t.true(Buffer.isBuffer(content) && digestOf(content) === digest, `${name}: ${Buffer.isBuffer(content) ? "other bytes" : content}`);
  }
  await write("afterwards", FILE_BYTES);
  await cluster.sync();
  t.is(digestOf(await readFile(cluster.path("afterwards"))), digests.get("afterwards") as string);
});
