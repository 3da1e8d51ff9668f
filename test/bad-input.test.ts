import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { join } from "node:path";
import test from "ava";
import { Cluster, DAZZLE } from "./support/cluster.ts";
import { forgetMounts } from "./support/mounts.ts";
import { refuses } from "./support/refuses.ts";
import { type Result, run, start } from "./support/run.ts";
import { Workspace } from "./support/workspace.ts";

const FAILURE = 1;
const WRONG_USAGE = 2;

const workspace = new Workspace();
/** A cluster that runs all the time, for what collides with one. */
let running: Cluster;

test.before(async () => {
  running = await Cluster.start(workspace, { name: "running" });
});
test.after.always(() => workspace.close());

function dazzle(...args: string[]): Promise<Result> {
  return run(process.execPath, [DAZZLE, ...args], { environment: workspace.environment, cwd: workspace.path, timeoutMs: 60_000 });
}

interface Case {
  readonly title: string;
  readonly says: RegExp;
  /** Prepares, and answers the arguments of `dazzle up`. */
  prepare(fresh: string): string[];
}

const CASES: Case[] = [
  {
    title: "a mountpoint whose parent is missing",
    says: /missing-parent.*(create|does not exist)/,
    prepare: (fresh) => ["--mount", join(fresh, "missing-parent", "mnt")],
  },
  {
    title: "a mountpoint that is not empty",
    says: /not empty/,
    prepare: (fresh) => {
      writeFileSync(join(makeDirectory(fresh, "mnt"), "precious"), "keep");
      return ["--mount", join(fresh, "mnt")];
    },
  },
  {
    title: "a mountpoint that is a file",
    says: /not a directory/,
    prepare: (fresh) => {
      writeFileSync(join(fresh, "mnt"), "");
      return ["--mount", join(fresh, "mnt")];
    },
  },
  {
    title: "a mountpoint that is a dangling link",
    says: /link/,
    prepare: (fresh) => {
      symlinkSync("nowhere", join(fresh, "mnt"));
      return ["--mount", join(fresh, "mnt")];
    },
  },
  { title: "a mountpoint where something is mounted", says: /already mounted/, prepare: () => ["--mount", running.mountpoint] },
  {
    title: "a data directory whose parent is missing",
    says: /nowhere/,
    prepare: (fresh) => ["--dir", join(fresh, "nowhere", "state")],
  },
  {
    title: "a data directory that is a file",
    says: /not a directory/,
    prepare: (fresh) => {
      writeFileSync(join(fresh, "file"), "");
      return ["--dir", join(fresh, "file")];
    },
  },
];

for (const { title, says, prepare } of CASES) {
  test.serial(`up refuses ${title}`, async (t) => {
    const fresh = workspace.directory(title.replaceAll(" ", "-"));
    const args = prepare(fresh);
    const before = readdirSync(fresh, { recursive: true }).sort();
    const state = args.includes("--dir") ? [] : ["--dir", join(fresh, "state")];
    refuses(t, await dazzle("up", "--nodes", "3", ...state, ...args), FAILURE, says);
    t.deepEqual(readdirSync(fresh, { recursive: true }).sort(), before, "nothing was created");
  });
}

test.serial("up refuses a directory of a cluster that runs", async (t) => {
  refuses(t, await dazzle("up", "--dir", running.directory, "--nodes", "3"), FAILURE, /in use|running/);
  await running.healed();
});

test.serial("node refuses a directory that a living process has in use", async (t) => {
  refuses(t, await dazzle("node", "--dir", running.nodeDirectory("node2")), FAILURE, /in use|running/);
});

test.serial("mount refuses a mountpoint that is mounted already, or busy", async (t) => {
  refuses(t, await dazzle("mount", running.mountpoint, "--dir", running.directory), FAILURE, /already mounted/);
});

test.serial("unmount of a busy mountpoint", async (t) => {
  const holder = start("sleep", ["300"], { cwd: running.mountpoint, environment: workspace.environment }, "ignore");
  const ended = new Promise((resolve) => holder.once("close", resolve));
  const result = await dazzle("unmount", running.mountpoint, "--dir", running.directory);
  holder.kill("SIGKILL");
  await ended;
  refuses(t, result, FAILURE, /busy|in use/);
});

test.serial("no node of dazzle up leaves, in no way", async (t) => {
  for (const how of [[], ["--dead"], ["--dead", "--force"], ["--cancel"]])
    refuses(
      t,
      await dazzle("leave", "node2", ...how, "--dir", running.directory),
      FAILURE,
      /node2 is a node of dazzle up, on this machine alone/,
    );
  t.deepEqual(
    (await running.status()).members.map(({ state }) => state),
    ["up", "up", "up"],
  );
});

test.serial("unmount refuses what is no mount of Dazzle", async (t) => {
  const folder = workspace.directory("no-mount");
  refuses(t, await dazzle("unmount", folder), FAILURE, /nothing is mounted|not mounted|no mount/);
  refuses(t, await dazzle("sync", folder), FAILURE, /nothing is mounted|not mounted|no mount/);
});

test.serial("without /dev/fuse, up says so and what to do", async (t) => {
  const fresh = workspace.directory("no-device");
  const commands = `${forgetMounts()}
    mkdir ${fresh}/empty && mount -t tmpfs tmpfs ${fresh}/empty && mkdir ${fresh}/empty/shm &&
    for name in null zero random urandom full tty; do touch ${fresh}/empty/$name; mount --bind /dev/$name ${fresh}/empty/$name; done &&
    ln -s /proc/self/fd ${fresh}/empty/fd && mount --rbind ${fresh}/empty /dev && exec "$@"`;
  const up = [process.execPath, DAZZLE, "up", "--dir", join(fresh, "state"), "--mount", join(fresh, "mnt"), "--nodes", "3"];
  const args = ["-m", "sh", "-c", commands, "_", ...up];
  const result = await run("unshare", args, { environment: workspace.environment, timeoutMs: 60_000 });
  refuses(t, result, FAILURE, /\/dev\/fuse.*(modprobe|device|container)/);
  t.false(existsSync(join(fresh, "state", "nodes")), "nothing was created");
});

test.serial("a port in use", async (t) => {
  const server = await new Promise<Server>((resolve) => {
    const created = createServer().listen(0, "127.0.0.1", () => resolve(created));
  });
  t.teardown(() => server.close());
  const address = server.address();
  const port = typeof address === "object" ? address?.port : undefined;
  const cluster = new Cluster(workspace, { name: "ported" });
  await cluster.up();
  await cluster.down();
  const result = await dazzle("node", "--dir", cluster.nodeDirectory("node1"), "--listen", `127.0.0.1:${port}`);
  refuses(t, result, FAILURE, new RegExp(`${port}.*in use|in use.*${port}`));
});

test.serial("a directory of another cluster, and one of a newer format", async (t) => {
  const cluster = new Cluster(workspace, { name: "other" });
  await cluster.up();
  await cluster.down();
  const [own, foreign] = [cluster.nodeDirectory("node2"), running.nodeDirectory("node2")];
  const label = readdirSync(own).find((name) => name.endsWith(".json"));
  if (label === undefined) throw new Error(`no JSON file tells what ${own} is: ${readdirSync(own).join(" ")}`);
  const original = readFileSync(join(own, label), "utf8");
  writeFileSync(join(own, label), readFileSync(join(foreign, label)));
  refuses(t, await dazzle("node", "--dir", own), FAILURE, /another cluster|other cluster|cluster/);
  refuses(t, await dazzle("up", "--dir", cluster.directory, "--nodes", "3"), FAILURE, /another cluster|other cluster|cluster/);
  writeFileSync(join(own, label), original.replace(/"format": ?\d+/, '"format": 99'));
  refuses(t, await dazzle("node", "--dir", own), FAILURE, /format 99.*(newer|upgrade)|(newer|upgrade).*format/);
  refuses(t, await dazzle("up", "--dir", cluster.directory, "--nodes", "3"), FAILURE, /format/);
  writeFileSync(join(own, label), original);
  await cluster.up();
  await cluster.down();
  t.pass();
});

const WRONG: readonly [args: readonly string[], says: RegExp][] = [
  [["frobnicate"], /frobnicate/],
  [["up", "--frobnicate"], /--frobnicate/],
  [["up", "--nodes"], /--nodes/],
  [["up", "--nodes", "none"], /--nodes/],
  [["up", "--nodes", "0"], /--nodes/],
  [["up", "--parity", "-1"], /--parity/],
  [["up", "--parity", "3", "--nodes", "6"], /--parity 3 is more than 2/],
  [["up", "--parity", "2", "--nodes", "2"], /--parity 2 takes a group of 3 servers at least, not of 2/],
  [["up", "--parity", "2", "--nodes", "6", "--group-size", "2"], /--parity 2 takes a group of 3 servers/],
  [["init", "--parity", "3", "--listen", "127.0.0.1:1"], /--parity 3 is more than 2/],
  [["up", "--fuse-engine", "steam"], /--fuse-engine/],
  [["mount"], /mountpoint|MNT/i],
  [["sync"], /mountpoint|MNT/i],
  [["mount", "a", "b"], /b/],
  [["leave", "m", "--cancel", "--dead"], /--cancel/],
];

for (const [args, says] of WRONG) {
  test.serial(`wrong usage: dazzle ${args.join(" ")}`, async (t) => {
    const folder = workspace.directory("usage");
    const result = await run(process.execPath, [DAZZLE, ...args], { environment: workspace.environment, cwd: folder, timeoutMs: 30_000 });
    refuses(t, result, WRONG_USAGE, says);
    t.deepEqual(readdirSync(folder), [], "nothing was created");
  });
}

for (const command of ["", "up", "down", "status", "mount", "unmount", "node", "sync"]) {
  test.serial(`dazzle ${command} --help`, async (t) => {
    const result = await dazzle(...(command === "" ? [] : [command]), "--help");
    t.is(result.code, 0);
    t.is(result.stderr, "");
    t.regex(result.stdout, /usage/i);
  });
}

test.serial("status and down where nothing runs", async (t) => {
  const folder = workspace.directory("nothing");
  refuses(t, await dazzle("status", "--dir", join(folder, "state")), FAILURE, /state/);
  refuses(t, await dazzle("down", "--dir", join(folder, "state")), FAILURE, /state/);
  t.deepEqual(readdirSync(folder), []);
});

function makeDirectory(...parts: string[]): string {
  const path = join(...parts);
  mkdirSync(path);
  return path;
}
