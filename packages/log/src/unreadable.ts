import { DazzleError, findGroup, type GroupServer, type GroupVersionRow, type LogRow, type MemberId, type StoreId } from "@dazzle/core";
import { listAbove, memberName, type ServerListing, serversOf } from "./listing.ts";
import { LogEvidence } from "./log-end.ts";
import type { LogOptions } from "./options.ts";
import { isGone } from "./outdated.ts";

/** Which segments can't be read any more once a member's stores are gone, but for `kept`, by log: candidates, of which nobody may need some. Rejects `unreachable` where another
 * server does not answer, `invalid` where too few servers of a version are left that can tell what of a log was stored under it. */
export async function unreadableWithout(
  options: LogOptions & { readonly group: number; readonly member: MemberId; readonly kept?: StoreId | null },
): Promise<Map<LogRow, readonly number[]>> {
  const { map, member, kept } = options;
  const isGivenUp = (server: GroupServer) => server.member === member && server.store !== kept;
  const group = findGroup(map.current, options.group);
  const concerned = group.versions.filter(({ servers }) => servers.some(isGivenUp));
  const away = (row: GroupVersionRow) => row.servers.filter((server) => isGivenUp(server) || isGone(map.current, server)).length;
  const unreadable = new Map<LogRow, readonly number[]>();
  if (concerned.length === 0) return unreadable;
  for (const row of map.current.logs) {
    if (!row.groups.includes(group.id)) continue;
    const versions = row.groups.flatMap((id) =>
      findGroup(map.current, id).versions.map((version) => ({ group: id, row: version, lastSequence: Number.MAX_SAFE_INTEGER })),
    );
    const listings = new Map<StoreId, ServerListing>();
    for (const server of serversOf(options, row))
      if (!isGivenUp(server) && !isGone(map.current, server))
        listings.set(server.store, await listAbove(options, server.member, row.id, 0));
    const evidence = new LogEvidence(versions, listings);
    const last = row.end ?? Number.MAX_SAFE_INTEGER;
    const asked = new Set<number>();
    for (const { fragments } of listings.values())
      for (const fragment of fragments)
        if (fragment.group === group.id && fragment.sequence <= last && concerned.some(({ version }) => version === fragment.groupVersion))
          asked.add(fragment.sequence);
    const doubted = ({ servers }: GroupVersionRow) => servers.filter(({ store }) => listings.get(store)?.vouched === false).length;
    // Of a stripe whose servers may all be among those that are away, or may have lost it, nobody else holds anything; the log's end, or the freeze, tells how many there were.
    for (const version of concerned) {
      if (away(version) + doubted(version) <= version.parityFragments) continue;
      if (version.frozen === null && row.end === null)
        throw new DazzleError(
          "invalid",
          `nobody but ${memberName(options, member)} can tell what was stored under version ${version.version} of the group ${group.name}`,
        );
      for (let sequence = 1; sequence <= Math.min(last, version.frozen?.[row.id] ?? row.end ?? 0); sequence++) asked.add(sequence);
    }
    const lost = [...asked].filter((sequence) => evidence.verdict(sequence).readable.length === 0);
    if (lost.length > 0) unreadable.set(row, lost);
  }
  return unreadable;
}
