import { History, type SimMount, Workload, type World } from "@dazzle/sim";
import { ROOT } from "./files.ts";

/** Random operations on each of these mounts, checked together against a model of one filesystem. */
export function workloadsOn(world: World, mounts: readonly SimMount[]): readonly Workload[] {
  const history = new History(ROOT, { mode: 0o755, uid: 0, gid: 0 });
  return mounts.map(({ client: { fileSystem } }, index) => {
    const random = world.random.fork(`w${index}`);
    return new Workload({ fileSystem, history, mount: `m${index}`, random, fileBytes: 20_000 });
  });
}
