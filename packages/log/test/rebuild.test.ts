import { type DazzleError, joined, type ListedFragment, type Request } from "@dazzle/core";
import { FragmentRebuilder, type LostFragment } from "@dazzle/log";
import test, { type ExecutionContext } from "ava";
import { alone, grow } from "./support/alone.ts";
import { Cluster, type Intercept } from "./support/cluster.ts";
import { freeze, moveAll } from "./support/moving.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const BLOCK_BYTES = 4096;

async function stored(
  seed: number,
  servers: number,
  lengths: readonly number[],
  parity = 1,
): Promise<{ cluster: Cluster; written: Written[] }> {
  const cluster = await Cluster.start({ seed, servers, parity });
  const writer = cluster.writer();
  const written: Written[] = [];
  for (const length of lengths) {
    await cluster.run(writer.whenReady());
    written.push(writeSegment(writer, length));
  }
  await cluster.run(writer.flush(lengths.length));
  return { cluster, written };
}

interface Held {
  readonly member: number;
  readonly fragment: LostFragment;
  readonly data: Buffer;
}

/** What every server holds of a log. */
async function heldBy(cluster: Cluster, member: number, log: number): Promise<Held[]> {
  const { store } = cluster.server(member);
  const { fragments } = await cluster.run(store.list(log, 0, 100));
  const held = fragments.map(async (listed: ListedFragment) => {
    const { log: ofLog, sequence, group, groupVersion, index } = listed;
    const key = { log: ofLog, sequence, group, groupVersion, index };
    const { reply, tail } = await store.read({ ...key, offset: 0, length: listed.dataBytes });
    return { member, fragment: { ...reply, ...key }, data: Buffer.from(tail[1] as Uint8Array) };
  });
  return cluster.run(Promise.all(held));
}

/** Only what another server holds is asked for. */
async function isRebuilt(t: ExecutionContext, cluster: Cluster, rebuilder: FragmentRebuilder, { fragment, data }: Held): Promise<void> {
  t.deepEqual(await cluster.run(rebuilder.rebuild(fragment, 0, data.length)), data);
  const offset = BLOCK_BYTES * Math.floor(data.length / BLOCK_BYTES / 2);
  const length = Math.min(BLOCK_BYTES, data.length - offset);
  t.deepEqual(await cluster.run(rebuilder.rebuild(fragment, offset, length)), data.subarray(offset, offset + length));
}

for (const servers of [2, 3, 5])
  test(`${servers} servers: every fragment is computed from the others, whoever is dead`, async (t) => {
    const { cluster } = await stored(70 + servers, servers, [500, 20 * KIB, 28 * KIB + 100, 12 * KIB, 30 * KIB]);
    for (const { member } of cluster.servers) {
      const held = await heldBy(cluster, member, 1);
      t.true(held.length >= 4);
      cluster.server(member).kill();
      const rebuilder = new FragmentRebuilder(cluster.client().options);
      for (const one of held) await isRebuilt(t, cluster, rebuilder, one);
      await cluster.run(cluster.server(member).start());
      await cluster.world.advance(2_000);
    }
  });

for (const servers of [3, 4, 6])
  test(`${servers} servers with two parities: every fragment is computed from the others, whichever two are dead`, async (t) => {
    const { cluster } = await stored(90 + servers, servers, [500, 20 * KIB, 28 * KIB + 100, 12 * KIB, 30 * KIB], 2);
    for (const { member } of cluster.servers) {
      const held = await heldBy(cluster, member, 1);
      t.true(held.length >= 4);
      cluster.server(member).kill();
      for (const other of cluster.servers) {
        if (other.member === member) continue;
        other.kill();
        const rebuilder = new FragmentRebuilder(cluster.client().options);
        for (const one of held) await isRebuilt(t, cluster, rebuilder, one);
        await cluster.run(other.start());
        await cluster.world.advance(2_000);
      }
      await cluster.run(cluster.server(member).start());
      await cluster.world.advance(2_000);
    }
  });

/** Turns over a bit in one block of what `read` answers. */
function damagingBlock(block: number): Intercept {
  return async (message, _request, _context, next) => {
    const answer = (await next()) as { reply: { offset: number; length: number }; tail: Uint8Array[] };
    if (message !== "read" || answer.reply.length === 0) return answer;
    const bytes = Buffer.from(joined(answer.tail));
    const within = block * BLOCK_BYTES - answer.reply.offset;
    if (within < 0 || within >= answer.reply.length) return answer;
    const at = bytes.length - answer.reply.length + within;
    bytes[at] = (bytes[at] as number) ^ 0x10;
    return { ...answer, tail: [bytes] };
  };
}

test("where two fragments are damaged in different blocks, each is computed from the other", async (t) => {
  const { cluster } = await stored(81, 3, [30 * KIB]);
  const [held] = await heldBy(cluster, 1, 1);
  const { fragment, data } = held as Held;
  cluster.server(2).intercept = damagingBlock(1);
  const rebuilder = new FragmentRebuilder(cluster.client().options);
  t.deepEqual(await cluster.run(rebuilder.rebuild(fragment, 0, BLOCK_BYTES)), data.subarray(0, BLOCK_BYTES));
  const error = await t.throwsAsync<DazzleError>(cluster.run(rebuilder.rebuild(fragment, BLOCK_BYTES, BLOCK_BYTES)));
  t.is(error.code, "segmentLost");
});

test("what can't be computed: silence decides nothing, and nothing is made up", async (t) => {
  const { cluster } = await stored(82, 3, [30 * KIB]);
  const { fragment, data } = (await heldBy(cluster, 1, 1))[0] as Held;
  const rebuilder = new FragmentRebuilder(cluster.client().options);
  cluster.server(2).kill();
  const silent = await t.throwsAsync<DazzleError>(cluster.run(rebuilder.rebuild(fragment, 0, data.length)));
  t.is(silent.code, "unreachable");
  await cluster.run(cluster.server(2).start());
  await cluster.world.advance(2_000);
  const request = { log: 1, sequences: [1], trimmedTo: 1, group: -1, groupVersion: -1 };
  for (const member of [2, 3]) await cluster.run(cluster.server(member).store.delete(request, null));
  const missing = await t.throwsAsync<DazzleError>(cluster.run(rebuilder.rebuild(fragment, 0, data.length)));
  t.is(missing.code, "fragmentMissing");
});

test("what had no parity is computed from what was written again under another version", async (t) => {
  const cluster = await alone(83);
  const writer = cluster.writer();
  for (const length of [20 * KIB, 500]) writeSegment(writer, length);
  await cluster.run(writer.flush(2));
  const held = await heldBy(cluster, 1, writer.log);
  t.is(held.length, 2);
  const client = cluster.client();
  const rebuilder = new FragmentRebuilder(client.options);
  const { fragment, data } = held[0] as Held;
  const onlyHere = await t.throwsAsync<DazzleError>(cluster.run(rebuilder.rebuild(fragment, 0, data.length)));
  t.is(onlyHere.code, "fragmentMissing");
  grow(cluster);
  await cluster.run(client.options.map.refresh());
  await freeze(cluster);
  t.is((await moveAll(cluster, { members: [1], client })).moved.length, 2);
  for (const one of held) await isRebuilt(t, cluster, rebuilder, one);
});

test("who reads damage tells the server, once in a while", async (t) => {
  const { cluster, written } = await stored(84, 3, [30 * KIB]);
  const told: Request<"verifyFragment">[] = [];
  const damaging = damagingBlock(0);
  cluster.server(2).intercept = async (message, request, context, next) => {
    if (message === "verifyFragment") told.push(request as Request<"verifyFragment">);
    return damaging(message, request, context, next);
  };
  const reader = cluster.reader();
  const { address, bytes } = written[0] as Written;
  for (let time = 0; time < 5; time++) t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
  await cluster.world.advance(1_000);
  const [held] = await heldBy(cluster, 2, 1);
  t.deepEqual(told, [{ log: 1, sequence: 1, group: 1, groupVersion: 1, index: (held as Held).fragment.index }]);
  t.true(reader.counters.damaged > 1);
});
