import { currentVersion, encodeFragmentHeader, findLog, type GroupServer, memberId, placeOf, SegmentClass } from "@dazzle/core";
import { SimCluster, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";
import { heldFragments } from "../src/scenario/segments.ts";
import { CALLER, ROOT, writeFile } from "./support/files.ts";
import { SentMessages } from "./support/sent-messages.ts";

const LIMIT_MS = 600_000;
const BACK_MS = 60_000;
const FILE_BYTES = 6_000;
/** Of what deletes segments: who asks whether they are needed, and who has them deleted. */
const OF_DELETION = ["liveAmong", "list", "listLogs", "delete"];

/** One file in so many stays. */
const STAYS = 10;

/** So many small files, each in a segment of its own, of which nearly all are removed at once. Answers what that took. */
async function removed(files: number) {
  const sent = new SentMessages();
  const world = new World(files);
  const cluster = new SimCluster(world, {
    limits: SMALL_LIMITS,
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
  const [log] = cluster.node(1).map.current.logs.filter(({ kind }) => kind === "mount");
  const stored = async () => {
    const pages = await Promise.all(
      cluster.numbers.map((number) =>
        cluster.node(number).peers.call(memberId(number), "list", { log: log?.id ?? 0, after: 0, limit: 4_096 }),
      ),
    );
    return new Set(pages.flatMap(({ reply }) => reply.fragments.map(({ sequence }) => sequence))).size;
  };
  const before = await run(stored);
  sent.clear();
  for (let file = 0; file < files; file++) if (file % STAYS > 0) await run(() => fileSystem.unlink(CALLER, ROOT, `f${file}`));
  await run(() => client.sync());
  const beganMs = world.nowMs;
  await run(async () => {
    // What the mount wrote last, to remove the files, stays until it writes again.
    while ((await stored()) > before / 5) await new Promise<void>((resolve) => world.after(1_000, resolve));
  });
  return { before, tookMs: world.nowMs - beganMs, messages: sent.of(...OF_DELETION), reads: sent.of(`read ${log?.id}`), sent };
}

test("many small segments that die at once are gone within a minute, unread, for as many messages as few of them", async (t) => {
  const few = await removed(100);
  const many = await removed(800);
  t.log(`${few.before} segments: ${few.messages} messages, ${few.tookMs} ms; ${many.before}: ${many.messages}, ${many.tookMs} ms`);
  t.log(`${few.sent}\n${many.sent}`);
  t.true(many.before >= 7 * few.before);
  for (const { reads, tookMs } of [few, many]) {
    t.is(reads, 0);
    t.true(tookMs < BACK_MS);
  }
  t.true(many.messages <= 2 * few.messages + 20, "they are asked about, and deleted, together");
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
