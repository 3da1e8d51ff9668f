import { type ClusterMap, DazzleError, isSameSet, KEEPERS_CHOICES, KEEPERS_USUAL, type MemberId } from "@dazzle/core";

/** Members that may keep the map and don't yet. */
export function keeperCandidates(map: ClusterMap): readonly MemberId[] {
  return eligible(map).filter((member) => !map.keepers.includes(member));
}

function eligible(map: ClusterMap): MemberId[] {
  return map.members.filter(({ roles, leaving }) => roles.includes("keeper") && !leaving).map(({ id }) => id);
}

/** Who should keep the map, or undefined where that is who does, or where it waits for machines that are not ready. Who keeps it
 * stays, but for a machine that leaves. */
export function wantedKeepers(map: ClusterMap, isReady: (member: MemberId) => boolean): readonly MemberId[] | undefined {
  const may = eligible(map);
  const most = Math.min(may.length, map.keepersAsked ?? KEEPERS_USUAL);
  const count = most % 2 === 1 ? most : most - 1;
  const able = map.keepers.filter((member) => may.includes(member));
  // Where there are to be fewer, those who answer stay: the next change needs a majority of them.
  const stay = able.length > count ? able.filter(isReady) : able;
  const wanted = [...stay, ...keeperCandidates(map).filter(isReady)].slice(0, count);
  return count < 1 || wanted.length < count || isSameSet(wanted, map.keepers) ? undefined : wanted;
}

/** The map in which so many are asked for; undefined where they are. Throws `invalid` where there are not so many that may. */
export function withKeepersAsked(map: ClusterMap, count: number): ClusterMap | undefined {
  const may = eligible(map).length;
  if (!KEEPERS_CHOICES.includes(count))
    throw new DazzleError("invalid", `${KEEPERS_CHOICES.join(" or ")} members keep the map, not ${count}`);
  if (may < count)
    throw new DazzleError("invalid", `${count} keepers take ${count} machines with the role keeper, and there are ${may}: let more join`);
  return (map.keepersAsked ?? KEEPERS_USUAL) === count ? undefined : { ...map, keepersAsked: count };
}

/** The map in which `keepers` join those before; undefined while an earlier change goes on. */
export function withKeepersJoined(map: ClusterMap, keepers: readonly MemberId[]): ClusterMap | undefined {
  return map.formerKeepers.length > 0 ? undefined : { ...map, keepers, formerKeepers: map.keepers };
}

/** The map in which those before have retired; undefined where there are none. The joint map is decided, and has been for a lease (see `ManagerLease`). */
export function withFormerKeepersRetired(map: ClusterMap): ClusterMap | undefined {
  return map.formerKeepers.length === 0 ? undefined : { ...map, formerKeepers: [] };
}
