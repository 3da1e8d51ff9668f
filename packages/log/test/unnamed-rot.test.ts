import { type DazzleError, FRAGMENT_HEADER, findGroup, joined } from "@dazzle/core";
import { RECORD_HEADER } from "@dazzle/storage";
import test from "ava";
import { freezeReplaced } from "../src/regroup.ts";
import { Cluster, GROUP, type Intercept } from "./support/cluster.ts";
import { writeSegment } from "./support/segments.ts";

const KIB = 1024;

for (const [what, ...bytes] of [
  ["the fragment's header", RECORD_HEADER.end + FRAGMENT_HEADER.sequence],
  ["both headers", 0, RECORD_HEADER.end + FRAGMENT_HEADER.sequence],
] as const)
  test(`a fragment that rots beyond recognition before it is indexed is no proof that its segment was never stable: ${what}`, async (t) => {
    const cluster = await Cluster.start({ seed: `rotten: ${what}`, servers: 3 });
    const client = cluster.client();
    const writer = cluster.writer({ client });
    // Mirrored, by the second server and the third.
    const segment = writeSegment(writer, 100);
    await cluster.run(writer.flush(1));
    // A later record tells that it was on disk.
    const other = cluster.writer({ client: cluster.client() });
    writeSegment(other, 100);
    await cluster.run(other.flush(1));
    client.instance.kill();
    const silent = cluster.server(3);
    silent.kill();
    const rotten = cluster.server(2);
    rotten.kill();
    for (const byte of bytes) rotten.instance.drive.flip("volumes/00000001", byte);
    await cluster.run(rotten.start());
    const error = await t.throwsAsync<DazzleError>(cluster.run(cluster.recover(writer.log)));
    t.is(error.code, "unreachable");
    t.regex(error.message, /awaited: s3/);
    await cluster.run(silent.start());
    t.is((await cluster.run(cluster.recover(writer.log))).end, 1);
    t.true(joined(await cluster.run(cluster.reader().read(segment.address))).equals(segment.bytes));
  });

test("a version is frozen on the word of a server that does not vouch for what it lists only where nobody is left who could tell more", async (t) => {
  const cluster = await Cluster.start({ seed: "frozen in doubt", servers: 3 });
  const writer = cluster.writer({ client: cluster.client() });
  writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(1));
  const doubtful: Intercept = async (message, _request, _context, next) => {
    const answer = (await next()) as { reply: object };
    return message === "list" ? { reply: { ...answer.reply, vouched: false } } : answer;
  };
  cluster.server(2).intercept = doubtful;
  cluster.server(3).kill();
  writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(2));
  await cluster.world.advance(1_000);
  const { options } = cluster.client();
  const freeze = () => cluster.run(freezeReplaced(options, GROUP));
  await cluster.run(options.map.refresh());
  t.is((await t.throwsAsync<DazzleError>(freeze())).code, "unreachable");
  await cluster.run(cluster.server(3).start());
  await cluster.world.advance(1_000);
  await freeze();
  t.true((findGroup(cluster.map, GROUP).versions[0]?.frozen?.[writer.log] ?? 0) >= 1);
});
