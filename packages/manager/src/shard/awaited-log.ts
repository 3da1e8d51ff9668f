import type { ClusterMap } from "@dazzle/core";
import { outdatedVersions } from "@dazzle/log";

/** Whether the cluster waits until a manager's log is trimmed: a member leaves, or what lies of it under an outdated version of a group keeps that in the map. */
export function isAwaited(map: ClusterMap, { log, trimmedTo }: { readonly log: number; readonly trimmedTo: number }): boolean {
  if (map.members.some(({ leaving }) => leaving)) return true;
  return map.groups.some((group) => outdatedVersions(map, group).some(({ frozen }) => (frozen?.[log] ?? 0) > trimmedTo));
}
