import {
  currentVersion,
  DazzleError,
  decodeFragmentHeader,
  type FragmentHeader,
  findGroup,
  type GroupId,
  type GroupVersion,
  joined,
  type MemberId,
  placeOf,
  shapeOver,
  withGroup,
} from "@dazzle/core";
import { FragmentRebuilder, type LostFragment, listLog } from "@dazzle/log";
import test, { type ExecutionContext } from "ava";
import { Cluster, GROUP } from "./support/cluster.ts";
import { freeze, heldUnder, moveAll, reads } from "./support/moving.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const SEGMENTS = 12;
const NEEDED = { live: null, trimmedTo: SEGMENTS };

/** The same servers, with a bound on the data fragments and this parity. */
function reshape(cluster: Cluster, dataMax: number, parityFragments: number): void {
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const { servers, version } = currentVersion(group);
    const row = {
      version: (version + 1) as GroupVersion,
      servers,
      ...shapeOver(servers.length, parityFragments, { dataMax }),
      frozen: null,
    };
    return withGroup(map, { ...group, dataMax, parity: parityFragments, versions: [...group.versions, row] });
  });
}

const SIX = [1, 2, 3, 4, 5, 6];

/** A group of six servers, `data + before`, of which the parity was raised. */
async function raised(seed: number, data: number, before: number, after: number) {
  const cluster = await Cluster.start({ seed, servers: SIX.length, parity: before });
  reshape(cluster, data, before);
  const client = cluster.client();
  await cluster.run(client.options.map.refresh());
  const writer = cluster.writer({ client });
  const written: Written[] = [];
  for (let sequence = 1; sequence <= SEGMENTS; sequence++) {
    written.push(writeSegment(writer, [200, 18 * KIB, 14 * KIB * data][sequence % 3] as number));
    await cluster.run(writer.flush(sequence));
  }
  reshape(cluster, data, after);
  await freeze(cluster);
  return { cluster, client, log: writer.log, written };
}

/** What is restored, by what it is of its stripe. `fails`: which of them are refused. */
function restores(cluster: Cluster, fails: (header: FragmentHeader) => boolean = () => false): FragmentHeader[] {
  const headers: FragmentHeader[] = [];
  for (const { member } of cluster.servers)
    cluster.server(member).intercept = (message, _request, context, next) => {
      if (message !== "restore") return next();
      const { header } = decodeFragmentHeader(joined(context.tail as Buffer[]));
      if (fails(header)) return Promise.reject(new DazzleError("noSpace", "it is refused"));
      headers.push(header);
      return next();
    };
  return headers;
}

async function readsWithoutAny(t: ExecutionContext, cluster: Cluster, written: readonly Written[], count: number): Promise<void> {
  for (const one of SIX)
    for (const other of count === 1 ? [one] : SIX.slice(one)) {
      const dead = new Set([one, other]);
      for (const member of dead) cluster.server(member).kill();
      await reads(t, cluster, written);
      for (const member of dead) await cluster.run(cluster.server(member).start());
      await cluster.world.advance(2_000);
    }
}

for (const [data, before, after] of [
  [4, 1, 2],
  [4, 0, 1],
  [3, 0, 2],
  [1, 1, 2],
] as const)
  test(`where d stays at ${data} of six servers, ${after} parities in place of ${before} are what is stored anew, and then as many servers may be lost`, async (t) => {
    const { cluster, written } = await raised(700 + 10 * data + after, data, before, after);
    const headers = restores(cluster);
    t.is((await moveAll(cluster, { members: SIX, needed: NEEDED })).failed, 0);
    t.is(headers.length, SEGMENTS * (after - before));
    for (const { index, dataFragments, parityFragments } of headers) {
      t.true(index >= dataFragments + before, `fragment ${index} of ${dataFragments}`);
      t.is(parityFragments, after);
    }
    t.is(heldUnder(await moveAll(cluster, { members: SIX, needed: NEEDED }), 2), 0);
    for (const { member } of cluster.servers) cluster.server(member).intercept = null;
    await readsWithoutAny(t, cluster, written, after);
  });

test("what was carried over and lacks its second parity is not whole: what it was carried over from stays, and a later look completes it", async (t) => {
  const { cluster, written } = await raised(750, 4, 1, 2);
  const isLate = ({ sequence }: FragmentHeader) => sequence % 2 === 0;
  restores(cluster, isLate);
  t.true((await moveAll(cluster, { members: SIX, needed: NEEDED })).failed > 0);
  const carried = new Set<number>();
  for (const { store } of SIX.map((member) => cluster.server(member)))
    for (const { sequence, groupVersion } of (await cluster.run(store.list(1, 0, 100))).fragments)
      if (groupVersion === 2) carried.add(sequence);
  t.deepEqual(
    [...carried].sort((one, other) => one - other),
    [2, 4, 6, 8, 10, 12],
  );
  const { options } = cluster.client();
  await cluster.run(options.map.refresh());
  for (const { sequence, groupVersion } of (await cluster.run(listLog(options, 1))).sequences)
    t.is(groupVersion, carried.has(sequence) ? 2 : 3, `segment ${sequence}`);
  await readsWithoutAny(t, cluster, written, 1);
  restores(cluster);
  t.is((await moveAll(cluster, { members: SIX, needed: NEEDED })).failed, 0);
  t.is(heldUnder(await moveAll(cluster, { members: SIX, needed: NEEDED }), 2), 0);
  await readsWithoutAny(t, cluster, written, 2);
});

test("the log of a writer that died while its tail was carried over ends after all that was stable, and bears the loss of two", async (t) => {
  const { cluster, client, log, written } = await raised(760, 4, 1, 2);
  restores(cluster, ({ sequence }) => sequence > 3);
  await moveAll(cluster, { members: SIX, needed: { live: null, trimmedTo: 3 } });
  for (const { member } of cluster.servers) cluster.server(member).intercept = null;
  client.instance.kill();
  cluster.server(5).kill();
  t.is((await cluster.run(cluster.recover(log))).end, SEGMENTS);
  await cluster.run(cluster.server(5).start());
  await cluster.world.advance(2_000);
  t.is((await moveAll(cluster, { members: SIX, needed: NEEDED })).failed, 0);
  await readsWithoutAny(t, cluster, written, 2);
});

test("a fragment that was carried over is computed with the second parity where another is gone", async (t) => {
  const { cluster, written } = await raised(770, 4, 1, 2);
  t.is((await moveAll(cluster, { members: SIX, needed: NEEDED })).failed, 0);
  const { options } = cluster.client();
  await cluster.run(options.map.refresh());
  const { address, sealed, bytes } = written[1] as Written;
  const { servers, version } = currentVersion(findGroup(cluster.map, GROUP));
  const at = (index: number) => servers[placeOf(sealed.sequence, index, servers.length)]?.member as MemberId;
  const key = { log: address.log, sequence: address.sequence, group: GROUP as GroupId, groupVersion: version as number, index: 0 };
  const { reply } = await cluster.run(options.peers.call(at(0), "read", { ...key, offset: 0, length: 0 }));
  cluster.server(at(1)).kill();
  const fragment: LostFragment = { ...reply, ...key };
  const rebuilt = await cluster.run(new FragmentRebuilder(options).rebuild(fragment, 0, 8 * KIB));
  t.true(rebuilt.equals(bytes.subarray(0, 8 * KIB)));
});
