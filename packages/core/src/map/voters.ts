import type { MemberId } from "../ids.ts";
import type { ClusterMap, Member } from "./cluster-map.ts";

/** At most so many keepers. */
export const KEEPERS_MAX = 5;

/** Who votes while this map is the newest: its keepers, and while the set changes those before. */
export function keepersOf(map: Pick<ClusterMap, "keepers" | "formerKeepers">): readonly MemberId[] {
  return [...new Set([...map.keepers, ...map.formerKeepers])];
}

export function keeperRows(map: ClusterMap): readonly Member[] {
  const voters = keepersOf(map);
  return map.members.filter(({ id }) => voters.includes(id));
}

/** Whether `holds` is true of a majority of the keepers, and of a majority of those before. */
export function hasMajorities(map: Pick<ClusterMap, "keepers" | "formerKeepers">, holds: (member: MemberId) => boolean): boolean {
  const isMajority = (set: readonly MemberId[]) => 2 * set.filter(holds).length > set.length;
  return isMajority(map.keepers) && (map.formerKeepers.length === 0 || isMajority(map.formerKeepers));
}

export function isSameSet(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((member) => other.includes(member));
}
