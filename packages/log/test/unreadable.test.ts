import { type GroupId, type MemberId, placeOf } from "@dazzle/core";
import { unreadableWithout } from "@dazzle/log";
import test from "ava";
import { Cluster, GROUP, type Intercept } from "./support/cluster.ts";
import { declareLost, freeze, regroup, segments } from "./support/moving.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const LEAVER = 4 as MemberId;

/** By log: what can't be read without the leaver. */
async function unreadable(cluster: Cluster): Promise<Record<string, readonly number[]>> {
  const { options } = cluster.client();
  await cluster.run(options.map.refresh());
  const found = await cluster.run(unreadableWithout({ ...options, group: GROUP as GroupId, member: LEAVER }));
  return Object.fromEntries([...found].map(([{ id }, sequences]) => [id, [...sequences].sort((one, other) => one - other)]));
}

test("without one server all can be read, and nothing is said of it while another does not answer", async (t) => {
  const cluster = await Cluster.start({ seed: 9, servers: 4 });
  await segments(cluster, 5);
  cluster.server(LEAVER).kill();
  t.deepEqual(await unreadable(cluster), {});
  cluster.server(2).kill();
  await t.throwsAsync(unreadable(cluster), { message: /unreachable|s2/ });
});

test("what was stored on a server alone can't be read without it, and only that one can tell until it was frozen", async (t) => {
  const cluster = await Cluster.start({ seed: 10, servers: 4 });
  regroup(cluster, [LEAVER], 0);
  const { writer } = await segments(cluster, 3);
  await t.throwsAsync(unreadable(cluster), { message: /nobody but s4 can tell what was stored under version 2/ });
  regroup(cluster, [1, 2, 3, 4]);
  await freeze(cluster);
  await cluster.run(() => writer.stableSequence === 3);
  cluster.server(LEAVER).kill();
  t.deepEqual(await unreadable(cluster), { [writer.log]: [1, 2, 3] });
});

for (const parity of [1, 2])
  test(`what lay on ${parity + 1} servers alone, of which the others are lost before, can't be read without the last`, async (t) => {
    const cluster = await Cluster.start({ seed: 30 + parity, servers: 6, parity });
    const { written } = await segments(cluster, 9);
    const members = [1, 2, 3, 4, 5, 6];
    const [last = 0, ...before] = members.slice(0, parity + 1);
    for (const member of before) declareLost(cluster, member);
    regroup(
      cluster,
      members.filter((member) => !before.includes(member)),
      parity,
    );
    await freeze(cluster);
    for (const member of [...before, last]) cluster.server(member).kill();
    const { options } = cluster.client();
    const found = await cluster.run(unreadableWithout({ ...options, group: GROUP as GroupId, member: last as MemberId }));
    const lost = [...found.values()].flat();
    const isLost = async ({ address }: Written) =>
      (await cluster.run(
        cluster
          .reader()
          .read(address)
          .catch(() => null),
      )) === null;
    const unreadable: number[] = [];
    for (const one of written) if (await isLost(one)) unreadable.push(one.sealed.sequence);
    t.deepEqual(
      lost.sort((one, other) => one - other),
      unreadable,
    );
    t.true(lost.length < written.length);
    t.true(lost.includes(6), "a mirrored one that lay there alone");
  });

test("what of a live log lay on two servers alone, of which one is given up, the other alone can tell until its version was frozen", async (t) => {
  for (const isIdle of [true, false]) {
    const cluster = await Cluster.start({ seed: 34, servers: 6 });
    const { writer, written } = await segments(cluster, 6);
    // Later headers tell that it was stable.
    if (!isIdle) await cluster.run(writer.flush(writeSegment(writer, 30 * KIB, { urgent: true }).sealed.sequence));
    declareLost(cluster, 1);
    regroup(cluster, [2, 3, 4, 5, 6]);
    for (const member of [1, 2]) cluster.server(member).kill();
    const { options } = cluster.client();
    await t.throwsAsync(cluster.run(unreadableWithout({ ...options, group: GROUP as GroupId, member: 2 as MemberId })), {
      message: /nobody but s2 can tell what was stored under version 1/,
    });
    await t.throwsAsync(cluster.run(cluster.reader().read((written[5] as Written).address)), { code: "unreachable" });
  }
});

/** What it had of the segment rotted beyond recognition before it was indexed. */
const rotten: Intercept = async (message, _request, _context, next) => {
  const answer = (await next()) as { reply: object };
  return message === "list" ? { reply: { ...answer.reply, fragments: [], vouched: false } } : answer;
};

test("what a server lacks that does not vouch for what it lists may be lost with who had the other copy", async (t) => {
  const cluster = await Cluster.start({ seed: 35, servers: 4 });
  const writer = cluster.writer();
  const one = writeSegment(writer, 200, { urgent: true });
  await cluster.run(writer.flush(1));
  const { servers = [] } = cluster.currentVersion();
  const [last, other] = [0, 1].map((index) => servers[placeOf(one.sealed.sequence, index, servers.length)]?.member) as [MemberId, MemberId];
  cluster.server(other).intercept = rotten;
  const { options } = cluster.client();
  const found = () => cluster.run(unreadableWithout({ ...options, group: GROUP as GroupId, member: last }));
  await t.throwsAsync(found(), { message: new RegExp(`nobody but s${last} can tell what was stored under version 1`) });
  regroup(
    cluster,
    [1, 2, 3, 4].filter((member) => member !== last),
  );
  await freeze(cluster);
  cluster.server(last).kill();
  await cluster.run(options.map.refresh());
  t.deepEqual([...(await found()).values()], [[1]]);
  cluster.server(other).intercept = null;
  t.deepEqual([...(await found()).values()], []);
});
