import { createHash, randomBytes } from "node:crypto";
import { rmSync } from "node:fs";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import test, { type ExecutionContext } from "ava";
import { Cluster, DAZZLE } from "./support/cluster.ts";
import { comesToBe } from "./support/comes-to-be.ts";
import { type Result, start } from "./support/run.ts";
import { until } from "./support/until.ts";
import { Workspace } from "./support/workspace.ts";

const NODES = 5;
const FAILURE = 1;
const USAGE = 2;
/** That are written before, and read while others are written again and again. */
const FILES = 24;
const LOAD_FILES = 30;
const COMMAND_DEADLINE_MS = 400_000;
const STATE_DEADLINE_MS = 120_000;

const workspace = new Workspace();
let cluster: Cluster;
const digests = new Map<string, string>();

const digestOf = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");

test.before(async () => {
  cluster = await Cluster.start(workspace, { nodes: NODES, more: ["--group-size", "3"] });
  for (let number = 0; number < FILES; number++) await write(number);
  await cluster.sync();
});
test.after.always(() => workspace.close());

async function write(number: number): Promise<void> {
  const bytes = randomBytes(number % 3 === 0 ? 3_000_000 : 10_000);
  await writeFile(cluster.path(`${number}`), bytes);
  digests.set(`${number}`, digestOf(bytes));
}

async function read(name: string): Promise<boolean> {
  return digestOf(await readFile(cluster.path(name))) === digests.get(name);
}

async function readsAll(t: ExecutionContext): Promise<void> {
  for (const name of digests.keys()) t.true(await read(name), name);
}

const group = (...args: string[]) => cluster.command(["group", ...args, "--dir", cluster.directory], COMMAND_DEADLINE_MS);

/** Writes and reads while a command runs: each write returns, and what is read is right. `orSays`: how it may fail. */
async function underLoad(t: ExecutionContext, command: Promise<Result>, orSays = /^$/): Promise<Result> {
  let isOver = false;
  const over = () => {
    isOver = true;
  };
  command.then(over, over);
  let wrong = 0;
  await Promise.all([
    (async () => {
      for (let turn = 0; !isOver; turn++) await write(FILES + (turn % LOAD_FILES));
    })(),
    (async () => {
      for (let turn = 0; !isOver; turn++) if (!(await read(`${turn % FILES}`))) wrong++;
    })(),
  ]);
  t.is(wrong, 0);
  const result = await command;
  if (result.code !== 0) t.regex(result.stderr, orSays);
  return result;
}

async function groupNow() {
  const { groups, rebuild } = (await cluster.status()) as unknown as {
    readonly groups: Awaited<ReturnType<Cluster["status"]>>["groups"];
    readonly rebuild: readonly { readonly segmentsLeft: number }[];
  };
  const [main] = groups;
  return {
    shape: `${main?.dataFragments}+${main?.parityFragments}`,
    servers: [...(main?.servers ?? [])].sort(),
    version: main?.version,
    rebuild,
  };
}

/** The group has these servers, and nothing is moved. */
function isOver(t: ExecutionContext, servers: readonly string[]): Promise<void> {
  return comesToBe<object>(t, { servers, rebuild: [] }, async () => {
    const { servers, rebuild } = await groupNow();
    return { servers, rebuild };
  });
}

/** What the mount has in memory does not hide what is stored. */
async function survives(t: ExecutionContext, name: string): Promise<void> {
  await cluster.killNode(name);
  await cluster.remountCold();
  await readsAll(t);
  await cluster.startNode(name);
}

test.serial("each wrong wish is refused by one line that names what is in the way, and changes nothing", async (t) => {
  const before = await groupNow();
  const refused: readonly (readonly [readonly string[], RegExp, number])[] = [
    [["add-server", "main", "node3"], /node3 is in the group main already/, FAILURE],
    [["add-server", "main", "node9"], /no member node9: there are node1, node2/, FAILURE],
    [["add-server", "none", "node4"], /no group none: there are main/, FAILURE],
    [["add-server", "main"], /SERVER is missing/, USAGE],
    [["remove-server", "main", "node4"], /node4 is not in the group main: its servers are node1, node2, node3/, FAILURE],
    [["replace-server", "main", "node1", "node2"], /node2 is in the group main already/, FAILURE],
    [["replace-server", "main", "node1", "node1"], /node1 has the store that the group main lists/, FAILURE],
    [["set-parity", "main", "0"], /0 parity in place of 1, so that the loss of 1 of its servers loses data; with --force/, FAILURE],
    [["set-parity", "main", "7"], /M is at most 2, not 7/, USAGE],
    [["create", "fast", "--servers", "node4"], /has 1 server, too few for 1 parity: that needs 2/, FAILURE],
    [["create", "fast", "--servers", "node3,node4"], /node3 is in the group main, and a server belongs to one/, FAILURE],
    [["create", "fast"], /--servers A,B,… is missing/, USAGE],
  ];
  for (const [args, why, code] of refused) {
    const result = await group(...args);
    t.is(result.code, code, args.join(" "));
    t.regex(result.stderr, why, args.join(" "));
    t.is(result.stderr.trimEnd().split("\n").length, 1, result.stderr);
  }
  const lost = await cluster.command(["declare-lost", "node2", "--dir", cluster.directory]);
  t.is(lost.code, FAILURE);
  t.regex(lost.stderr, /node2 is there, with what it stores/);
  t.deepEqual(await groupNow(), before);
});

test.serial("a server is added under load: what is written is wider at once, and in the end all that was stored before", async (t) => {
  const adding = group("add-server", "main", "node4", "--json");
  await until("the new version", STATE_DEADLINE_MS, async () => (await groupNow()).shape === "3+1");
  const { stdout } = await underLoad(t, adding);
  const told = JSON.parse(stdout) as { readonly dataFragments: number; readonly servers: readonly string[] };
  t.is(told.dataFragments, 3);
  t.deepEqual([...told.servers].sort(), ["node1", "node2", "node3", "node4"]);
  await isOver(t, ["node1", "node2", "node3", "node4"]);
  await readsAll(t);
  await survives(t, "node2");
});

test.serial("a server is removed under load, though the command is stopped in between", async (t) => {
  const first = start(process.execPath, [DAZZLE, "group", "remove-server", "main", "node2", "--dir", cluster.directory], {}, "ignore");
  await until("the new version", STATE_DEADLINE_MS, async () => !(await groupNow()).servers.includes("node2"));
  first.kill("SIGKILL");
  await underLoad(t, group("remove-server", "main", "node2"), /node2 is not in the group main/);
  await isOver(t, ["node1", "node3", "node4"]);
  await survives(t, "node3");
});

test.serial("a server that is killed for good is replaced under load, and one more may be lost then", async (t) => {
  await cluster.killNode("node3");
  const { stdout } = await underLoad(t, group("replace-server", "main", "node3", "node5"));
  t.regex(stdout, /the group main is 2\+1 over .*, and all that it stores lies there/);
  await isOver(t, ["node1", "node4", "node5"]);
  await cluster.startNode("node3");
  await isOver(t, ["node1", "node4", "node5"]);
  await survives(t, "node4");
});

test.serial("a node whose storage directory was emptied stores nothing until it is replaced by itself", async (t) => {
  await cluster.killNode("node5");
  rmSync(join(cluster.nodeDirectory("node5"), "storage"), { recursive: true });
  const started = cluster.startNode("node5").catch(() => {});
  await until("a warning about the directory", STATE_DEADLINE_MS, async () => {
    const { warnings } = await cluster.status();
    return warnings.some((warning) => /the storage directory of node5 is not the one.*replace-server GROUP node5 node5/.test(warning));
  });
  await readsAll(t);
  await underLoad(t, group("replace-server", "main", "node5", "node5"));
  await started;
  await cluster.healed();
  await isOver(t, ["node1", "node4", "node5"]);
  await survives(t, "node4");
});

test.serial("what a server whose disk is gone held is rebuilt once it is declared lost, and its machine stays a member", async (t) => {
  await group("add-server", "main", "node2");
  await cluster.killNode("node4");
  const { code, stdout, stderr } = await cluster.command(
    ["declare-lost", "node4", "--dir", cluster.directory, "--json"],
    COMMAND_DEADLINE_MS,
  );
  t.is(code, 0, stderr);
  t.like(JSON.parse(stdout), { name: "node4", lost: 0 });
  await isOver(t, ["node1", "node2", "node5"]);
  t.true((await cluster.status()).members.some(({ name }) => name === "node4"));
  await cluster.remountCold();
  await readsAll(t);
  await cluster.sound();
});
