import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import type { Status } from "./support/cluster.ts";
import { comesToBe } from "./support/comes-to-be.ts";
import { type ClusterMachine, MachineCluster } from "./support/machine-cluster.ts";
import { refuses } from "./support/refuses.ts";
import { nodeArguments, REPOSITORY } from "./support/script.ts";
import { Workspace } from "./support/workspace.ts";

const FAILURE = 1;
const WRONG_USAGE = 2;
const PORT = 7400;
const MEMBERS = ["m1", "m2", "m3"];

const workspace = new Workspace();
let cluster: MachineCluster;
/** On the network, and no member. */
let outsider: ClusterMachine;
/** The only machine of a cluster of its own, which does not run. */
let stranger: ClusterMachine;

test.before(async () => {
  cluster = await MachineCluster.start(workspace, 3);
  outsider = await cluster.addMachine();
  stranger = await cluster.addMachine();
  await stranger.must(["init", "--listen", stranger.address, "--name", "alone", "--dir", stranger.directory]);
});
test.after.always(() => workspace.close());

async function statusOf(machine: ClusterMachine, ...args: string[]): Promise<Status> {
  return JSON.parse(await machine.must(["status", "--json", ...args])) as Status;
}

test.serial("init and join say what comes next, and start nothing", async (t) => {
  const machine = await cluster.addMachine();
  const { stdout } = await machine.dazzle(["init", "--listen", machine.address, "--dir", machine.directory]);
  t.regex(stdout, new RegExp(`dazzle node --dir ${machine.directory}`));
  t.regex(stdout, new RegExp(`dazzle join ${machine.address}`));
  t.deepEqual(machine.machine.pids(), []);
  t.false(existsSync(join(machine.directory, "nodes", "m1", "keeper", "map")));
});

test.serial("each machine that stores is in the stripe group", async (t) => {
  const expected = { members: MEMBERS.map((name) => [name, "up"]), servers: MEMBERS, shape: "2+1", warnings: [] as readonly string[] };
  await comesToBe(t, expected, async () => {
    const { members, groups, warnings } = await cluster.first.status();
    const { servers = [], dataFragments, parityFragments } = groups[0] ?? {};
    const shape = `${dataFragments}+${parityFragments}`;
    return { members: members.map(({ name, state }) => [name, state]), servers: [...servers].sort(), shape, warnings };
  });
});

test.serial("what is written on one machine is read on the others, and on one that is no member", async (t) => {
  for (const member of cluster.members) await member.mount();
  await outsider.must([
    "mount",
    outsider.mountpoint,
    "--cluster",
    `${cluster.member(2).address},${cluster.first.address}`,
    "--dir",
    outsider.directory,
  ]);
  const machines = [...cluster.members, outsider];
  for (const writer of machines) {
    writeFileSync(writer.path(writer.machine.name), `from ${writer.machine.name}`);
    for (const reader of machines) t.is(readFileSync(reader.path(writer.machine.name), "utf8"), `from ${writer.machine.name}`);
  }
  const names = machines.map(({ machine }) => machine.name).sort();
  for (const reader of machines) t.deepEqual(readdirSync(reader.mountpoint).sort(), names);
});

test.serial("any machine tells the state of all, by its directory or a member's address", async (t) => {
  const mounts = [
    ...cluster.members.map(({ machine, mountpoint }) => `${mountpoint} ${machine.name} up, asked`),
    `${outsider.mountpoint} - up`,
  ];
  const expected = { members: MEMBERS, mounts: mounts.sort(), group: "healthy" as string | undefined };
  const asked = [
    () => cluster.member(3).status(),
    () => outsider.status(),
    () => statusOf(outsider, "--cluster", cluster.member(2).address),
    () => statusOf(stranger, "--cluster", cluster.member(2).address),
  ];
  for (const ask of asked)
    await comesToBe(t, expected, async () => {
      const status = await ask();
      return {
        members: status.members.map(({ name }) => name),
        mounts: status.mounts
          .map(({ mountpoint, member, state, engine }) => `${mountpoint} ${member} ${state}${member !== "-" && engine ? ", asked" : ""}`)
          .sort(),
        group: status.groups[0]?.state,
      };
    });
});

test.serial("managers and groups are listed", async (t) => {
  const managers = JSON.parse(await cluster.member(2).must(["manager", "list", "--dir", cluster.member(2).directory, "--json"]));
  const slots = managers.managers.flatMap(({ slotList }: { slotList: number[] }) => slotList);
  t.deepEqual(
    slots.sort((one: number, other: number) => one - other),
    Array.from({ length: 64 }, (_, slot) => slot),
  );
  const groups = JSON.parse(await outsider.must(["group", "list", "--dir", outsider.directory, "--json"]));
  t.deepEqual(
    groups.groups.map(({ name }: { name: string }) => name),
    ["main"],
  );
  const group = JSON.parse(await outsider.must(["group", "show", "main", "--cluster", cluster.first.address, "--json"]));
  t.deepEqual(
    group.members.map(({ name }: { name: string }) => name),
    MEMBERS,
  );
  refuses(t, await outsider.dazzle(["group", "show", "other", "--dir", outsider.directory]), FAILURE, /no group other.*main/);
});

test.serial("a directory knows its cluster without the member by which it came", async (t) => {
  await outsider.unmount();
  await cluster.member(2).killNode();
  await outsider.mount();
  t.is(readFileSync(outsider.path("m3"), "utf8"), "from m3");
  cluster.member(2).startNode();
  await cluster.healthy();
});

interface Wrong {
  readonly title: string;
  readonly code: number;
  readonly says: RegExp;
  /** What is tried on the outsider's machine. */
  args(fresh: string): readonly string[];
}

const own = (port: number) => `${outsider.machine.address}:${port}`;
const joining = (fresh: string, more: readonly string[], port = PORT + 1) => [
  "join",
  cluster.first.address,
  "--listen",
  own(port),
  "--dir",
  fresh,
  ...more,
];

const WRONG: readonly Wrong[] = [
  {
    title: "joining under a used name",
    code: FAILURE,
    says: /name m2 is taken.*10\.77\.0\.2:7400.*--name/,
    args: (fresh) => joining(fresh, ["--name", "m2"]),
  },
  {
    title: "joining at an address where nobody answers",
    code: FAILURE,
    says: /no member of a cluster answers at 10\.77\.0\.1:9.*dazzle node/,
    args: (fresh) => ["join", "10.77.0.1:9", "--listen", own(PORT + 1), "--name", "new", "--dir", fresh],
  },
  {
    title: "joining at an address of no machine",
    code: FAILURE,
    says: /no member of a cluster answers at 10\.77\.0\.200:7400/,
    args: (fresh) => ["join", "10.77.0.200:7400", "--listen", own(PORT + 1), "--name", "new", "--dir", fresh],
  },
  {
    title: "joining with a listen address of another machine",
    code: FAILURE,
    says: /can't listen on tcp:10\.77\.0\.2:7400/,
    args: (fresh) => ["join", cluster.first.address, "--listen", cluster.member(2).address, "--name", "new", "--dir", fresh],
  },
  {
    title: "joining with a role that does not exist",
    code: WRONG_USAGE,
    says: /no role "king".*storage.*client/,
    args: (fresh) => joining(fresh, ["--name", "new", "--roles", "storage,king"]),
  },
  {
    title: "joining with a name that is none",
    code: WRONG_USAGE,
    says: /--name.*"a b"/,
    args: (fresh) => joining(fresh, ["--name", "a b"]),
  },
  {
    title: "joining without saying where it listens",
    code: WRONG_USAGE,
    says: /--listen/,
    args: (fresh) => ["join", cluster.first.address, "--dir", fresh],
  },
  {
    title: "listening everywhere",
    code: WRONG_USAGE,
    says: /--listen.*not 0\.0\.0\.0/,
    args: (fresh) => ["join", cluster.first.address, "--listen", `0.0.0.0:${PORT}`, "--name", "new", "--dir", fresh],
  },
  {
    title: "joining with the directory of a second cluster's member",
    code: FAILURE,
    says: /holds alone of the cluster [0-9a-f]{32} already/,
    args: () => joining(stranger.directory, ["--name", "new"]),
  },
  {
    title: "mounting with the directory of a second cluster's member",
    code: FAILURE,
    says: /belongs to the cluster [0-9a-f]{32}/,
    args: (fresh) => ["mount", `${fresh}-mnt`, "--cluster", cluster.first.address, "--dir", stranger.directory],
  },
  {
    title: "mounting a cluster that does not answer",
    code: FAILURE,
    says: /no node of the cluster answers.*10\.77\.0\.1:9/,
    args: (fresh) => ["mount", `${fresh}-mnt`, "--cluster", "10.77.0.1:9", "--dir", fresh],
  },
  {
    title: "mounting a cluster at what is no address",
    code: WRONG_USAGE,
    says: /--cluster takes HOST:PORT, not "nowhere"/,
    args: (fresh) => ["mount", `${fresh}-mnt`, "--cluster", "nowhere", "--dir", fresh],
  },
  {
    title: "a cluster whose first machine keeps no map",
    code: WRONG_USAGE,
    says: /--roles.*keeper/,
    args: (fresh) => ["init", "--listen", own(PORT + 1), "--roles", "storage,manager", "--dir", fresh],
  },
];

for (const { title, code, says, args } of WRONG) {
  test.serial(`${title} is refused, and nothing has changed`, async (t) => {
    const fresh = workspace.file(`wrong ${title}`);
    refuses(t, await outsider.dazzle(args(fresh)), code, says);
    t.false(existsSync(fresh), "nothing was created");
    const { members } = await cluster.first.status();
    t.deepEqual(
      members.map(({ name }) => name),
      MEMBERS,
    );
  });
}

test.serial("joining twice is refused, with the same directory or another", async (t) => {
  const second = cluster.member(2);
  const words = ["join", cluster.first.address, "--listen", second.address, "--dir"];
  refuses(t, await second.dazzle([...words, second.directory, "--name", "m2"]), FAILURE, /holds m2 of the cluster [0-9a-f]{32} already/);
  const other = workspace.file("second");
  refuses(t, await second.dazzle([...words, other, "--name", "other"]), FAILURE, /tcp:10\.77\.0\.2:7400 is in use/);
  await second.killNode();
  refuses(t, await second.dazzle([...words, other, "--name", "other"]), FAILURE, /10\.77\.0\.2:7400 is that of the member m2/);
  t.false(existsSync(other));
  second.startNode();
  await cluster.healthy();
});

test.serial("init over what is there is refused", async (t) => {
  const words = ["init", "--listen", own(PORT + 1), "--name", "new", "--dir"];
  refuses(t, await outsider.dazzle([...words, outsider.directory]), FAILURE, /holds this machine's mounts of the cluster/);
  refuses(
    t,
    await stranger.dazzle(["init", "--listen", stranger.address, "--dir", stranger.directory]),
    FAILURE,
    /holds alone of the cluster/,
  );
  const full = workspace.directory("full");
  mkdirSync(join(full, "something"));
  refuses(t, await outsider.dazzle([...words, full]), FAILURE, /full is not empty/);
  t.deepEqual(readdirSync(full), ["something"]);
  refuses(t, await outsider.dazzle([...words, workspace.file("no", "where")]), FAILURE, /no\/where can't be made.*create that first/);
});

test.serial("a slot is not moved to who can't manage it, and there is none beyond the last", async (t) => {
  const at = ["--cluster", cluster.first.address];
  refuses(t, await outsider.dazzle(["manager", "move", "5", "m9", ...at]), FAILURE, /no member m9: managers are m1, m2, m3/);
  refuses(t, await outsider.dazzle(["manager", "move", "64", "m2", ...at]), WRONG_USAGE, /SLOT is below 64, not 64/);
  refuses(t, await outsider.dazzle(["manager", "move", "x", "m2", ...at]), WRONG_USAGE, /SLOT takes a whole number.*"x"/);
  refuses(t, await outsider.dazzle(["manager", "frobnicate"]), WRONG_USAGE, /frobnicate.*list, move/);
});

test.serial("a machine that does not store is a member all the same, and no server of the group", async (t) => {
  const member = await cluster.join(["--roles", "cleaner,client"]);
  const { name } = member.machine;
  const expected = {
    state: "up" as string | undefined,
    roles: ["cleaner", "client"] as readonly string[] | undefined,
    servers: MEMBERS,
    store: false,
  };
  await comesToBe(t, expected, async () => {
    const { members, groups } = await cluster.first.status();
    const row = members.find((one) => one.name === name);
    const store = existsSync(join(member.directory, "nodes", name, "storage", "store"));
    return { state: row?.state, roles: row?.roles, servers: [...(groups[0]?.servers ?? [])].sort(), store };
  });
  refuses(t, await outsider.dazzle(["manager", "move", "5", name, "--cluster", cluster.first.address]), FAILURE, /has no manager role/);
  await member.mount();
  t.is(readFileSync(member.path("m1"), "utf8"), "from m1");
});

test.serial("a program of another version is refused by the cluster, and refuses to join one, with both versions", async (t) => {
  const other = join(import.meta.dirname, "support/other-version.ts");
  const said = await outsider.machine.ok(process.execPath, nodeArguments(other, ["ask", `tcp:${cluster.first.address}`]), {
    cwd: REPOSITORY,
  });
  t.regex(said, /^wrongVersion: .*speaks version 1 .*this program 2: use the same dazzle/);
  const args = nodeArguments(other, ["serve", `tcp:${stranger.machine.address}:${PORT + 9}`]);
  const newer = stranger.machine.start(process.execPath, args, { cwd: REPOSITORY }, ["ignore", "pipe", "inherit"]);
  await new Promise((resolve) => newer.stdout?.once("data", resolve));
  const fresh = workspace.file("newer");
  const words = ["join", `${stranger.machine.address}:${PORT + 9}`, "--listen", own(PORT + 1), "--name", "new", "--dir", fresh];
  refuses(t, await outsider.dazzle(words), FAILURE, /speaks version 2 .*this program 1: use the same dazzle/);
  t.false(existsSync(fresh));
  newer.kill();
});
