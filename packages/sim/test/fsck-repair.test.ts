import { decodeInode, type Extent, type FileSystem, type Inode, joined, packExtents, packInode, slotOf } from "@dazzle/core";
import type { FsckReport, Problem } from "@dazzle/fsck";
import { behindPrefix, EntryKind, idKey, nameKey, numberKey, packEntry, packLive, unpackLive } from "@dazzle/manager";
import { History, type SimCluster, Workload } from "@dazzle/sim";
import test, { type ExecutionContext } from "ava";
import { CALLER, hostOf, imapOf, LIMIT_MS, type Planted, planted, ROOT, started } from "./support/planted.ts";

const FILE_BYTES = 8_192;
const NOWHERE = 64_000 + 7;
const SETTLED_MS = 5_000;
/** Of a name that is not there. */
const NONE = 0;

/** Damage that is logged: nothing tells it from what a broken manager would have logged. */
function damage({ cluster }: Planted, ino: number, entries: ReadonlyArray<readonly [Buffer, Buffer | null]>): Promise<boolean> {
  const put = entries.map(([key, value]) => ({ key, value }));
  return cluster.world.run(hostOf(cluster, ino).amend(slotOf(ino), [], put), LIMIT_MS);
}

const nameOf = (directory: number, name: string) => nameKey(EntryKind.entry, directory, name);
const inodeKey = (ino: number) => idKey(EntryKind.inode, ino);

async function inodeOf({ cluster }: Planted, ino: number): Promise<Inode> {
  return decodeInode((await cluster.world.run(Promise.resolve(imapOf(cluster, ino).inode(ino)), LIMIT_MS)) as Buffer);
}

async function changed(at: Planted, ino: number, change: Partial<Inode>): Promise<readonly [Buffer, Buffer]> {
  return [inodeKey(ino), packInode({ ...(await inodeOf(at, ino)), ...change })];
}

async function extentOf({ cluster, file }: Planted): Promise<Extent> {
  return (await cluster.world.run(Promise.resolve(imapOf(cluster, file).region(file, 0)), LIMIT_MS))[0] as Extent;
}

/** An index number and a file's bytes, as the mount has them that had everything in its caches before. */
async function lookedUp(at: Planted, path: string): Promise<{ ino: number; links: number; bytes: Buffer | undefined }> {
  const { world } = at.cluster;
  const walk = async () => {
    let { attributes } = await at.files.getAttributes(CALLER, ROOT, undefined);
    for (const name of path.split("/")) ({ attributes } = await at.files.lookup(CALLER, attributes.ino, name));
    const { ino, mode, size, nlink } = attributes;
    if (mode >> 12 !== 8) return { ino, links: nlink, bytes: undefined };
    const { handle } = await at.files.open(CALLER, ino, 0);
    const bytes = Buffer.from(joined(await at.files.read(CALLER, ino, handle, 0, size)));
    await at.files.release(ino, handle, undefined);
    return { ino, links: nlink, bytes };
  };
  return world.run(walk(), LIMIT_MS);
}

const WRITTEN = Buffer.alloc(FILE_BYTES, 1);

interface Plant {
  readonly what: string;
  plant(at: Planted): Promise<unknown>;
  /** What is made good, each once or more often. */
  readonly problems: readonly Problem[];
  /** What is there afterwards. */
  check(t: ExecutionContext, at: Planted): Promise<void>;
}

async function fileIsThere(t: ExecutionContext, at: Planted, path = "directory/file", links = 1): Promise<void> {
  t.deepEqual(await lookedUp(at, path), { ino: at.file, links, bytes: WRITTEN });
}

const PLANTS: readonly Plant[] = [
  {
    what: "a link count that is too high",
    plant: async (at) => damage(at, at.file, [await changed(at, at.file, { nlink: 2 })]),
    problems: ["linkCount"],
    check: fileIsThere,
  },
  {
    what: "a link count of none, of a file that is to go when it is closed",
    plant: async (at) =>
      damage(at, at.file, [await changed(at, at.file, { nlink: 0 }), [idKey(EntryKind.orphan, at.file), Buffer.alloc(8)]]),
    problems: ["linkCount"],
    check: fileIsThere,
  },
  {
    what: "a directory's link count",
    plant: async (at) => damage(at, at.directory, [await changed(at, at.directory, { nlink: 9 })]),
    problems: ["linkCount"],
    check: async (t, at) => t.is((await lookedUp(at, "directory")).links, 3),
  },
  {
    what: "a name that leads nowhere",
    plant: (at) => damage(at, at.directory, [[nameOf(at.directory, "lost"), packEntry({ child: NOWHERE, type: 8 })]]),
    problems: ["missingFile"],
    check: async (t, at) => {
      t.is((await lookedUp(at, "directory/lost")).ino, NONE);
      await fileIsThere(t, at);
    },
  },
  {
    what: "a file that no name leads to",
    plant: (at) => damage(at, at.directory, [[nameOf(at.directory, "file"), null]]),
    problems: ["nameless"],
    check: async (t, at) => fileIsThere(t, at, `lost+found/${at.file}`),
  },
  {
    what: "a directory that no name leads to",
    plant: (at) => damage(at, at.directory, [[nameOf(at.directory, "inner"), null]]),
    problems: ["nameless", "linkCount"],
    check: async (t, at) => t.is((await lookedUp(at, `lost+found/${at.inner}/deeper`)).ino, at.deeper),
  },
  {
    what: "a file without links and names that is not known to be open",
    plant: async (at) => {
      await damage(at, at.directory, [[nameOf(at.directory, "file"), null]]);
      await damage(at, at.file, [await changed(at, at.file, { nlink: 0 })]);
    },
    problems: ["orphan"],
    check: async (t, at) => fileIsThere(t, at, `lost+found/${at.file}`),
  },
  {
    what: "an orphan that has links",
    plant: (at) => damage(at, at.file, [[idKey(EntryKind.orphan, at.file), Buffer.alloc(8)]]),
    problems: ["orphan"],
    check: fileIsThere,
  },
  {
    what: "a name of another type",
    plant: (at) => damage(at, at.directory, [[nameOf(at.directory, "file"), packEntry({ child: at.file, type: 10 })]]),
    problems: ["entryType"],
    check: fileIsThere,
  },
  {
    what: "directories within one another",
    plant: async (at) => {
      await damage(at, at.directory, [[nameOf(at.directory, "inner"), null]]);
      await damage(at, at.deeper, [[nameOf(at.deeper, "inner"), packEntry({ child: at.inner, type: 4 })]]);
    },
    problems: ["loop", "linkCount"],
    check: async (t, at) => {
      const lost = Math.min(at.inner, at.deeper);
      const other = lost === at.inner ? "deeper" : "inner";
      t.is((await lookedUp(at, `lost+found/${lost}/${other}`)).ino, at.inner + at.deeper - lost);
    },
  },
  {
    what: "a directory with two names",
    plant: (at) => damage(at, at.deeper, [[nameOf(at.deeper, "again"), packEntry({ child: at.directory, type: 4 })]]),
    problems: ["severalNames", "linkCount"],
    check: async (t, at) => {
      t.is((await lookedUp(at, "directory/inner/deeper")).ino, at.deeper);
      t.is((await lookedUp(at, "directory/inner/deeper/again")).ino, NONE);
    },
  },
  {
    what: "a directory that says another parent",
    plant: async (at) => damage(at, at.deeper, [await changed(at, at.deeper, { parent: ROOT })]),
    problems: ["wrongParent"],
    check: async (t, at) => t.is((await lookedUp(at, "directory/inner/deeper/..")).ino, at.inner),
  },
  {
    what: "a directory that is gone from under its names",
    plant: async (at) => {
      await damage(at, at.directory, [[inodeKey(at.directory), null]]);
      await damage(at, ROOT, [[nameOf(ROOT, "directory"), null]]);
    },
    problems: ["strayEntries", "linkCount"],
    check: async (t, at) => {
      await fileIsThere(t, at, `lost+found/${at.directory}/file`);
      t.is((await lookedUp(at, `lost+found/${at.directory}/inner/deeper`)).ino, at.deeper);
    },
  },
  {
    what: "names that are kept for a file",
    plant: (at) => damage(at, at.file, [[nameOf(at.file, "stray"), packEntry({ child: NOWHERE, type: 8 })]]),
    problems: ["strayEntries"],
    check: fileIsThere,
  },
  {
    what: "no root",
    plant: (at) => damage(at, ROOT, [[inodeKey(ROOT), null]]),
    problems: ["noRoot"],
    check: fileIsThere,
  },
  {
    what: "a file that is gone from over its bytes",
    plant: async (at) => {
      await damage(at, at.file, [[inodeKey(at.file), null]]);
      await damage(at, at.directory, [[nameOf(at.directory, "file"), null]]);
    },
    problems: ["strayExtents"],
    check: async (t, at) => fileIsThere(t, at, `lost+found/${at.file}`),
  },
  {
    what: "a file that is gone from between its name and its bytes",
    plant: (at) => damage(at, at.file, [[inodeKey(at.file), null]]),
    problems: ["strayExtents"],
    check: fileIsThere,
  },
  {
    what: "a file that says it never had the attributes it has",
    plant: async (at) => damage(at, at.file, [await changed(at, at.file, { noAttributes: true })]),
    problems: ["hiddenAttributes"],
    check: async (t, at) => {
      const value = at.cluster.world.run(Promise.resolve(at.files.getExtendedAttribute(CALLER, at.file, "user.a")), LIMIT_MS);
      t.is(Buffer.from(await value).toString(), "1");
    },
  },
  {
    what: "a file that ends before its extents",
    plant: async (at) => damage(at, at.file, [await changed(at, at.file, { size: 5_000 })]),
    problems: ["badExtents"],
    check: fileIsThere,
  },
  {
    what: "extents that overlap",
    plant: async (at) => {
      const first = await extentOf(at);
      await damage(at, at.file, [[numberKey(EntryKind.extents, at.file, 0), packExtents([first, { ...first, length: 4_096 }])]]);
    },
    problems: ["badExtents"],
    check: fileIsThere,
  },
  {
    what: "live bytes that are too many",
    plant: async (at) => {
      const { log, sequence } = await extentOf(at);
      const slots = { low: 0xffffffff, high: 0xffffffff };
      await damage(at, at.file, [[numberKey(EntryKind.live, log, sequence), packLive({ bytes: FILE_BYTES + 1, slots })]]);
    },
    problems: ["liveBytes"],
    check: fileIsThere,
  },
  {
    what: "live bytes of a segment that nothing refers to",
    plant: (at) => {
      const slots = { low: 0xffffffff, high: 0xffffffff };
      return damage(at, at.file, [[numberKey(EntryKind.live, 3, 1_000_000), packLive({ bytes: 1, slots })]]);
    },
    problems: ["liveBytes"],
    check: fileIsThere,
  },
];

const told = ({ findings, unsettled, unchecked, lost }: FsckReport) => ({ findings, unsettled, unchecked, lost });
const CLEAN = { findings: [], unsettled: [], unchecked: [], lost: [] };

for (const [index, { what, plant, problems, check }] of PLANTS.entries()) {
  const managers = index % 2 === 0 ? 1 : 3;
  test(`fsck repairs ${what}, managers=${managers}`, async (t) => {
    const at = await planted(managers);
    await at.cluster.world.advance(SETTLED_MS);
    await plant(at);
    const repaired = await at.cluster.fsck("headers", true);
    t.deepEqual(told(repaired), CLEAN);
    for (const problem of problems)
      t.true(
        repaired.repaired.some((finding) => finding.problem === problem),
        problem,
      );
    await check(t, at);
    const again = await at.cluster.fsck("headers", true);
    t.deepEqual([told(again), again.repaired], [CLEAN, []]);

    // As it was logged.
    for (const number of at.cluster.numbers) at.cluster.kill(number);
    await at.cluster.startAll();
    await check(t, at);
    t.deepEqual(told(await at.cluster.fsck()), CLEAN);
  });
}

test("fsck does not call repaired what it could not look at again", async (t) => {
  const at = await planted(1);
  await at.cluster.world.advance(SETTLED_MS);
  await damage(at, at.directory, [[nameOf(at.directory, "file"), null], await changed(at, at.directory, { nlink: 9 })]);
  let looked = false;
  const report = await at.cluster.fsck("headers", true, (what) => {
    looked ||= what === "files";
    if (looked && what === "names") at.cluster.kill(1);
  });
  t.deepEqual([report.findings.map(({ problem }) => problem).sort(), report.repaired], [["linkCount", "nameless"], []]);
  t.true(
    report.unchecked.some((line) => line.startsWith("names: ")),
    report.unchecked.join("; "),
  );
});

test("fsck does not call repaired what changes each time it is looked at again", async (t) => {
  const at = await planted(1);
  await at.cluster.world.advance(SETTLED_MS);
  const [key, value] = await changed(at, at.directory, { nlink: 9 });
  await damage(at, at.directory, [[key, value]]);
  let nlink = 9;
  let looked = false;
  const report = await at.cluster.fsck("headers", true, (what, done) => {
    looked ||= what === "files";
    if (!looked || what !== "names" || done > 0) return;
    const put = [{ key, value: packInode({ ...decodeInode(value), nlink: ++nlink }) }];
    void hostOf(at.cluster, at.directory).amend(slotOf(at.directory), [], put);
  });
  t.deepEqual([report.findings, report.repaired, report.unsettled.map(({ problem }) => problem)], [[], [], ["linkCount"]]);
});

async function rewritten(at: Planted, files: FileSystem, bytes: Buffer): Promise<void> {
  const { handle } = await files.open(CALLER, at.file, 2);
  await files.write(CALLER, at.file, handle, 0, bytes, { open: 2, killPrivileges: false });
  await files.release(at.file, handle, undefined);
}

test("fsck tells of extents of two logs that overlap, and drops neither: sequences say nothing across logs", async (t) => {
  const at = await planted(1);
  const { world } = at.cluster;
  for (let round = 0; round < 5; round++) {
    await world.run(rewritten(at, at.files, Buffer.alloc(FILE_BYTES, 2)), LIMIT_MS);
    await world.run(at.mount.client.sync(), LIMIT_MS);
  }
  const later = await at.cluster.mount();
  await world.run(rewritten(at, later.fileSystem, Buffer.alloc(4_096, 3)), LIMIT_MS);
  await world.run(later.client.sync(), LIMIT_MS);
  await world.advance(SETTLED_MS);
  const [newer, rest] = (await world.run(Promise.resolve(imapOf(at.cluster, at.file).region(at.file, 0)), LIMIT_MS)) as [Extent, Extent];
  const older = { ...rest, block: 0, offset: rest.offset - 4_096, length: FILE_BYTES };
  t.true(newer.log !== older.log && newer.sequence < older.sequence, `${newer.log}/${newer.sequence} and ${older.log}/${older.sequence}`);

  await damage(at, at.file, [[numberKey(EntryKind.extents, at.file, 0), packExtents([newer, older])]]);
  const { findings, repaired } = await at.cluster.fsck("headers", true);
  t.deepEqual(
    findings.map(({ problem, subject }) => [problem, subject]),
    [["badExtents", { ino: at.file }]],
  );
  t.deepEqual(
    repaired.map(({ problem, subject }) => [problem, subject.log, subject.sequence]),
    [["liveBytes", older.log, older.sequence]],
  );
  t.deepEqual(await world.run(Promise.resolve(imapOf(at.cluster, at.file).region(at.file, 0)), LIMIT_MS), [newer, older]);
});

/** How far the other one is behind, so that it acts on what the first has put right. */
const BEHIND_MS = [4, 15, 60];

for (const what of [
  "a file that no name leads to",
  "directories within one another",
  "a directory that is gone from under its names, which are kept",
  "a file that is gone from over its bytes",
  "extents that overlap",
  "live bytes that are too many",
])
  for (const behindMs of BEHIND_MS)
    test(`two repairs side by side, ${behindMs} ms apart, leave each other's alone: ${what}`, async (t) => {
      const at = await planted(1);
      const { world } = at.cluster;
      await world.advance(SETTLED_MS);
      const plant = PLANTS.find((one) => one.what === what);
      await (plant?.plant(at) ?? damage(at, at.directory, [[inodeKey(at.directory), null]]));
      const one = at.cluster.launchFsck("headers", true);
      await world.advance(behindMs);
      const reports = await world.run(Promise.all([one, at.cluster.launchFsck("headers", true)]), LIMIT_MS);
      t.deepEqual(reports.map(told), [CLEAN, CLEAN]);
      await (plant?.check(t, at) ?? fileIsThere(t, at));
      t.deepEqual(told(await at.cluster.fsck()), CLEAN);
    });

for (const seed of [1, 2]) {
  test(`repairing beside two mounts that work puts counts right, and nothing wrong, seed=${seed}`, async (t) => {
    const { world, cluster } = await started(seed, 3);
    const mounts = [await cluster.mount(), await cluster.mount()];
    const history = new History(ROOT, { mode: 0o755, uid: 0, gid: 0 });
    const workloads = mounts.map(({ client: { fileSystem } }, index) => {
      const random = world.random.fork(`w${index}`);
      return new Workload({ fileSystem, history, mount: `m${index}`, random, fileBytes: 20_000 });
    });
    let over = false;
    const working = (async () => {
      for (let step = 0; step < 400 && !over; step++) await (world.random.pick(workloads) as Workload).step();
    })();
    const problems = new Set<Problem>();
    let counted = 0;
    for (let round = 0; round < 3; round++) {
      await world.advance(SETTLED_MS);
      counted += await world.run(miscount(cluster), LIMIT_MS);
      const { findings, repaired, unchecked } = await cluster.fsck("headers", true);
      t.deepEqual([findings, unchecked], [[], []]);
      for (const { problem } of repaired) problems.add(problem);
    }
    over = true;
    await world.run(working, LIMIT_MS);
    t.true(counted > 0);
    t.deepEqual([...problems], ["liveBytes"]);
    const { findings, repaired, unsettled } = await cluster.fsck("data", true);
    t.deepEqual([findings, repaired, unsettled], [[], [], []]);
  });
}

/** In each slot the live bytes of one segment become one more. Answers of how many. */
async function miscount(cluster: SimCluster): Promise<number> {
  let counted = 0;
  for (const { slot, imap } of cluster.numbers.flatMap((number) => [...(cluster.node(number).manager?.parts.host.shards ?? [])])) {
    const kind = Buffer.of(EntryKind.live);
    for await (const [key, value] of imap.everything(kind, behindPrefix(kind))) {
      const { bytes, slots } = unpackLive(value);
      const put = { key, value: packLive({ bytes: bytes + 1, slots }) };
      if (await hostOf(cluster, slot).amend(slot, [{ key, value }], [put])) counted++;
      break;
    }
  }
  return counted;
}
