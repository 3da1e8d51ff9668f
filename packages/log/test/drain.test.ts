import { currentVersion, findGroup, type GroupVersion, isDazzleError, joined, type MemberId, withGroup, withLog } from "@dazzle/core";
import { type DrainOptions, drainMember, freezeReplaced, unreadableWithout } from "@dazzle/log";
import test, { type ExecutionContext } from "ava";
import { Cluster, GROUP } from "./support/cluster.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const LEAVER = 4 as MemberId;

/** The group goes on without a server. */
function leaves(cluster: Cluster, member: MemberId): void {
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const current = currentVersion(group);
    const servers = current.servers.filter((row) => row.member !== member);
    const version = (current.version + 1) as GroupVersion;
    const row = { version, servers, dataFragments: servers.length - 1, parityFragments: 1, frozen: null };
    return withGroup(map, { ...group, wanted: servers.map((server) => server.member), versions: [...group.versions, row] });
  });
}

function drainOf(cluster: Cluster, trimmedTo: number, isDead = false): { drain: () => Promise<string | undefined>; written: number[] } {
  const client = cluster.client();
  const reader = cluster.reader(client);
  const written: number[] = [];
  const options: DrainOptions = {
    ...client.options,
    group: GROUP,
    member: LEAVER,
    reader,
    trimmedTo: async () => trimmedTo,
    onRestored: (_bytes, left) => written.push(left),
    isDead,
  };
  return { drain: () => cluster.run(client.options.map.refresh().then(() => drainMember(options))), written };
}

async function segments(cluster: Cluster, count: number) {
  const writer = cluster.writer();
  const written = Array.from({ length: count }, (_, index) => writeSegment(writer, index % 3 === 2 ? 200 : 30 * KIB, { urgent: true }));
  await cluster.run(() => writer.stableSequence === count);
  return { writer, written };
}

async function reads(t: ExecutionContext, cluster: Cluster, written: readonly Written[]): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes, sealed } of written)
    t.true(joined(await cluster.run(reader.read(address))).equals(bytes), `segment ${sealed.sequence}`);
}

const named = (cluster: Cluster) =>
  findGroup(cluster.map, GROUP).versions.filter((row) => row.servers.some((server) => server.member === LEAVER));

test("what a server that leaves stores is whole on the others, though one of them fails in between", async (t) => {
  const cluster = await Cluster.start({ seed: 1, servers: 4 });
  const live = await segments(cluster, 9);
  const closed = await segments(cluster, 5);
  closed.writer.close();
  cluster.change((map) => withLog(map, closed.writer.log, { state: "closed", end: 5 }));
  leaves(cluster, LEAVER);
  let taken = 0;
  cluster.server(2).intercept = (message, _request, _context, next) => {
    if (message === "restore" && ++taken === 4) cluster.server(2).crash();
    return next();
  };
  const { drain, written } = drainOf(cluster, 9);
  await t.throwsAsync(drain(), { message: /unreachable|s2/ });
  t.is(named(cluster).length, 1, "the version stays while something is only there");
  await reads(t, cluster, [...live.written, ...closed.written]);
  cluster.server(2).intercept = null;
  await cluster.run(cluster.server(2).start());
  t.is(await drain(), undefined);
  t.is(written.at(-1), 0);
  t.deepEqual(named(cluster), []);
  cluster.server(LEAVER).crash();
  await reads(t, cluster, [...live.written, ...closed.written]);
  cluster.server(1).crash();
  await reads(t, cluster, [...live.written, ...closed.written]);
});

test("what a live log may still store is waited for", async (t) => {
  const cluster = await Cluster.start({ seed: 2, servers: 4 });
  const { written } = await segments(cluster, 4);
  leaves(cluster, LEAVER);
  t.regex((await drainOf(cluster, 3).drain()) ?? "", /trimmed to 3, not yet to 4/);
  t.is(named(cluster).length, 1);
  t.is(await drainOf(cluster, 4).drain(), undefined);
  cluster.server(LEAVER).crash();
  cluster.server(2).crash();
  await reads(t, cluster, written);
});

test("a log that is ended and not closed is waited for, and a server that does not answer", async (t) => {
  const cluster = await Cluster.start({ seed: 3, servers: 4 });
  const { writer } = await segments(cluster, 3);
  writer.close();
  cluster.change((map) => withLog(map, writer.log, { state: "ended", end: 3 }));
  leaves(cluster, LEAVER);
  t.regex((await drainOf(cluster, 3).drain()) ?? "", /ended and not closed yet/);
  cluster.change((map) => withLog(map, writer.log, { state: "closed" }));
  cluster.server(3).kill();
  const error = await t.throwsAsync(drainOf(cluster, 3).drain());
  t.true(isDazzleError(error));
  t.is(named(cluster).length, 1);
  await cluster.run(cluster.server(3).start());
  t.is(await drainOf(cluster, 3).drain(), undefined);
});

/** By log: what can't be read without the leaver. */
async function unreadable(cluster: Cluster): Promise<Record<string, readonly number[]>> {
  const { options } = cluster.client();
  await cluster.run(options.map.refresh());
  const found = await cluster.run(unreadableWithout({ ...options, group: GROUP, member: LEAVER }));
  return Object.fromEntries([...found].map(([{ id }, sequences]) => [id, [...sequences].sort((one, other) => one - other)]));
}

test("what a dead server held is whole on the others, though a live one fails in between", async (t) => {
  const cluster = await Cluster.start({ seed: 4, servers: 4 });
  const live = await segments(cluster, 9);
  cluster.server(LEAVER).kill();
  t.deepEqual(await unreadable(cluster), {});
  leaves(cluster, LEAVER);
  cluster.server(2).kill();
  await t.throwsAsync(drainOf(cluster, 9, true).drain(), { message: /unreachable|s2/ });
  await t.throwsAsync(unreadable(cluster), { message: /unreachable|s2/ });
  await cluster.run(cluster.server(2).start());
  t.is(await drainOf(cluster, 9, true).drain(), undefined);
  t.deepEqual(named(cluster), []);
  cluster.server(1).crash();
  await reads(t, cluster, live.written);
});

test("what was stored on a server alone can't be read without it, and only that one can tell until it was frozen", async (t) => {
  const cluster = await Cluster.start({ seed: 5, servers: 4 });
  const all = cluster.currentVersion().servers;
  const version = (servers: typeof all, dataFragments: number, parityFragments: number) =>
    cluster.change((map) => {
      const group = findGroup(map, GROUP);
      const next = (currentVersion(group).version + 1) as GroupVersion;
      return withGroup(map, {
        ...group,
        versions: [...group.versions, { version: next, servers, dataFragments, parityFragments, frozen: null }],
      });
    });
  version(
    all.filter(({ member }) => member === LEAVER),
    1,
    0,
  );
  const { writer } = await segments(cluster, 3);
  await t.throwsAsync(unreadable(cluster), { message: /nobody but s4 can tell what was stored under version 2/ });
  version(all, 3, 1);
  const { options } = cluster.client();
  await cluster.run(options.map.refresh().then(() => freezeReplaced(options, GROUP)));
  await cluster.run(() => writer.stableSequence === 3);
  cluster.server(LEAVER).kill();
  t.deepEqual(await unreadable(cluster), { [writer.log]: [1, 2, 3] });
});
