import { currentVersion, findGroup, withGroup } from "@dazzle/core";
import test from "ava";
import { GroupWatch } from "../src/group-watch.ts";
import { Cluster, GROUP } from "./support/cluster.ts";

const NEEDED = 30 * 1024;

test("a group that had no room for a segment is written again when the servers of one stripe have room for two, however many others there are", async (t) => {
  const cluster = await Cluster.start({ seed: 302, servers: 6, second: 3 });
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const row = { ...currentVersion(group), dataFragments: 1 };
    return withGroup(map, { ...group, dataMax: 1, versions: [row] });
  });
  let roomBytes = 2 * NEEDED - 1;
  for (const server of cluster.servers)
    server.intercept = async (message, _request, _context, next) => {
      const answer = (await next()) as { reply: object };
      return message === "stat" ? { reply: { ...answer.reply, bytesForData: roomBytes } } : answer;
    };
  const { options } = cluster.client();
  await cluster.run(options.map.refresh());
  const watch = new GroupWatch(options);
  const group = findGroup(options.map.current, GROUP);
  watch.failed(group, NEEDED);
  const isWritable = async () => {
    await cluster.world.advance(100);
    await cluster.run(watch.ask());
    return watch.isWritable(group);
  };
  t.false(await isWritable());
  roomBytes++;
  t.true(await isWritable());
});
