import { joined, type MemberId } from "@dazzle/core";
import test from "ava";
import { Cluster, GROUP, SECOND_GROUP } from "./support/cluster.ts";
import { writeSegment } from "./support/segments.ts";

const KIB = 1024;

test("a segment is found in another group of its log than the address says, and in any where the log has left the map", async (t) => {
  const cluster = await Cluster.start({ seed: 201, servers: 3, second: 3 });
  const writer = cluster.writer({ group: SECOND_GROUP });
  const written = [writeSegment(writer, 20 * KIB), writeSegment(writer, 1_000)];
  await cluster.run(writer.flush(2));
  for (const isGone of [false, true]) {
    if (isGone) cluster.change((map) => ({ ...map, logs: [] }));
    for (const group of [GROUP, 7])
      for (const { address, bytes } of written) t.deepEqual(joined(await cluster.run(cluster.reader().read({ ...address, group }))), bytes);
    const { address, records } = written[0] as (typeof written)[0];
    const summary = await cluster.run(cluster.reader().summary(address.log, address.sequence, GROUP, 1));
    t.like(summary, { group: SECOND_GROUP, groupVersion: 1 });
    t.is(summary.records.length, records.length);
  }
});

test("what is deleted under a version of one group stays under the same version of another", async (t) => {
  const cluster = await Cluster.start({ seed: 202, servers: 3, second: 3 });
  const writer = cluster.writer({ group: SECOND_GROUP });
  writeSegment(writer, 20 * KIB);
  await cluster.run(writer.flush(1));
  const { options } = cluster.client();
  const request = { log: writer.log, sequences: [1], trimmedTo: 1, groupVersion: 1 };
  const held = () => cluster.server(4).store.stat().fragments;
  await cluster.run(options.peers.call(4 as MemberId, "delete", { ...request, group: GROUP }));
  t.is(held(), 1);
  await cluster.run(options.peers.call(4 as MemberId, "delete", { ...request, group: SECOND_GROUP }));
  t.is(held(), 0);
});
