import {
  currentVersion,
  findGroup,
  type GroupServer,
  type GroupVersion,
  joined,
  type MemberId,
  type MessageName,
  withGroup,
} from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { Cluster, GROUP } from "./support/cluster.ts";
import { freeze, heldUnder, moveAll } from "./support/moving.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const SEGMENTS = 12;
const NEEDED = { live: null, trimmedTo: SEGMENTS };

/** The group goes on over these members' stores, in these places. */
function regroup(cluster: Cluster, members: readonly number[], parityFragments: number): void {
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const servers = members.map((id): GroupServer => {
      const row = map.members.find((member) => member.id === id) as { id: MemberId; store: GroupServer["store"] };
      return { member: row.id, store: row.store };
    });
    const version = (currentVersion(group).version + 1) as GroupVersion;
    const dataFragments = servers.length - parityFragments;
    const wanted = members as MemberId[];
    return withGroup(map, {
      ...group,
      wanted,
      versions: [...group.versions, { version, servers, dataFragments, parityFragments, frozen: null }],
    });
  });
}

/** A group over the first `places` members, in which the second is dead and replaced by the last member. */
async function replaced(
  seed: number,
  places: number,
  parity: number,
): Promise<{ cluster: Cluster; written: Written[]; members: number[] }> {
  const cluster = await Cluster.start({ seed, servers: places + 1, parity });
  const before = Array.from({ length: places }, (_, index) => index + 1);
  regroup(cluster, before, parity);
  const client = cluster.client();
  await cluster.run(client.options.map.refresh());
  const writer = cluster.writer({ client });
  const written: Written[] = [];
  for (let sequence = 1; sequence <= SEGMENTS; sequence++) {
    written.push(writeSegment(writer, [200, 14 * KIB, 14 * KIB * (places - parity)][sequence % 3] as number));
    await cluster.run(writer.flush(sequence));
  }
  cluster.server(2).crash();
  const members = before.map((member) => (member === 2 ? places + 1 : member));
  regroup(cluster, members, parity);
  await freeze(cluster);
  return { cluster, written, members };
}

function counted(cluster: Cluster): Map<MessageName, number[]> {
  const counts = new Map<MessageName, number[]>();
  for (const { member } of cluster.servers)
    cluster.server(member).intercept = (message, _request, _context, next) => {
      const by = counts.get(message) ?? cluster.servers.map(() => 0);
      by[member - 1] = (by[member - 1] as number) + 1;
      counts.set(message, by);
      return next();
    };
  return counts;
}

async function reads(t: ExecutionContext, cluster: Cluster, written: readonly Written[]): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes, sealed } of written)
    t.true(joined(await cluster.run(reader.read(address))).equals(bytes), `segment ${sealed.sequence}`);
}

for (const [places, parity] of [
  [3, 1],
  [4, 1],
  [5, 2],
] as const)
  test(`the share of a replaced server alone is stored anew, of ${places - parity}+${parity}, and then as many may be lost as before`, async (t) => {
    const { cluster, written, members } = await replaced(90 + places, places, parity);
    const counts = counted(cluster);
    t.is((await moveAll(cluster, { members, needed: NEEDED })).failed, 0);
    const restored = counts.get("restore") ?? [];
    t.true((restored[places] as number) > 0);
    t.is(
      restored.reduce((sum, count) => sum + count, 0),
      restored[places],
      "at the new server alone",
    );
    t.is(counts.get("carry")?.[1], 0, "nothing is asked of the dead one");
    const after = await moveAll(cluster, { members, needed: NEEDED });
    for (const version of [1, 2]) t.is(heldUnder(after, version), 0);
    for (const { member } of cluster.servers) cluster.server(member).intercept = null;
    for (const lost of members.slice(0, parity)) cluster.server(lost).crash();
    await reads(t, cluster, written);
  });

test("where a server carries nothing over, the segment is written whole", async (t) => {
  const { cluster, written, members } = await replaced(96, 3, 1);
  cluster.server(3).intercept = (message, _request, _context, next) =>
    message === "carry" ? Promise.reject(new Error("it fails")) : next();
  t.is((await moveAll(cluster, { members, needed: NEEDED })).failed, 0);
  cluster.server(1).crash();
  await reads(t, cluster, written);
});

test("one more failure while fragments are carried over loses nothing that has a parity left, and what was begun is completed", async (t) => {
  const { cluster, written, members } = await replaced(97, 5, 2);
  let taken = 0;
  cluster.server(6).intercept = (message, _request, _context, next) => {
    if (message === "restore" && ++taken === 3) cluster.server(1).crash();
    return next();
  };
  await moveAll(cluster, { members: [3, 4], needed: NEEDED });
  t.true(taken >= 3);
  await reads(t, cluster, written);
  await cluster.run(cluster.server(1).start());
  await cluster.world.advance(2_000);
  t.is((await moveAll(cluster, { members, needed: NEEDED })).failed, 0);
  t.is(heldUnder(await moveAll(cluster, { members, needed: NEEDED }), 2), 0);
  for (const lost of [3, 4]) cluster.server(lost).crash();
  await reads(t, cluster, written);
});
