import { decodeInode, type Extent, type Inode, packInode, type SlotMask } from "@dazzle/core";
import type { Problem } from "@dazzle/fsck";
import type { SimCluster, Workload } from "@dazzle/sim";
import test from "ava";
import { CALLER, imapOf, LIMIT_MS, type Planted, planted, ROOT, started } from "./support/planted.ts";
import { workloadsOn } from "./support/workloads.ts";

for (const seed of [1, 2]) {
  test(`a cluster that two mounts work in, with three managers, is clean, seed=${seed}`, async (t) => {
    const { world, cluster } = await started(seed, 3);
    const mounts = [await cluster.mount(), await cluster.mount()];
    const workloads = workloadsOn(world, mounts);
    let over = false;
    const working = (async () => {
      for (let step = 0; step < 400 && !over; step++) await (world.random.pick(workloads) as Workload).step();
    })();
    for (let round = 0; round < 3; round++) {
      const { findings, unchecked, counts } = await cluster.fsck();
      t.deepEqual(findings, []);
      t.deepEqual(unchecked, []);
      t.true(counts.directories > 0);
    }
    over = true;
    await world.run(working, LIMIT_MS);
    const { findings, unsettled } = await cluster.fsck();
    t.deepEqual([findings, unsettled], [[], []]);
  });
}

test("a directory that goes in the same segment as its names leaves nothing", async (t) => {
  const { world, cluster } = await started(3);
  const { client } = await cluster.mount();
  const { fileSystem } = client;
  const run = <T>(answer: T | Promise<T>) => world.run(Promise.resolve(answer), LIMIT_MS);
  const directory = (await run(fileSystem.makeDirectory(CALLER, ROOT, "directory", 0o755))).attributes.ino;
  await run(fileSystem.makeNode(CALLER, directory, "name", 0o100644, 0));
  await run(client.sync());
  await run(fileSystem.unlink(CALLER, directory, "name"));
  await run(fileSystem.removeDirectory(CALLER, ROOT, "directory"));
  await run(client.sync());
  const { findings, counts } = await cluster.fsck();
  t.deepEqual(findings, []);
  t.like(counts, { names: 0, files: 1 });
});

async function inodeOf(cluster: SimCluster, ino: number): Promise<Inode> {
  return decodeInode((await imapOf(cluster, ino).inode(ino)) as Buffer);
}

test("fsck sees that a manager has what the logs do not say, though it all agrees", async (t) => {
  const { cluster, file } = await planted();
  t.deepEqual((await cluster.fsck()).findings, []);
  imapOf(cluster, file).putInode(file, packInode({ ...(await inodeOf(cluster, file)), uid: 4_711 }));
  const { findings } = await cluster.fsck();
  t.deepEqual(
    findings.map(({ problem, subject: { ino }, path }) => ({ problem, ino, path })),
    [{ problem: "notAsLogged", ino: file, path: "/directory/file" }],
  );
});

const PLANTS: ReadonlyArray<{
  readonly what: string;
  plant(planted: Planted): Promise<void> | void;
  readonly problems: readonly Problem[];
}> = [
  {
    what: "a link count that is too high",
    plant: async ({ cluster, file }) => {
      imapOf(cluster, file).putInode(file, packInode({ ...(await inodeOf(cluster, file)), nlink: 2 }));
    },
    problems: ["linkCount"],
  },
  {
    what: "a name without its file",
    plant: ({ cluster, directory }) => imapOf(cluster, directory).putEntry(directory, "lost", { child: 64_000 + 7, type: 8 }),
    problems: ["missingFile"],
  },
  {
    what: "a file without its name",
    plant: ({ cluster, directory }) => imapOf(cluster, directory).putEntry(directory, "file", null),
    problems: ["nameless"],
  },
  {
    what: "a name of another type",
    plant: ({ cluster, directory, file }) => imapOf(cluster, directory).putEntry(directory, "file", { child: file, type: 10 }),
    problems: ["entryType"],
  },
  {
    what: "directories within one another",
    plant: ({ cluster, directory, inner, deeper }) => {
      imapOf(cluster, directory).putEntry(directory, "inner", null);
      imapOf(cluster, deeper).putEntry(deeper, "inner", { child: inner, type: 4 });
    },
    // Each of the three holds another number of directories, and the inner one is elsewhere than it says.
    problems: ["linkCount", "linkCount", "loop", "wrongParent"],
  },
  {
    what: "a directory with two names",
    plant: ({ cluster, inner, directory }) => imapOf(cluster, directory).putEntry(directory, "again", { child: inner, type: 4 }),
    problems: ["linkCount", "severalNames"],
  },
  {
    what: "a directory that is gone from under its names",
    plant: ({ cluster, directory, deeper, inner }) => {
      imapOf(cluster, deeper).putEntry(deeper, "stray", { child: directory, type: 8 });
      imapOf(cluster, deeper).putInode(deeper, null);
      imapOf(cluster, inner).putEntry(inner, "deeper", null);
    },
    problems: ["entryType", "linkCount", "severalNames", "strayEntries"],
  },
  {
    what: "no root",
    plant: ({ cluster }) => imapOf(cluster, ROOT).putInode(ROOT, null),
    problems: ["noRoot", "strayEntries"],
  },
  {
    what: "a file without links that nobody has open",
    plant: async ({ cluster, file, directory }) => {
      imapOf(cluster, file).putInode(file, packInode({ ...(await inodeOf(cluster, file)), nlink: 0 }));
      imapOf(cluster, directory).putEntry(directory, "file", null);
    },
    problems: ["orphan"],
  },
  {
    what: "a file that is gone and has left its extents and attributes",
    plant: ({ cluster, file, directory }) => {
      imapOf(cluster, file).putInode(file, null);
      imapOf(cluster, directory).putEntry(directory, "file", null);
    },
    problems: ["strayAttributes", "strayExtents"],
  },
  {
    what: "a file that says it never had the attributes it has",
    plant: async ({ cluster, file }) => {
      imapOf(cluster, file).putInode(file, packInode({ ...(await inodeOf(cluster, file)), noAttributes: true }));
    },
    problems: ["hiddenAttributes"],
  },
  {
    what: "a file that ends before its extents",
    plant: async ({ cluster, file }) => {
      imapOf(cluster, file).putInode(file, packInode({ ...(await inodeOf(cluster, file)), size: 5_000 }));
    },
    problems: ["badExtents"],
  },
  {
    what: "extents that overlap",
    plant: async ({ cluster, file }) => {
      const [first] = await imapOf(cluster, file).region(file, 0);
      imapOf(cluster, file).putRegion(file, 0, [first as Extent, { ...(first as Extent), length: 4_096 }]);
    },
    problems: ["badExtents", "liveBytes"],
  },
  {
    what: "wrong live bytes",
    plant: async ({ cluster, file }) => {
      const { log, sequence } = (await imapOf(cluster, file).region(file, 0))[0] as Extent;
      const live = (await imapOf(cluster, file).live(log, sequence)) as { bytes: number; slots: SlotMask };
      imapOf(cluster, file).putLive(log, sequence, { ...live, bytes: live.bytes + 1 });
    },
    problems: ["liveBytes"],
  },
  {
    what: "live bytes of a segment that nothing refers to",
    plant: ({ cluster, file }) => imapOf(cluster, file).putLive(3, 1_000_000, { bytes: 1, slots: { low: 0xffffffff, high: 0xffffffff } }),
    // The segment was never written.
    problems: ["liveBytes", "segmentLost"],
  },
];

for (const { what, plant, problems } of PLANTS) {
  test(`fsck sees ${what}`, async (t) => {
    const at = await planted();
    t.deepEqual((await at.cluster.fsck()).findings, []);
    await plant(at);
    const { findings, unsettled } = await at.cluster.fsck();
    const found = findings.map(({ problem }) => problem);
    t.deepEqual(found.filter((problem) => problem !== "notAsLogged").sort(), [...problems].sort());
    // None of it was logged.
    t.true(found.includes("notAsLogged"));
    t.deepEqual(unsettled, []);
  });
}
