import type { GroupId, MemberId } from "../ids.ts";
import type { ClusterMap } from "./cluster-map.ts";

/** Who may lead the cleaning of a stripe group, in the order to try: the first that answers does. By a hash of group and member, so that groups have
 * different leaders (rendezvous hashing). Two that lead at once only waste work. */
export function leadersOf({ members }: Pick<ClusterMap, "members">, group: GroupId): MemberId[] {
  const able = members.filter(({ roles, leaving }) => roles.includes("cleaner") && !leaving).map(({ id }) => id);
  const rank = (member: MemberId) => mixed(mixed(group) ^ member);
  return able.sort((one, other) => rank(one) - rank(other) || one - other);
}

/** The finalizer of MurmurHash3 (Appleby): every bit of a 32 bit integer touches all others. */
function mixed(value: number): number {
  let bits = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
  return (bits ^ (bits >>> 16)) >>> 0;
}
