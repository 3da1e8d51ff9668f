import { findGroup, type MemberId } from "@dazzle/core";
import { freezeReplaced, type MoveScan, moveSegments, type Needed, scanGroup } from "@dazzle/log";
import { type Client, type Cluster, GROUP } from "./cluster.ts";

export interface Moved {
  /** The last look of each server that was asked, by member. */
  readonly scans: ReadonlyMap<number, MoveScan>;
  /** In the order in which they were written. */
  readonly moved: readonly string[];
  readonly failed: number;
}

/** Every one of `members` moves its share, until it finds nothing to do or fails. */
export async function moveAll(
  cluster: Cluster,
  options: { readonly members: readonly number[]; readonly needed?: Needed; readonly client?: Client; readonly copyDead?: boolean },
): Promise<Moved> {
  const client = options.client ?? cluster.client();
  const needed = options.needed ?? { live: null, trimmedTo: 0 };
  const scans = new Map<number, MoveScan>();
  const moved: string[] = [];
  let failed = 0;
  await cluster.run(client.options.map.refresh());
  const reader = cluster.reader(client);
  for (const member of options.members) {
    const move = { ...client.options, self: member as MemberId, needed: async () => needed };
    for (;;) {
      const group = findGroup(cluster.map, GROUP);
      const scan = await cluster.run(scanGroup(move, group, options.copyDead ?? false));
      scans.set(member, scan);
      if (scan.tasks.length === 0) break;
      for (const { log, sequence } of scan.tasks) moved.push(`${log} ${sequence}`);
      const done = await cluster.run(
        moveSegments({ ...move, reader, onMoved: () => {}, isOver: () => false, rest: async () => {} }, group, scan.tasks),
      );
      failed += done.failed;
      if (done.failed > 0) break;
    }
  }
  return { scans, moved, failed };
}

export async function freeze(cluster: Cluster): Promise<void> {
  const { options } = cluster.client();
  await cluster.run(options.map.refresh().then(() => freezeReplaced(options, GROUP)));
}

/** Of how many segments the servers that were asked hold something under a version. */
export function heldUnder({ scans }: Moved, version: number): number {
  return [...scans.values()].reduce((sum, { held }) => sum + (held.get(version) ?? 0), 0);
}
