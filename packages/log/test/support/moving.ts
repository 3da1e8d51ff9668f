import { currentVersion, findGroup, type GroupVersion, joined, type MemberId, withGroup } from "@dazzle/core";
import { freezeReplaced, type MoveScan, moveSegments, type Needed, scanGroup } from "@dazzle/log";
import type { ExecutionContext } from "ava";
import { type Client, type Cluster, GROUP } from "./cluster.ts";
import { type Written, writeSegment } from "./segments.ts";

const KIB = 1024;

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

/** The group goes on with these servers, as `n − 1 + 1`, and wants no others. */
export function regroup(cluster: Cluster, members: readonly number[], parityFragments = 1): void {
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const servers = members.map((id) => {
      const { store } = map.members.find((row) => row.id === id) as never;
      return { member: id as MemberId, store };
    });
    const version = (currentVersion(group).version + 1) as GroupVersion;
    const dataFragments = Math.max(1, servers.length - parityFragments);
    const wanted = [...members] as MemberId[];
    return withGroup(map, {
      ...group,
      wanted,
      versions: [...group.versions, { version, servers, dataFragments, parityFragments, frozen: null }],
    });
  });
}

/** No member serves its store any more. */
export function declareLost(cluster: Cluster, member: number): void {
  cluster.change((map) => ({ ...map, members: map.members.map((row) => (row.id === member ? { ...row, store: null } : row)) }));
}

export async function segments(cluster: Cluster, count: number) {
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const written = Array.from({ length: count }, (_, index) => writeSegment(writer, index % 3 === 2 ? 200 : 30 * KIB, { urgent: true }));
  await cluster.run(() => writer.stableSequence === count);
  return { client, writer, written };
}

export async function reads(t: ExecutionContext, cluster: Cluster, written: readonly Written[]): Promise<void> {
  const reader = cluster.reader();
  for (const { address, bytes, sealed } of written)
    t.true(joined(await cluster.run(reader.read(address))).equals(bytes), `segment ${sealed.sequence}`);
}
