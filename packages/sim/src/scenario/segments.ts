import type { ListedFragment } from "@dazzle/core";
import { behindPrefix, EntryKind, keyId, keyNumber } from "@dazzle/manager";
import type { SimCluster } from "../cluster.ts";

const PAGE = 1_000;
const LIVE = Buffer.of(EntryKind.live);

/** Segments ("log/sequence") in which shards have live bytes. While every node is up. A manager that has been given up, and does not know it yet, says nothing of its
 * slots any more. */
export async function neededSegments(cluster: SimCluster): Promise<Set<string>> {
  const needed = new Set<string>();
  const { slots } = cluster.numbers
    .map((number) => cluster.node(number).map.current)
    .reduce((newest, map) => (map.version > newest.version ? map : newest));
  for (const number of cluster.numbers)
    for (const { imap, slot, term } of cluster.node(number).manager?.parts.host.shards ?? [])
      if (term === slots[slot]?.term)
        for await (const [key] of imap.everything(LIVE, behindPrefix(LIVE))) needed.add(`${keyId(key)}/${keyNumber(key)}`);
  return needed;
}

/** What storage servers hold, each server's after the other's. */
export async function heldFragments(cluster: SimCluster): Promise<ListedFragment[]> {
  const { peers, map } = cluster.node(1);
  const held: ListedFragment[] = [];
  for (const { id } of map.current.members) {
    const { reply } = await peers.call(id, "listLogs", {});
    for (const log of reply.logs)
      for (let after = 0, more = true; more; ) {
        const page = (await peers.call(id, "list", { log, after, limit: PAGE })).reply;
        held.push(...page.fragments);
        more = page.more;
        after = page.fragments.at(-1)?.sequence ?? after;
      }
  }
  return held;
}
