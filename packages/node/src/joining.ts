import { type Address, type ClusterMap, DazzleError, type MapCache, type Member, type MemberId, ROLES, type Role } from "@dazzle/core";
import { wantedToo } from "./spare-servers.ts";

export interface Joining {
  readonly name: string;
  readonly addresses: readonly Address[];
  readonly roles: readonly string[];
}

/** Takes a machine into the map, by compare-and-swap, and has a group want it where it stores and one has room. Its own node does the rest: it registers its store, and
 * admits it to the group. Resolves to its id. */
export async function addMember(map: MapCache, joining: Joining): Promise<MemberId> {
  const { name, addresses } = joining;
  if (name === "" || addresses.length === 0) throw new DazzleError("invalid", "a member has a name and an address");
  const roles = joining.roles.map(roleOf);
  await map.refresh();
  const before = map.current.nextMember;
  // An answer may get lost: a member of that name that is not older than this attempt is its own.
  const own = () => map.current.members.find((row) => row.id >= before && row.name === name && row.addresses.join() === addresses.join());
  await map.change((now) => {
    if (own() !== undefined) return undefined;
    requireFree(now, joining);
    const id = now.nextMember as MemberId;
    const member: Member = { id, name, addresses, roles, incarnation: 1, leaving: false, store: null };
    return {
      ...now,
      nextMember: id + 1,
      members: [...now.members, member],
      groups: wantedToo(now.groups, member),
    };
  });
  const member = own();
  if (member === undefined) throw new DazzleError("versionConflict", `${name} was removed while it joined`);
  return member.id;
}

function roleOf(role: string): Role {
  const known = ROLES.find((one) => one === role);
  if (known === undefined) throw new DazzleError("invalid", `there is no role "${role}": there are ${ROLES.join(", ")}`);
  return known;
}

function requireFree(map: ClusterMap, { name, addresses }: Joining): void {
  if (map.groups.length === 0)
    throw new DazzleError("notReady", "the cluster has no stripe group yet: its first machine is still starting");
  for (const member of map.members) {
    if (!member.addresses.some((address) => address.startsWith("tcp:")))
      throw new DazzleError("invalid", `${member.name} is reached on its own machine alone, at ${member.addresses.join(", ")}`);
    if (member.name === name)
      throw new DazzleError(
        "exists",
        `the name ${name} is taken, by the member at ${member.addresses.join(", ")}: join under another --name`,
      );
    const taken = member.addresses.find((address) => addresses.includes(address));
    if (taken !== undefined) throw new DazzleError("exists", `the address ${taken} is that of the member ${member.name}`);
  }
}
