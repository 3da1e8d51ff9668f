import { currentVersion, findGroup, type GroupId, type GroupVersion, type MemberId, withGroup } from "@dazzle/core";
import { Cluster } from "./cluster.ts";

const GROUP = 1 as GroupId;
const FIRST = 1 as MemberId;

/** Three servers, of which the group knows the first alone: no parity. */
export async function alone(seed: number): Promise<Cluster> {
  const cluster = await Cluster.start({ seed, servers: 3 });
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const [first] = currentVersion(group).servers;
    const row = { ...currentVersion(group), servers: first === undefined ? [] : [first], dataFragments: 1, parityFragments: 0 };
    return withGroup(map, { ...group, wanted: [FIRST], versions: [row] });
  });
  return cluster;
}

/** The others join: the group gets parity. */
export function grow(cluster: Cluster): void {
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const servers = map.members.map(({ id, store }) => ({ member: id, store: store as NonNullable<typeof store> }));
    const row = { version: 2 as GroupVersion, servers, dataFragments: 2, parityFragments: 1, frozen: null };
    return withGroup(map, { ...group, versions: [...group.versions, row] });
  });
}
