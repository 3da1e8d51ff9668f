import type { ClusterMap, Group, MemberId } from "@dazzle/core";

/** Every server that may hold something stored in these groups: those that any of their versions names, and those that no group names any more, which may have
 * been away when what they held was moved. */
export function serversOf({ members, groups }: ClusterMap, those: readonly Group[]): Set<MemberId> {
  const named = (group: Group) => group.versions.flatMap(({ servers }) => servers.map(({ member }) => member));
  const all = new Set(groups.flatMap(named));
  return new Set([...those.flatMap(named), ...members.flatMap(({ id, store }) => (store === null || all.has(id) ? [] : [id]))]);
}
