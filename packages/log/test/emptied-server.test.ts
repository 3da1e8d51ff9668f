import { DazzleError, joined } from "@dazzle/core";
import { SpaceCredits } from "@dazzle/log";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { writeSegment } from "./support/segments.ts";

const KIB = 1024;

/** A machine comes back with an empty storage directory, and answers for the old one as a node does. */
async function empty(cluster: Cluster, member: number): Promise<void> {
  const server = cluster.server(member);
  server.kill();
  server.drive = "another drive";
  await cluster.run(server.start());
  server.intercept = (message, _request, _context, next) => {
    if (message === "stat" || message === "reaches") return next();
    throw new DazzleError("wrongStore", "it serves another storage directory than its group lists");
  };
}

test("a recovery leaves a server out whose storage directory was emptied, and restores to the others", async (t) => {
  const cluster = await Cluster.start({ seed: 301, servers: 3 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const written = [writeSegment(writer, 20 * KIB), writeSegment(writer, 100), writeSegment(writer, 100)];
  await cluster.run(writer.flush(3));
  client.instance.kill();
  await empty(cluster, 2);
  t.is((await cluster.run(cluster.recover(writer.log))).end, 3);
  t.deepEqual(
    cluster.currentVersion().servers.map(({ member }) => member as number),
    [1, 3],
  );
  const reader = cluster.reader();
  for (const { address, bytes } of written) t.deepEqual(joined(await cluster.run(reader.read(address))), bytes);
});

test("a writer leaves it out though nobody waits for what it writes", async (t) => {
  const cluster = await Cluster.start({ seed: 302, servers: 3 });
  const writer = cluster.writer();
  await empty(cluster, 2);
  const written = writeSegment(writer, 20 * KIB);
  await cluster.run(() => written.sealed.groupVersion === 2);
  t.deepEqual(
    cluster.currentVersion().servers.map(({ member }) => member as number),
    [1, 3],
  );
});

test("who wants credits alone leaves it out as well", async (t) => {
  const cluster = await Cluster.start({ seed: 303, servers: 3 });
  const client = cluster.client();
  const log = cluster.addLog();
  client.options.map.learn(cluster.map);
  const credits = new SpaceCredits({ ...client.options, log, unstoredBytes: () => 0 });
  await empty(cluster, 2);
  await cluster.run(credits.take(1));
  t.is(cluster.currentVersion().servers.length, 2);
});
