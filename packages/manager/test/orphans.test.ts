import { DazzleError } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Cluster } from "./support/cluster.ts";
import { ino, inodeOf } from "./support/transactions.ts";

const SLOT = 9;
const FAILURES = 4;
const LIMIT_MS = 300_000;

for (const [what, over] of [
  ["once its mount has closed it", "closed"],
  ["once its mount is gone", "gone"],
] as const)
  test(`an unlinked file that can't be removed ${what} is removed later, tried ever more seldom`, async (t) => {
    const world = new World(what);
    const cluster = new Cluster(world);
    await world.run(cluster.start());
    const mount = await world.run(cluster.mount("mount"));
    const { first } = (await world.run(mount.call("numbers", { slot: SLOT, count: 10 }))).reply;
    await world.run(mount.change([{ kind: "putInode", ino: ino(first), inode: inodeOf(first, { nlink: 0 }) }]));
    await world.run(mount.settle());
    const { host } = cluster.manager.parts;
    const { orphans } = host.shard(SLOT);
    const applyOwn = host.applyOwn.bind(host);
    const triedMs: number[] = [];
    host.applyOwn = async (builder) => {
      triedMs.push(world.nowMs);
      if (triedMs.length <= FAILURES) throw new DazzleError("notReady", "too much waits here");
      await applyOwn(builder);
    };
    if (over === "gone") mount.kill();
    else await world.run(mount.call("closed", { inos: [first] }));
    await world.run(() => orphans.size === 0, LIMIT_MS);
    t.is(triedMs.length, FAILURES + 1);
    const pausesMs = triedMs.slice(1).map((ms, index) => ms - (triedMs[index] as number));
    for (const [index, pauseMs] of pausesMs.entries()) t.true(index === 0 || pauseMs > (pausesMs[index - 1] as number), `${pausesMs}`);
  });
