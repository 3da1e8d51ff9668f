import {
  currentVersion,
  decodeInode,
  type Extent,
  encodeFragmentHeader,
  memberId,
  packInode,
  placeOf,
  SegmentClass,
  slotOf,
} from "@dazzle/core";
import type { Finding, FsckReport } from "@dazzle/fsck";
import { EntryKind, idKey } from "@dazzle/manager";
import { nodeName, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test, { type ExecutionContext } from "ava";
import { fragmentsOf } from "../src/scenario/rot.ts";
import { CALLER, hostOf, imapOf, LIMIT_MS, type Planted, planted, ROOT } from "./support/planted.ts";

/** In which everything is trimmed, and what nobody needs is deleted. */
const TRIMMED_MS = 5_000;

/** The first segment of the file. */
async function segmentOf({ cluster, file }: Planted): Promise<Extent> {
  return (await imapOf(cluster, file).region(file, 0))[0] as Extent;
}

/** Who has fragment `index` of a segment. */
function holderOf({ cluster }: Planted, { sequence, group }: Extent, index: number): number {
  const { servers } = currentVersion(cluster.node(1).map.current.groups.find(({ id }) => id === group) as never);
  return servers[placeOf(sequence, index, servers.length)]?.member as number;
}

/** One bit of a segment's data changes on a server's drive. */
function flip({ cluster }: Planted, { log, sequence }: Extent, number: number): void {
  const drive = cluster.world.drive(nodeName(number));
  const stored = fragmentsOf(drive, "storage").find(({ header }) => header.log === log && header.sequence === sequence);
  if (stored === undefined) throw new Error("the fragment lies on the drive");
  drive.flip(stored.path, stored.place.offset + stored.recordBytes - 1);
}

async function trimmed(parity: 1 | 2 = 1): Promise<Planted> {
  const at = await planted(1, parity);
  await at.cluster.world.advance(TRIMMED_MS);
  return at;
}

function loseAt(at: Planted, { log, sequence, group }: Extent, number: number): Promise<unknown> {
  const { version: groupVersion } = currentVersion(at.cluster.node(1).map.current.groups.find(({ id }) => id === group) as never);
  const request = { log, sequences: [sequence], trimmedTo: sequence, group, groupVersion };
  return at.cluster.world.run(at.cluster.node(1).peers.call(memberId(number), "delete", request), LIMIT_MS);
}

const problemsOf = ({ findings }: FsckReport) => findings.map(({ problem }: Finding) => problem).sort();

test("fsck sees that a server has lost a fragment", async (t) => {
  const at = await trimmed();
  const segment = await segmentOf(at);
  await loseAt(at, segment, holderOf(at, segment, 1));
  const report = await at.cluster.fsck();
  const subject = { log: segment.log, sequence: segment.sequence, server: nodeName(holderOf(at, segment, 1)), index: 1 };
  t.deepEqual(
    report.findings.map(({ problem, subject: of }) => [problem, of]),
    [["fragmentMissing", subject]],
  );
  t.deepEqual([report.lost, report.unsettled, report.unchecked], [[], [], []]);
});

test("fsck does not call repaired what a server has that falls silent before it is looked at again", async (t) => {
  const at = await trimmed();
  const segment = await segmentOf(at);
  const index = holderOf(at, segment, 0) === 1 ? 1 : 0;
  const number = holderOf(at, segment, index);
  flip(at, segment, number);
  const report = await at.cluster.fsck("data", true, (what, done) => {
    if (what === "what is repaired" && done === 1) at.cluster.kill(number);
  });
  t.deepEqual([problemsOf(report), report.repaired], [["fragmentDamaged"], []]);
  t.is(report.unchecked.length, 1, report.unchecked.join("; "));
});

test("fsck makes a lost fragment anew where it is to repair", async (t) => {
  const at = await trimmed();
  const segment = await segmentOf(at);
  await loseAt(at, segment, holderOf(at, segment, 1));
  const report = await at.cluster.fsck("headers", true);
  t.deepEqual([problemsOf(report), report.repaired.map(({ problem }) => problem)], [[], ["fragmentMissing"]]);
  const after = await at.cluster.fsck("data", true);
  t.deepEqual([problemsOf(after), after.repaired], [[], []]);
});

test("fsck leaves alone what is lost, also where it is to repair", async (t) => {
  const at = await trimmed();
  const segment = await segmentOf(at);
  for (const index of [0, 1]) await loseAt(at, segment, holderOf(at, segment, index));
  const report = await at.cluster.fsck("headers", true);
  t.deepEqual([problemsOf(report), report.repaired], [["fragmentMissing", "fragmentMissing", "segmentLost"], []]);
});

test("with two parities, fsck makes two lost fragments anew, and three are a loss", async (t) => {
  const at = await trimmed(2);
  const segment = await segmentOf(at);
  for (const lost of [
    [0, 1],
    [0, 2],
    [2, 3],
    [1, 3],
  ]) {
    for (const index of lost) await loseAt(at, segment, holderOf(at, segment, index));
    const report = await at.cluster.fsck("headers", true);
    t.deepEqual(
      [problemsOf(report), report.repaired.map(({ problem }) => problem)],
      [[], ["fragmentMissing", "fragmentMissing"]],
      `${lost}`,
    );
    t.deepEqual(problemsOf(await at.cluster.fsck("data")), [], `${lost}`);
  }
  for (const index of [0, 1, 3]) await loseAt(at, segment, holderOf(at, segment, index));
  const report = await at.cluster.fsck("headers", true);
  t.deepEqual(problemsOf(report), ["fragmentMissing", "fragmentMissing", "fragmentMissing", "segmentLost"]);
  t.deepEqual(report.lost, [{ ino: at.file, from: 0, to: 8_192, path: "/directory/file" }]);
});

test("fsck names the files of which two servers have lost too much", async (t) => {
  const at = await trimmed();
  const segment = await segmentOf(at);
  for (const index of [0, 1]) await loseAt(at, segment, holderOf(at, segment, index));
  const report = await at.cluster.fsck();
  t.deepEqual(problemsOf(report), ["fragmentMissing", "fragmentMissing", "segmentLost"]);
  t.deepEqual(report.lost, [{ ino: at.file, from: 0, to: 8_192, path: "/directory/file" }]);
});

test("fsck sees that nothing of a segment is left", async (t) => {
  const at = await trimmed();
  const segment = await segmentOf(at);
  for (const number of at.cluster.numbers) await loseAt(at, segment, number);
  const report = await at.cluster.fsck();
  t.deepEqual(problemsOf(report), ["segmentLost"]);
  t.is(report.lost.length, 1);
});

test("fsck sees a flipped bit in the data of a fragment where it reads everything", async (t) => {
  const at = await trimmed();
  const { log, sequence } = await segmentOf(at);
  const number = holderOf(at, await segmentOf(at), 0);
  flip(at, await segmentOf(at), number);
  t.deepEqual(problemsOf(await at.cluster.fsck()), []);
  const report = await at.cluster.fsck("data");
  t.deepEqual(problemsOf(report), ["fragmentDamaged"]);
  t.like(report.findings[0]?.subject, { log, sequence, server: nodeName(number), index: 0 });
  t.deepEqual(report.lost, []);
  const repairing = await at.cluster.fsck("data", true);
  t.deepEqual([problemsOf(repairing), repairing.repaired.map(({ problem }) => problem)], [[], ["fragmentDamaged"]]);
  t.deepEqual(problemsOf(await at.cluster.fsck("data")), []);
});

for (const [what, parity, index] of [
  ["fragments that contradict one another", 1, 0],
  ["a second parity that is not that of the data", 2, 3],
] as const)
  test(`fsck sees ${what}, each whole for itself`, (t) => seesContradiction(t, parity, index));

async function seesContradiction(t: ExecutionContext, parity: 1 | 2, index: number): Promise<void> {
  const at = await trimmed(parity);
  const segment = await segmentOf(at);
  const number = holderOf(at, segment, index);
  const { map, peers } = at.cluster.node(1);
  const { version } = currentVersion(map.current.groups[0] as never);
  const drive = at.cluster.world.drive(nodeName(number));
  const stored = fragmentsOf(drive, "storage").find(({ header }) => header.log === segment.log && header.sequence === segment.sequence);
  if (stored === undefined) throw new Error("the fragment lies on the drive");
  await loseAt(at, segment, number);
  const { header } = stored;
  const data = Buffer.alloc(header.dataFragments === 1 ? header.payloadBytes : header.fragmentBytes, 7);
  const tail = [encodeFragmentHeader({ ...header, groupVersion: version, trimmedTo: segment.sequence }, data), data];
  await at.cluster.world.run(peers.call(memberId(number), "restore", {}, { tail }), LIMIT_MS);
  t.deepEqual(problemsOf(await at.cluster.fsck("data")), ["contradiction"]);
}

test("fsck sees fragments that nobody needs", async (t) => {
  const at = await trimmed();
  const { map } = at.cluster.node(1);
  const log = at.mount.client.log;
  // What the mount did first has no bytes of files, and is deleted.
  const sequence = 1;
  const row = currentVersion(map.current.groups[0] as never);
  const data = Buffer.alloc(1_000, 3);
  const header = {
    ...{ log, sequence, group: 1, groupVersion: row.version, index: 0, class: SegmentClass.data },
    ...{ dataFragments: 1, parityFragments: 1, fragmentBytes: 4_096, payloadBytes: 1_000, summaryOffset: 500 },
    ...{ stableSequence: 1, trimmedTo: 1, clusterId: map.current.clusterId },
  };
  const server = row.servers[placeOf(sequence, 0, row.servers.length)]?.member as never;
  t.deepEqual(problemsOf(await at.cluster.fsck()), []);
  // What was deleted a moment ago it takes only once it has started anew.
  at.cluster.kill(server);
  await at.cluster.startNode(server);
  await at.cluster.world.advance(TRIMMED_MS);
  const { peers } = at.cluster.node(server === 1 ? 2 : 1);
  await at.cluster.world.run(peers.call(server, "restore", {}, { tail: [encodeFragmentHeader(header, data), data] }), LIMIT_MS);
  const { findings } = await at.cluster.fsck();
  t.deepEqual(
    findings.map(({ problem, subject }) => [problem, subject]),
    [["strayFragments", { log, sequence }]],
  );
});

test("fsck says which server it could not ask, and finds nothing wrong for that", async (t) => {
  const at = await trimmed();
  at.cluster.kill(3);
  const { findings, unchecked, counts } = await at.cluster.fsck();
  t.deepEqual(findings, []);
  t.is(unchecked.length, 1);
  t.regex(unchecked[0] as string, /^what node3 stores: it does not answer/);
  t.true(counts.segments > 0 && counts.files > 1);
  t.is((await at.cluster.world.run(Promise.resolve(at.files.lookup(CALLER, ROOT, "directory")), LIMIT_MS)).attributes.ino, at.directory);
});

test("fsck tells what names and counts say also where what is stored can't be looked at to the end", async (t) => {
  const at = await trimmed();
  const inode = decodeInode((await at.cluster.world.run(Promise.resolve(imapOf(at.cluster, at.file).inode(at.file)), LIMIT_MS)) as Buffer);
  const put = [{ key: idKey(EntryKind.inode, at.file), value: packInode({ ...inode, nlink: 2 }) }];
  await at.cluster.world.run(hostOf(at.cluster, at.file).amend(slotOf(at.file), [], put), LIMIT_MS);
  const { findings, unchecked } = await at.cluster.fsck("headers", false, (what) => {
    if (what === "what is stored") at.cluster.kill(1);
  });
  t.deepEqual(
    findings.map(({ problem, subject }) => [problem, subject]),
    [["linkCount", { ino: at.file }]],
  );
  t.true(
    unchecked.some((line) => line.startsWith("what is stored")),
    unchecked.join("; "),
  );
});

test("fsck looks at what the others store where a storage directory was emptied", async (t) => {
  const at = await trimmed(2);
  const segment = await segmentOf(at);
  const [damaged, emptied] = [0, 1, 2].map((index) => holderOf(at, segment, index)).filter((number) => number !== 1) as [number, number];
  flip(at, segment, damaged);
  at.cluster.emptyStorage(emptied);
  await at.cluster.startNode(emptied);
  const report = await at.cluster.fsck("data", true);
  t.deepEqual(
    report.findings.map(({ problem, subject }) => [problem, subject.server]),
    [["map", nodeName(emptied)]],
  );
  t.deepEqual(report.unsettled, []);
  t.deepEqual(
    report.repaired.map(({ problem, subject }) => [problem, subject.server]),
    [["fragmentDamaged", nodeName(damaged)]],
  );
  t.is(report.unchecked.length, 1, report.unchecked.join("; "));
  t.regex(report.unchecked[0] as string, new RegExp(`^what ${nodeName(emptied)} stores: .*another storage directory`));
  t.true(report.counts.segments > 0);
});

test("fsck says that nobody serves the slots, and finds nothing wrong for that", async (t) => {
  const world = new World(7);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, managers: 1, keepers: 3, parity: 1 });
  await cluster.startAll();
  const isKept = (number: number) => {
    const { keepers, formerKeepers } = cluster.node(number).map.current;
    return keepers.length === 3 && formerKeepers.length === 0;
  };
  await world.run(() => cluster.numbers.every(isKept), LIMIT_MS);
  cluster.kill(1);
  const { findings, unchecked } = await cluster.fsck();
  t.deepEqual(findings, []);
  for (const what of ["names", "files", "what the logs say", "what is stored"])
    t.true(
      unchecked.some((line) => line.startsWith(what)),
      `${what}: ${unchecked.join("; ")}`,
    );
});
