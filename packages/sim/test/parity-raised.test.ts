import {
  currentVersion,
  decodeFragmentHeader,
  decodeHeader,
  type FragmentHeader,
  joined,
  type ListedFragment,
  type MemberId,
  placeOf,
} from "@dazzle/core";
import type { Disguise } from "@dazzle/sim";
import test, { type ExecutionContext } from "ava";
import { disguised, withConnections } from "./support/plants.ts";
import { type Begun, begin, isClean, readAll, writeWhile } from "./support/regrouped.ts";

const NODES = 8;
const MAIN = 2;
const DATA = 4;
const WIDE = 2;
/** By then what mounts wrote is applied, and their logs are trimmed. */
const TRIMMED_MS = 60_000;
const PAIRS: readonly (readonly [number, number])[] = [
  [3, 4],
  [5, 7],
  [6, 8],
  [4, 8],
];

/** What one server restores to another. */
class Restores {
  readonly headers: FragmentHeader[] = [];

  get disguise(): Disguise {
    return {
      network: (network) =>
        withConnections(network, (inner) =>
          disguised(inner, {
            send: (frame) => {
              const packet = decodeHeader(frame.header);
              if (packet.kind === "request" && packet.message === "restore")
                this.headers.push(decodeFragmentHeader(joined(frame.tail as Buffer[])).header);
              inner.send(frame);
            },
          }),
        ),
    };
  }
}

/** A group of two, and one of six of which stripes have four data fragments at most; and a mount that has written to both. */
async function six(seed: number) {
  const restores = new Restores();
  const begun = await begin(seed, NODES, MAIN, { wide: DATA, disguise: restores.disguise });
  return { ...begun, restores };
}

async function bearsTwo(t: ExecutionContext, begun: Begun): Promise<void> {
  const { world, cluster, until, isMoved } = begun;
  for (const pair of PAIRS) {
    await until(isMoved);
    for (const number of pair) cluster.kill(number);
    t.deepEqual(await readAll(begun), ["whole"], `without ${pair}`);
    for (const number of pair) await cluster.startNode(number);
    await world.advance(10_000);
  }
  await until(isMoved);
}

test("where d stays, more parity is all that is stored anew, and then any two servers may be lost", async (t) => {
  const begun = await six(31);
  const { run, until, ask, shape, isMoved, group, restores } = begun;
  t.is(shape(), "4+1 3,4,5,6,7,8");
  await writeWhile(begun, () => false, 20);
  const before = currentVersion(group()).version;
  await run(() => ask({ change: "parity", parity: 2 }));
  t.is(shape(), "4+2 3,4,5,6,7,8");
  t.false(isMoved());
  await until(isMoved);
  const raised = restores.headers.filter(({ group: of, groupVersion }) => of === WIDE && groupVersion === before + 1);
  t.true(raised.length > 5);
  t.deepEqual(
    raised.filter(({ index, dataFragments }) => index !== dataFragments + 1),
    [],
  );
  await isClean(t, begun);
  await bearsTwo(t, begun);
  await isClean(t, begun);
});

test("a server that was away for a while before is no reason to store anything but more parity", async (t) => {
  const begun = await six(36);
  const { world, cluster, run, until, ask, shape, isMoved, restores } = begun;
  await writeWhile(begun, () => false, 10);
  cluster.kill(5);
  await writeWhile(begun, () => false, 5);
  cluster.kill(4);
  await writeWhile(begun, () => false, 5);
  await cluster.startNode(5);
  await cluster.startNode(4);
  await until(() => shape().startsWith("4+1") && shape().length === "4+1 3,4,5,6,7,8".length && isMoved());
  await world.advance(10_000);
  restores.headers.length = 0;
  await run(() => ask({ change: "parity", parity: 2 }));
  await until(isMoved);
  const raised = restores.headers.filter(({ group: of }) => of === WIDE);
  t.true(raised.length > 5);
  t.deepEqual(
    raised.filter(({ index, dataFragments }) => index !== dataFragments + 1),
    [],
  );
});

test("fsck sees what is missing of a stripe that was raised, the second parity too, and makes two fragments anew", async (t) => {
  const begun = await six(35);
  const { world, cluster, run, until, ask, isMoved, group } = begun;
  await run(() => ask({ change: "parity", parity: 2 }));
  await until(isMoved);
  await world.advance(TRIMMED_MS);
  const { version, servers } = currentVersion(group());
  const { peers } = cluster.node(1);
  const log = cluster.node(1).map.current.logs.find(({ kind }) => kind === "mount")?.id as number;
  const { reply } = await run(() => peers.call(servers[0]?.member as MemberId, "list", { log, after: 0, limit: 1_000 }));
  const { sequence } = reply.fragments.find(
    (one) => one.group === WIDE && one.groupVersion === version && one.dataFragments === DATA && one.sequence <= reply.trimmedTo,
  ) as ListedFragment;
  for (const lost of [[DATA + 1], [0, 1], [2, DATA + 1], [DATA, DATA + 1]]) {
    const request = { log, sequences: [sequence], trimmedTo: sequence, group: WIDE, groupVersion: version };
    for (const index of lost)
      await run(() => peers.call(servers[placeOf(sequence, index, servers.length)]?.member as MemberId, "delete", request));
    const found = await cluster.fsck("headers");
    t.deepEqual(
      found.findings.map(({ problem, subject }) => [problem, subject.index]),
      lost.map((index) => ["fragmentMissing", index]),
      `${lost}`,
    );
    t.is((await cluster.fsck("headers", true)).repaired.length, lost.length, `${lost}`);
    t.deepEqual((await cluster.fsck("data")).findings, [], `${lost}`);
  }
});

for (const seed of [32, 33, 34])
  test(`seed=${seed}: a server is killed while parity is raised and files are written, and is back; in the end any two may be lost`, async (t) => {
    const begun = await six(seed);
    const { world, cluster, run, until, ask, shape, isMoved } = begun;
    await writeWhile(begun, () => false, 20);
    await run(() => ask({ change: "parity", parity: 2 }));
    await world.advance(world.random.below(400));
    const victim = 3 + world.random.below(6);
    cluster.kill(victim);
    await writeWhile(begun, () => false, 1 + world.random.below(20));
    t.deepEqual(await readAll(begun), ["whole"], `seed=${seed} without ${victim}`);
    await cluster.startNode(victim);
    await writeWhile(begun, () => isMoved() && shape().startsWith("4+2"));
    await until(() => isMoved() && shape().startsWith("4+2"));
    await bearsTwo(t, begun);
    await isClean(t, begun);
  });
