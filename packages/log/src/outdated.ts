import { type ClusterMap, currentVersion, type Group, type GroupServer, type GroupVersionRow, type StoreId } from "@dazzle/core";

/** Whether no member serves a store any more: its member has left, was declared lost, or serves another. It never answers again. */
export function isGone({ members }: Pick<ClusterMap, "members">, { member, store }: GroupServer): boolean {
  return members.find(({ id }) => id === member)?.store !== store;
}

export function goneStores(map: Pick<ClusterMap, "members">, servers: readonly GroupServer[]): ReadonlySet<StoreId> {
  return new Set(servers.filter((server) => isGone(map, server)).map(({ store }) => store));
}

/** Obsolete versions of which everything stored is to be moved into the current one: those that name a server which the group does not want any more or which
 * is gone, that have less parity, or fewer servers. One with the servers of the current version stays as it is, so that a short outage moves only what was
 * written meanwhile. */
export function outdatedVersions(map: Pick<ClusterMap, "members">, group: Group): readonly GroupVersionRow[] {
  const current = currentVersion(group);
  return group.versions
    .slice(0, -1)
    .filter(
      (row) =>
        row.parityFragments < current.parityFragments ||
        row.servers.length < current.servers.length ||
        row.servers.some((server) => !group.wanted.includes(server.member) || isGone(map, server)),
    );
}
