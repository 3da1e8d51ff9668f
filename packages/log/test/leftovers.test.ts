import { currentVersion, findGroup, type GroupVersion, joined, type MemberId, withGroup } from "@dazzle/core";
import { deleteLeftovers } from "@dazzle/log";
import test from "ava";
import { alone, grow } from "./support/alone.ts";
import { Cluster, GROUP } from "./support/cluster.ts";
import { freeze, moveAll } from "./support/moving.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const SEGMENTS = 9;
const BACK = 4;
/** As the others know it by then. */
const TRIMMED = 5;

/** A server was declared lost, the others have moved what they could, and it is back, in no group. `others` were lost with it. */
async function cameBack(seed: number, others: readonly number[] = []): Promise<{ cluster: Cluster; written: Written[] }> {
  const cluster = await Cluster.start({ seed, servers: 5 });
  const writer = cluster.writer();
  const written: Written[] = [];
  for (let sequence = 1; sequence <= SEGMENTS; sequence++) {
    written.push(writeSegment(writer, sequence % 2 === 0 ? 200 : 60 * KIB));
    await cluster.run(writer.flush(sequence));
  }
  const lost = [BACK, ...others];
  const before = cluster.map.members;
  for (const member of lost) cluster.server(member).kill();
  cluster.change((map) => ({ ...map, members: map.members.map((row) => (lost.includes(row.id) ? { ...row, store: null } : row)) }));
  const wanted = ([1, 2, 3, 5] as MemberId[]).filter((id) => !others.includes(id));
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const servers = currentVersion(group).servers.filter(({ member }) => wanted.includes(member));
    const row = { version: 2 as GroupVersion, servers, dataFragments: servers.length - 1, parityFragments: 1, frozen: null };
    return withGroup(map, { ...group, wanted, versions: [...group.versions, row] });
  });
  await freeze(cluster);
  await moveAll(cluster, { members: wanted, needed: { live: null, trimmedTo: TRIMMED } });
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    return withGroup(map, { ...group, versions: group.versions.slice(-1) });
  });
  cluster.change((map) => ({ ...map, members: map.members.map((row) => (row.id === BACK ? (before[BACK - 1] as typeof row) : row)) }));
  await cluster.run(cluster.server(BACK).start());
  return { cluster, written };
}

async function tidy(cluster: Cluster, needed: { readonly live: ReadonlySet<number> | null; readonly trimmedTo: number }): Promise<number> {
  const client = cluster.client();
  await cluster.run(client.options.map.refresh());
  const options = { ...client.options, self: BACK as MemberId, needed: async () => needed };
  await cluster.run(deleteLeftovers(options, findGroup(cluster.map, GROUP)));
  return cluster.server(BACK).store.stat().fragments;
}

test("what a server held that was declared lost and is back is deleted there once it is trimmed: it is whole elsewhere", async (t) => {
  const { cluster, written } = await cameBack(301);
  const { fragments } = cluster.server(BACK).store.stat();
  const between = await tidy(cluster, { live: null, trimmedTo: 0 });
  t.true(between > 0 && between < fragments, `${fragments} ${between}`);
  t.is(await tidy(cluster, { live: null, trimmedTo: SEGMENTS }), 0);
  const reader = cluster.reader();
  for (const { address, bytes } of written) t.true(joined(await cluster.run(reader.read(address))).equals(bytes));
});

test("what is whole nowhere stays there as long as managers need it", async (t) => {
  const { cluster } = await cameBack(302, [5]);
  const left = await tidy(cluster, { live: null, trimmedTo: SEGMENTS });
  t.true(left > 0);
  t.is(await tidy(cluster, { live: new Set([1, 2, 3, 4, 5, 6, 7, 8, 9]), trimmedTo: SEGMENTS }), left);
  t.is(await tidy(cluster, { live: new Set(), trimmedTo: SEGMENTS }), 0);
});

test("of a segment that is deleted between the moments when it is read and when it is stored anew nothing is left", async (t) => {
  const cluster = await alone(81);
  const client = cluster.client();
  const writer = cluster.writer({ client });
  for (const bytes of [20 * KIB, 1_000]) writeSegment(writer, bytes);
  await cluster.run(writer.flush(2));
  grow(cluster);
  await freeze(cluster);
  await cluster.run(client.options.map.refresh());
  const { peers } = client.options;
  const everywhere = <T>(ask: (member: MemberId) => Promise<T>) => Promise.all(cluster.servers.map((_, at) => ask((at + 1) as MemberId)));
  const request = { log: writer.log, sequences: [1, 2], trimmedTo: 2, group: -1, groupVersion: -1 };
  let deleting: Promise<unknown> | null = null;
  for (const server of cluster.servers)
    server.intercept = async (message, _request, _context, next) => {
      if (message === "restore") {
        deleting ??= everywhere((member) => peers.call(member, "delete", request, { deadlineMs: 10_000 }));
        await deleting;
      }
      return next();
    };
  t.is((await moveAll(cluster, { members: [1], needed: { live: null, trimmedTo: 2 } })).failed, 2);
  t.not(deleting, null);
  const listed = everywhere((member) => peers.call(member, "list", { log: writer.log, after: 0, limit: 10 }, { deadlineMs: 10_000 }));
  for (const { reply } of await cluster.run(listed)) t.deepEqual(reply.fragments, []);
});
