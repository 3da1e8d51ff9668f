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

/** Others join: the group has the first `count` servers then, and so many parities. */
export function grow(cluster: Cluster, count = 3, parityFragments = 1): void {
  cluster.change((map) => {
    const group = findGroup(map, GROUP);
    const servers = map.members.slice(0, count).map(({ id, store }) => ({ member: id, store: store as NonNullable<typeof store> }));
    const version = (currentVersion(group).version + 1) as GroupVersion;
    const row = { version, servers, dataFragments: servers.length - parityFragments, parityFragments, frozen: null };
    return withGroup(map, { ...group, versions: [...group.versions, row] });
  });
}
