import { type ClusterMap, checkMap, findLog, isDazzleError, type MemberId } from "@dazzle/core";
import type { Subject, Suspicion } from "./problems.ts";
import { type Servers, SilentServer } from "./servers.ts";

type Stores = Pick<Servers, "silent" | "nameOf" | "storeOf">;

/** What contradicts itself in the map, or what is there. */
export async function checkMapAndStores(map: ClusterMap, servers: Stores): Promise<Suspicion[]> {
  const found: Suspicion[] = [];
  const suspect = (subject: Subject, seen: string, evidence = seen) => found.push({ problem: "map", subject, seen, evidence });
  try {
    checkMap(map);
  } catch (error) {
    if (!isDazzleError(error, "badMessage")) throw error;
    suspect({}, error.message);
  }
  const members = new Set<number>(map.members.map(({ id }) => id));
  for (const [slot, { manager, chain }] of map.slots.entries()) {
    const last = chain.at(-1);
    if (manager === null || last === undefined) suspect({ slot }, "nobody manages it");
    else if (findLog(map, last.log)?.member !== manager) suspect({ slot }, `it is logged in ${last.log}, which is not its manager's`);
    for (const { log } of chain)
      if (findLog(map, log)?.kind !== "manager") suspect({ slot, log }, "its chain names a log that is no manager's");
  }
  for (const { id, groups } of map.logs)
    for (const group of groups)
      if (!map.groups.some((row) => row.id === group)) suspect({ log: id }, `it is in group ${group}, which is not there`);
  // Which versions name it does not matter: one may retire between two looks.
  const ofServers = new Map<string, { readonly seen: string[]; readonly evidence: string }>();
  const wrong = (server: string, seen: string, evidence: string) =>
    ofServers.set(server, { seen: [...(ofServers.get(server)?.seen ?? []), seen], evidence });
  for (const { id, versions } of map.groups)
    for (const { version, servers: listed } of versions)
      for (const { member, store } of listed) {
        const server = servers.nameOf(member);
        const served = members.has(member) ? await servedBy(servers, member) : null;
        if (served === null) wrong(server, `version ${version} of group ${id} names it, and it is no member`, "no member");
        else if (served !== undefined && served !== store)
          wrong(server, `it serves another store than version ${version} of group ${id} names`, served);
      }
  for (const [server, { seen, evidence }] of ofServers) suspect({ server }, seen.join(", "), evidence);
  return found;
}

/** The store that it serves; undefined where it does not answer. */
async function servedBy(servers: Stores, member: MemberId): Promise<string | undefined> {
  if (servers.silent.has(member)) return undefined;
  try {
    return await servers.storeOf(member);
  } catch (error) {
    if (!(error instanceof SilentServer)) throw error;
    servers.silent.set(member, error.message);
    return undefined;
  }
}
