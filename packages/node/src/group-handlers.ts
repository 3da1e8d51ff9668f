import {
  type ClusterMap,
  currentVersion,
  DazzleError,
  type Group,
  type GroupChange,
  type GroupServer,
  type Handlers,
  isDazzleError,
  type Member,
  type MemberId,
  type Ports,
  type StoreId,
} from "@dazzle/core";
import type { LogOptions } from "@dazzle/log";
import { groupNamed, memberNamed, withGroupChange, withLostServer } from "./group-changes.ts";
import { changeKnowingLost, countLost } from "./lost-segments.ts";
import { isStoreReached } from "./reached.ts";

const ASK_DEADLINE_MS = 5_000;
/** Where nobody can tell what is lost. */
const UNKNOWN = -1;

export type GroupHandlerOptions = LogOptions & { readonly ports: Pick<Ports, "clock" | "logger"> };

/** What every member answers about changing stripe groups. The map's change is all that is done here: every server moves its share of what lies under older versions. */
export function groupHandlers(options: GroupHandlerOptions): Handlers {
  const { map, ports } = options;
  const changed = async (asked: GroupChange, data?: number) => {
    await map.refresh();
    const store = await arrivingStore(options, asked);
    let intended: Group | undefined;
    const change = (now: ClusterMap) => {
      const before = now.groups.find(({ name }) => name === asked.group);
      // An answer may get lost.
      if (intended !== undefined && JSON.stringify(before) === JSON.stringify(intended)) return undefined;
      const next = withGroupChange(now, asked, store, data);
      intended = next?.groups.find(({ name }) => name === asked.group);
      return next;
    };
    const givenUp = givesUp(map.current, asked, store);
    let lost = 0;
    if (givenUp === undefined) await map.change(change);
    else lost = await changeKnowingLost(map, givenUp.id, () => requireLost(options, givenUp.name, store, asked.force), change);
    const { version, dataFragments, parityFragments } = currentVersion(groupNamed(map.current, asked.group));
    ports.logger(lost === 0 ? "info" : "warning", "a stripe group was changed", {
      group: asked.group,
      change: asked.change,
      servers: asked.servers.join(" "),
      version,
      shape: `${dataFragments}+${parityFragments}`,
      lost,
    });
    return { reply: { version, lost } };
  };
  return {
    changeGroup: (asked) => changed(asked),
    createGroup: ({ data, ...asked }) => changed({ ...asked, change: "create", force: false }, data),

    declareLost: async ({ server, force }) => {
      await map.refresh();
      const { id } = memberNamed(map.current, server);
      const lost = await changeKnowingLost(
        map,
        id,
        () => requireLost(options, server, null, force),
        (now) => withLostServer(now, server, force),
      );
      ports.logger("warning", "a storage server was declared lost", { server, lost });
      return { reply: { lost } };
    },
  };
}

/** Who comes into a group answers, with the store that the map lists; the store that is there now, of who is replaced by itself. */
async function arrivingStore(options: GroupHandlerOptions, { change, servers }: GroupChange): Promise<StoreId | null> {
  const { map } = options;
  if (change === "remove" || change === "parity") return null;
  const arriving = change === "replace" ? servers.slice(1) : servers;
  const stores = await Promise.all(arriving.map((name) => storeThere(options, memberNamed(map.current, name).id, name)));
  const [store] = stores;
  if (change === "replace" && servers[0] === servers[1]) return store as StoreId;
  for (const [index, name] of arriving.entries()) {
    const { store: listed } = memberNamed(map.current, name);
    if (listed !== null && stores[index] !== listed)
      throw new DazzleError(
        "wrongStore",
        `${name} serves an empty storage directory: dazzle group replace-server G ${name} ${name} admits it`,
      );
  }
  return null;
}

/** The member whose store goes for good, or has and is still being rebuilt: one that is replaced by itself, where `store` is there now. */
function givesUp(
  { members, groups }: ClusterMap,
  { change, servers: [first, second] }: GroupChange,
  store: StoreId | null,
): Member | undefined {
  if (change !== "replace" || first !== second) return undefined;
  const member = members.find(({ name }) => name === first);
  const isAnother = (server: GroupServer) => server.member === member?.id && server.store !== store;
  return groups.some(({ versions }) => versions.some(({ servers }) => servers.some(isAnother))) ? member : undefined;
}

async function storeThere({ peers, map }: GroupHandlerOptions, member: MemberId, name: string): Promise<StoreId> {
  const { roles } = memberNamed(map.current, name);
  if (!roles.includes("storage")) throw new DazzleError("invalid", `${name} does not store: it has the roles ${roles.join(", ")}`);
  try {
    return (await peers.call(member, "stat", {}, { deadlineMs: ASK_DEADLINE_MS })).reply.store as StoreId;
  } catch (error) {
    if (!isDazzleError(error)) throw error;
    throw new DazzleError(
      "unreachable",
      `${name} does not answer, so it can't come into the group: start dazzle node there (${error.message})`,
    );
  }
}

/** How many segments are lost with a store that is not there any more, `kept` being the one that its member has in its place. Where that is done already, and rebuilt, it
 * is but told; else rejects where the store is there, and, but for `force`, where any are lost, or nobody can tell. */
async function requireLost(options: GroupHandlerOptions, name: string, kept: StoreId | null, force: boolean): Promise<number> {
  const { map, peers } = options;
  const { id, store } = memberNamed(map.current, name);
  const isDone = store === null || store === kept;
  if (!isDone && (await isStoreReached(map, peers, id)))
    throw new DazzleError("invalid", `${name} is there, with what it stores: dazzle group remove-server GROUP ${name} drains it`);
  try {
    const lost = await countLost(options, id, kept);
    if (lost === 0 || force || isDone) return lost;
    throw new DazzleError(
      "invalid",
      `${lost} segments are lost with ${name}, that nobody else holds enough of; with --force it is given up all the same, and dazzle fsck --lost names the files`,
    );
  } catch (error) {
    if (!isDazzleError(error) || (!force && !isDone)) throw error;
    options.ports.logger("warning", "nobody can tell what is lost with a storage server", { server: name, reason: error.message });
    return UNKNOWN;
  }
}
