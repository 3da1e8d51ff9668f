import { isDazzleError, joined } from "@dazzle/core";
import type { LogWriter } from "@dazzle/log";
import test, { type ExecutionContext } from "ava";
import { type Client, Cluster, type Server } from "./support/cluster.ts";
import { type Written, writeSegment } from "./support/segments.ts";

const KIB = 1024;
const TROUBLES = 6;

/** A fault that its drive still had in store may hit the start. */
async function restart(cluster: Cluster, server: Server): Promise<void> {
  for (;;) {
    try {
      await cluster.run(server.start());
      return;
    } catch (error) {
      if (!isDazzleError(error, "diskFailed")) throw error;
      server.kill();
    }
  }
}

/** Does one bad thing to each of some servers, and undoes it after a while: never to more of a group at once than there are parities, or to all of one of two groups. */
async function trouble(cluster: Cluster, servers: readonly Server[]): Promise<void> {
  const { world } = cluster;
  for (const server of servers) {
    const kind = world.random.below(5);
    if (kind === 0) server.kill();
    if (kind === 1) server.crash();
    if (kind === 2) server.frozen = true;
    if (kind === 3) world.network.cut([server.name], cluster.clientNames);
    if (kind === 4) server.instance.drive.failNext(world.random.chance(0.5) ? "sync" : "write");
    await world.advance(world.random.below(500));
  }
  await world.advance(world.random.below(4_000));
  for (const server of servers) {
    server.frozen = false;
    if (!server.instance.alive) await restart(cluster, server);
  }
}

/** So many different servers. */
function some(cluster: Cluster, count: number): Server[] {
  const left = [...cluster.servers];
  return Array.from({ length: count }, () => left.splice(cluster.world.random.below(left.length), 1)[0] as Server);
}

/** One server, or all of one group. */
function someOfTwo(cluster: Cluster, inFirst: number): Server[] {
  const { random } = cluster.world;
  if (random.chance(0.4)) return some(cluster, 1);
  return random.chance(0.5) ? cluster.servers.slice(0, inFirst) : cluster.servers.slice(inFirst);
}

/** Writes as a mount does, until `ended`. */
async function write(cluster: Cluster, client: Client, writer: LogWriter, written: Written[], ended: () => boolean): Promise<void> {
  const { random } = cluster.world;
  const { clock } = client.options.ports;
  while (!ended() && writer.failure === null) {
    if (writer.ready && random.chance(0.7)) {
      const length = random.chance(0.4) ? 1 + random.below(6 * KIB) : 1 + random.below(writer.capacityBytes);
      written.push(writeSegment(writer, length, { urgent: random.chance(0.15) }));
    }
    if (random.chance(0.1)) writer.trimmedTo = Math.max(writer.trimmedTo, writer.stableSequence - 20);
    await new Promise<void>((resolve) => clock.after(random.below(60), resolve));
  }
}

async function check(t: ExecutionContext, cluster: Cluster, written: readonly Written[], end: number): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes, sealed } of written) {
    if (sealed.sequence > end) continue;
    const found = joined(await cluster.run(reader.read(address)));
    if (!found.equals(bytes)) return t.fail(`segment ${sealed.sequence}`);
  }
}

for (const [servers, second, parity, seeds] of [
  [2, 0, 1, 4],
  [3, 0, 1, 4],
  [5, 0, 1, 4],
  [4, 0, 2, 2],
  [6, 0, 2, 4],
  [3, 2, 1, 4],
] as const)
  for (let seed = 0; seed < seeds; seed++)
    test(`${servers} servers${second > 0 ? ` and a group of ${second}` : ""} in trouble, ${parity} at a time, then a power cut: all that was told stable is there (seed ${seed})`, async (t) => {
      const cluster = await Cluster.start({ seed: `chaos ${servers} ${seed}`, servers, second, parity, admission: true });
      const { world } = cluster;
      const client = cluster.client();
      const writer = cluster.writer({ client, spreads: true });
      const written: Written[] = [];
      const told: number[] = [];
      writer.onStable(({ sequence }) => told.push(sequence));
      let ended = false;
      const writing = write(cluster, client, writer, written, () => ended);
      for (let round = 0; round < TROUBLES; round++) {
        await trouble(cluster, second > 0 ? someOfTwo(cluster, servers) : some(cluster, parity));
        // Long enough that what was lost with the server is whole again elsewhere.
        const sequence = writer.openSequence - 1;
        await cluster.run(writer.flush(sequence));
        await world.advance(world.random.below(3_000));
      }
      t.is(writer.failure, null);
      ended = true;
      await cluster.run(writing);
      world.powerCut();
      for (const server of cluster.servers) await restart(cluster, server);
      t.deepEqual(
        told,
        told.map((_, index) => index + 1),
      );
      const { end } = await cluster.run(cluster.recover(writer.log));
      t.true(end >= told.length, `end ${end}, told ${told.length}`);
      t.true(told.length > 50);
      await check(t, cluster, written, end);
      for (const server of some(cluster, parity)) server.kill();
      await check(t, cluster, written, end);
    });
