import { type GroupId, joined, type MemberId } from "@dazzle/core";
import { freezeReplaced, restripeHeld } from "@dazzle/log";
import test, { type ExecutionContext } from "ava";
import { alone, grow } from "./support/alone.ts";
import type { Cluster } from "./support/cluster.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const GROUP = 1 as GroupId;
const FIRST = 1 as MemberId;

async function readsBack(t: ExecutionContext, cluster: Cluster, written: readonly Written[]): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes } of written) t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
}

/** What the first server still holds from when it was alone. */
async function heldAlone(cluster: Cluster, log: number): Promise<number[]> {
  const { options } = cluster.client();
  const { reply } = await cluster.run(options.peers.call(FIRST, "list", { log, after: 0, limit: 1_000 }));
  return reply.fragments.filter(({ groupVersion }) => groupVersion === 1).map(({ sequence }) => sequence);
}

test("what a server held alone is written again once its group has parity, and survives its loss; the log can be ended without it", async (t) => {
  const cluster = await alone(71);
  const writer = cluster.writer();
  const written = [writeSegment(writer, 20 * KIB), writeSegment(writer, 1_000), writeSegment(writer, 24 * KIB)];
  await cluster.run(writer.flush(3));
  grow(cluster);
  const { options } = cluster.client();
  const redo = { ...options, member: FIRST, reader: cluster.reader(), done: new Map<string, number>() };
  t.deepEqual(await cluster.run(restripeHeld(redo)), { left: 0, held: 0 }, "not before the version is frozen");
  await cluster.run(freezeReplaced(options, GROUP));
  t.deepEqual(await cluster.run(restripeHeld(redo)), { left: 0, held: 3 });
  t.deepEqual(await heldAlone(cluster, writer.log), [1, 2, 3], "above trimmed-to the old sets stay");
  cluster.server(1).kill();
  await readsBack(t, cluster, written);
  t.is((await cluster.run(cluster.recover(writer.log))).end, 3);
  await readsBack(t, cluster, written);
});

test("old sets of what is trimmed are deleted, on every turn what can be", async (t) => {
  const cluster = await alone(72);
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const written = [1, 2, 3, 4].map(() => writeSegment(writer, 20 * KIB));
  await cluster.run(writer.flush(4));
  grow(cluster);
  const { options } = cluster.client();
  const redo = { ...options, member: FIRST, reader: cluster.reader(), done: new Map<string, number>() };
  await cluster.run(freezeReplaced(options, GROUP));
  t.deepEqual(await cluster.run(restripeHeld(redo)), { left: 0, held: 4 });
  await cluster.run(client.options.map.refresh());
  writer.trimmedTo = 3;
  written.push(writeSegment(writer, 20 * KIB));
  await cluster.run(writer.flush(5));
  t.deepEqual(await cluster.run(restripeHeld(redo)), { left: 0, held: 1 });
  t.deepEqual(await heldAlone(cluster, writer.log), [4]);
  await readsBack(t, cluster, written);
});

test("a segment that can't be written again is told of, and tried again", async (t) => {
  const cluster = await alone(73);
  const writer = cluster.writer();
  const written = [writeSegment(writer, 20 * KIB)];
  await cluster.run(writer.flush(1));
  grow(cluster);
  const { options } = cluster.client();
  const redo = { ...options, member: FIRST, reader: cluster.reader(), done: new Map<string, number>() };
  await cluster.run(freezeReplaced(options, GROUP));
  cluster.server(3).kill();
  t.deepEqual(await cluster.run(restripeHeld(redo)), { left: 1, held: 1 });
  await cluster.run(cluster.server(3).start());
  await cluster.world.advance(2_000);
  t.deepEqual(await cluster.run(restripeHeld(redo)), { left: 0, held: 1 });
  cluster.server(1).kill();
  await readsBack(t, cluster, written);
});

test("what was written again once is so once more as the group gets a second parity, before any set of it is deleted", async (t) => {
  const cluster = await alone(74);
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const written = [writeSegment(writer, 20 * KIB), writeSegment(writer, 1_000), writeSegment(writer, 24 * KIB)];
  await cluster.run(writer.flush(3));
  const { options } = cluster.client();
  const redoes = [1, 2, 3].map((member) => ({
    ...options,
    member: member as MemberId,
    reader: cluster.reader(),
    done: new Map<string, number>(),
  }));
  const turn = async () => {
    await cluster.run(freezeReplaced(options, GROUP));
    for (const redo of redoes) t.like(await cluster.run(restripeHeld(redo)), { left: 0 });
  };
  grow(cluster, 2, 1);
  await cluster.run(options.map.refresh());
  await turn();
  grow(cluster, 3, 2);
  await cluster.run(Promise.all([options.map.refresh(), client.options.map.refresh()]));
  writer.trimmedTo = 3;
  written.push(writeSegment(writer, 24 * KIB));
  await cluster.run(writer.flush(4));
  // What it deletes it can't tell.
  cluster.server(1).intercept = async (message, _request, _context, next) => {
    const answer = await next();
    return message === "delete" ? new Promise(() => {}) : answer;
  };
  await turn();
  cluster.server(1).intercept = null;
  for (const [one, other] of [
    [1, 2],
    [2, 3],
    [1, 3],
  ] as const) {
    for (const member of [one, other]) cluster.server(member).kill();
    await readsBack(t, cluster, written);
    for (const member of [one, other]) await cluster.run(cluster.server(member).start());
    await cluster.world.advance(2_000);
  }
});
