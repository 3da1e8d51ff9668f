import { DazzleError, findMember, type MapCache, type MemberId, type Peers } from "@dazzle/core";

const ASK_DEADLINE_MS = 5_000;

/** Whether this machine, or any other member, reaches a member's process. */
export function isReached(map: MapCache, peers: Peers, member: MemberId): Promise<boolean> {
  const own = peers.call(member, "ping", {}, { deadlineMs: ASK_DEADLINE_MS }).then(() => {});
  return isAny([own, ...askReached(map, peers, member)]);
}

/** Whether any member reaches the store that the map lists for a member, on a disk that does what it is asked. */
export function isStoreReached(map: MapCache, peers: Peers, member: MemberId): Promise<boolean> {
  return isAny(askReached(map, peers, member));
}

function askReached(map: MapCache, peers: Peers, member: MemberId): Promise<void>[] {
  const { store } = findMember(map.current, member);
  const others = map.current.members.filter(({ id }) => id !== member);
  return others.map(async ({ id }) => {
    const { reply } = await peers.call(id, "reaches", { member, store: store ?? "" }, { deadlineMs: ASK_DEADLINE_MS });
    if (!reply.reached) throw new DazzleError("unreachable", "it is not reached");
  });
}

function isAny(asked: readonly Promise<void>[]): Promise<boolean> {
  return Promise.any(asked).then(
    () => true,
    () => false,
  );
}
