import { currentVersion, findGroup, type GroupVersion, joined, withGroup } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { Cluster, GROUP, SECOND_GROUP } from "./support/cluster.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;

async function readsBack(t: ExecutionContext, cluster: Cluster, written: readonly Written[]): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes } of written) t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
}

/** The same servers, with another parity. */
function setParity(cluster: Cluster, parityFragments: number): void {
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const { servers, version } = currentVersion(group);
    const row = { version: (version + 1) as GroupVersion, servers, dataFragments: servers.length - parityFragments, parityFragments };
    return withGroup(map, { ...group, parity: parityFragments, versions: [...group.versions, { ...row, frozen: null }] });
  });
}

async function without(cluster: Cluster, members: readonly number[], action: () => Promise<void>): Promise<void> {
  for (const member of members) cluster.server(member).kill();
  await action();
  for (const member of members) await cluster.run(cluster.server(member).start());
  await cluster.world.advance(2_000);
}

test("parity is raised and lowered while a writer goes on: what was written bears the loss of as many servers as it had parities", async (t) => {
  const cluster = await Cluster.start({ seed: 81, servers: 5 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const all: Written[] = [];
  for (const parity of [1, 2, 1, 2]) {
    if (cluster.currentVersion().parityFragments !== parity) setParity(cluster, parity);
    for (let segment = 0; segment < 8; segment++) {
      await cluster.run(writer.whenReady());
      const length = segment % 4 === 0 ? 1_000 : writer.capacityBytes - segment * 4_100;
      all.push(writeSegment(writer, length, { urgent: segment % 3 === 0 }));
      // Some are under way as the servers hear of the version.
      if (segment === 2) await cluster.run(Promise.all(cluster.servers.map(({ map }) => map.refresh())));
    }
    await cluster.run(writer.flush(writer.openSequence - 4));
  }
  await cluster.run(writer.flush(writer.openSequence - 1));
  t.true(writer.counters.rewritten > 0);
  const under = ({ sealed }: Written) => findGroup(cluster.map, GROUP).versions.find(({ version }) => version === sealed.groupVersion);
  const strong = all.filter((one) => under(one)?.parityFragments === 2);
  t.true(strong.length > 8 && strong.length < all.length);
  for (const member of [1, 2, 3, 4, 5]) {
    await without(cluster, [member], () => readsBack(t, cluster, all));
    await without(cluster, [member, 1 + (member % 5)], () => readsBack(t, cluster, strong));
  }
  client.instance.kill();
  t.is((await cluster.run(cluster.recover(writer.log))).end, all.length);
  await readsBack(t, cluster, all);
});

test("groups of different parity in one cluster each bear what they have", async (t) => {
  const cluster = await Cluster.start({ seed: 82, servers: 6, parity: 2, second: 3 });
  const [first, second] = await Promise.all(
    [GROUP, SECOND_GROUP].map(async (group) => {
      const writer = cluster.writer({ group });
      const written = [60 * KIB, 500, 28 * KIB].map((length) => writeSegment(writer, Math.min(length, writer.capacityBytes)));
      await cluster.run(writer.flush(3));
      return written;
    }),
  );
  await without(cluster, [2, 5, 8], () => readsBack(t, cluster, [...(first ?? []), ...(second ?? [])]));
});
