import { type ClusterMap, checkMap, MAP_FORMAT, type Member, type MemberId, SLOTS } from "@dazzle/core";

/** The first map of a cluster: its members, every slot with one manager, no group and no log yet, and one keeper, the first member with that role:
 * others are admitted later (see `wantedKeepers`).
 * `clusterId`: 32 hexadecimal digits. */
export function initialMap(options: { clusterId: string; members: readonly Member[]; manager: MemberId }): ClusterMap {
  const map: ClusterMap = {
    format: MAP_FORMAT,
    clusterId: options.clusterId,
    version: 1,
    nextLog: 1,
    nextMember: 1 + Math.max(0, ...options.members.map((member) => member.id)),
    members: options.members,
    groups: [],
    slots: Array.from({ length: SLOTS }, () => ({ manager: options.manager, term: 1, chain: [] })),
    logs: [],
    keepers: options.members
      .filter(({ roles }) => roles.includes("keeper"))
      .slice(0, 1)
      .map(({ id }) => id),
    formerKeepers: [],
  };
  checkMap(map);
  return map;
}
