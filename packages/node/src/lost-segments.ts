import { type ClusterMap, DazzleError, type MapCache, type MemberId, type StoreId } from "@dazzle/core";
import { type LogOptions, unreadableWithout } from "@dazzle/log";
import { askNeeded } from "./needed.ts";

/** How many segments that some manager needs nobody can read without a member's stores, but for one that is kept. Rejects as `unreadableWithout`, and `notReady` where not all managers answer. */
export async function countLost(options: LogOptions, member: MemberId, kept: StoreId | null): Promise<number> {
  const { map, peers } = options;
  let lost = 0;
  for (const { id } of map.current.groups)
    for (const [log, sequences] of await unreadableWithout({ ...options, group: id, member, kept })) {
      const { live, trimmedTo } = await askNeeded(map, peers, log, sequences);
      if (live === null) throw new DazzleError("notReady", `not all managers say what they need of log ${log.id}`);
      // What is not trimmed yet is not applied everywhere either.
      lost += sequences.filter((sequence) => live.has(sequence) || sequence > trimmedTo).length;
    }
  return lost;
}

/** Changes the map by what `count` found lost with a member, and answers that. What is lost depends on which other stores there are: where these are others by then, it counts again. */
export async function changeKnowingLost(
  map: Pick<MapCache, "current" | "change">,
  member: MemberId,
  count: () => Promise<number>,
  change: (now: ClusterMap) => ClusterMap | undefined,
): Promise<number> {
  for (;;) {
    const others = otherStores(map.current, member);
    const lost = await count();
    let isSame = false;
    await map.change((now) => {
      isSame = otherStores(now, member) === others;
      return isSame ? change(now) : undefined;
    });
    if (isSame) return lost;
  }
}

function otherStores({ members }: ClusterMap, member: MemberId): string {
  return members.map(({ id, store }) => (id === member ? "" : `${id} ${store}`)).join();
}
