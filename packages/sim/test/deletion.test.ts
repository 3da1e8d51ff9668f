import { currentVersion, encodeFragmentHeader, findLog, type GroupServer, LIMITS, memberId, placeOf, SegmentClass } from "@dazzle/core";
import { nodeName, SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { heldFragments } from "../src/scenario/segments.ts";
import { CALLER, ROOT, writeFile } from "./support/files.ts";
import { SentMessages } from "./support/sent-messages.ts";

const LIMIT_MS = 600_000;
const BACK_MS = 60_000;
/** As shipped, but for small full segments: beside larger ones a cleaner would merge files in segments of their own, and read them for that. */
const LARGE_LIMITS = { ...LIMITS, fragmentBytes: SMALL_LIMITS.fragmentBytes, mirrorBytes: SMALL_LIMITS.mirrorBytes };
const FILE_BYTES = 4_000;
const FEW = 100;
/** 50,000 full segments of the shipped limits are 100 GB. */
const MANY = process.env.DAZZLE_LONG === "1" ? 50_000 : 2_000;
const PAGE = 4_096;
/** Of what deletes segments: who asks whether they are needed, and who has them deleted. */
const OF_DELETION = ["liveAmong", "list", "listLogs", "delete"];
/** Segments that are judged and deleted together, each by messages to three others. */
const TOGETHER = 1_000;
const OTHERS = 3;

/** One file in so many stays. */
const STAYS = 10;

/** So many small files, each in a segment of its own, of which nearly all are removed at once. Answers what that took. */
async function removed(files: number) {
  const sent = new SentMessages();
  const world = new World(files);
  const cluster = new SimCluster(world, {
    limits: LARGE_LIMITS,
    nodes: 4,
    parity: 1,
    managers: 2,
    cleaners: 1,
    disguise: sent.disguise,
  });
  await cluster.startAll();
  const run = <T>(action: () => T | Promise<T>) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  const { client } = await cluster.mount(4);
  const { fileSystem } = client;
  for (let file = 0; file < files; file++) await run(() => writeFile(fileSystem, `f${file}`, Buffer.alloc(FILE_BYTES, file)));
  const log = cluster.node(1).map.current.logs.find(({ kind }) => kind === "mount")?.id ?? 0;
  const stored = async () => {
    const sequences = new Set<number>();
    for (const number of cluster.numbers)
      for (let after = 0, more = true; more; ) {
        const { reply } = await cluster.node(number).peers.call(memberId(number), "list", { log, after, limit: PAGE });
        for (const { sequence } of reply.fragments) sequences.add(sequence);
        more = reply.more;
        after = reply.fragments.at(-1)?.sequence ?? after;
      }
    return sequences.size;
  };
  const usedBytes = () => {
    const drives = cluster.numbers.map((number) => world.drive(nodeName(number)));
    return drives.reduce((sum, { capacityBytes, freeBytes }) => sum + capacityBytes - freeBytes, 0);
  };
  const before = await run(stored);
  const bytesBefore = usedBytes();
  sent.clear();
  for (let file = 0; file < files; file++) if (file % STAYS > 0) await run(() => fileSystem.unlink(CALLER, ROOT, `f${file}`));
  await run(() => client.sync());
  const beganMs = world.nowMs;
  await run(async () => {
    // What the mount wrote last, to remove the files, stays until it writes again.
    while ((await stored()) > before / 5) await new Promise<void>((resolve) => world.after(1_000, resolve));
  });
  const tookMs = world.nowMs - beganMs;
  const backBytes = bytesBefore - usedBytes();
  return { before, backBytes, tookMs, messages: sent.of(...OF_DELETION), reads: sent.of(`read ${log}`), sent };
}

test("many small segments that die at once are gone within a minute, unread, and judged and deleted a thousand at a time", async (t) => {
  t.timeout(LIMIT_MS);
  const beganMs = performance.now();
  const few = await removed(FEW);
  const many = await removed(MANY);
  t.log(`${((performance.now() - beganMs) / 1_000).toFixed(0)} s, ${(process.memoryUsage().rss / 1e6).toFixed(0)} MB of memory`);
  for (const { before, backBytes, tookMs, messages, sent } of [few, many])
    t.log(`${before} segments, ${(backBytes / 1e6).toFixed(1)} MB: ${messages} messages, ${Math.round(tookMs)} ms\n${sent}`);
  t.true(many.before >= 0.9 * MANY);
  for (const { reads, tookMs } of [few, many]) {
    t.is(reads, 0);
    t.true(tookMs < BACK_MS);
  }
  t.true(many.backBytes > 2 * FILE_BYTES * 0.8 * many.before, "their space is back on the disks");
  t.true(many.messages <= 2 * few.messages + 20 + (2 * OTHERS * MANY) / TOGETHER, "they are asked about, and deleted, together");
});

test("what a dead mount stored past the end of its log is deleted, also where files live in the log", async (t) => {
  const world = new World(1);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1, managers: 2 });
  await cluster.startAll();
  const { client, instance } = await cluster.mount();
  const { log } = client;
  await world.run(writeFile(client.fileSystem, "f", "it lives"), LIMIT_MS);
  // The managers have looked through everything since they began.
  await world.advance(BACK_MS);
  const { map, peers } = cluster.node(1);
  const held = async () => (await heldFragments(cluster)).filter((fragment) => fragment.log === log).map(({ sequence }) => sequence);
  const last = Math.max(...(await world.run(held(), LIMIT_MS)));
  const row = currentVersion(map.current.groups[0] as never);
  const data = Buffer.alloc(1_000, 3);
  const header = {
    ...{ log, sequence: last + 2, group: 1, groupVersion: row.version, index: 0, class: SegmentClass.data },
    ...{ dataFragments: 1, parityFragments: 1, fragmentBytes: 4_096, payloadBytes: 1_000, summaryOffset: 500 },
    ...{ stableSequence: 0, trimmedTo: 0, clusterId: map.current.clusterId },
  };
  const { member } = row.servers[placeOf(header.sequence, 0, row.servers.length)] as GroupServer;
  const tail = [encodeFragmentHeader(header, data), data];
  await world.run(peers.call(member, "store", { class: SegmentClass.data, sync: true }, { tail }), LIMIT_MS);
  t.true((await world.run(held(), LIMIT_MS)).includes(header.sequence));
  instance.kill();
  await world.run(() => findLog(map.current, log)?.state === "closed", LIMIT_MS);
  t.is(findLog(map.current, log)?.end, last);
  await world.advance(BACK_MS);
  const left = await world.run(held(), LIMIT_MS);
  t.true(left.length > 0);
  t.false(left.includes(header.sequence), "nobody needs it");
});
