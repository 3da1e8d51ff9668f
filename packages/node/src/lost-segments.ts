import { DazzleError, type MemberId } from "@dazzle/core";
import { type LogOptions, unreadableWithout } from "@dazzle/log";
import { askNeeded } from "./needed.ts";

/** How many segments that some manager needs nobody can read without a member's store. Rejects as `unreadableWithout`, and `notReady` where not all managers answer. */
export async function countLost(options: LogOptions, member: MemberId): Promise<number> {
  const { map, peers } = options;
  let lost = 0;
  for (const { id } of map.current.groups)
    for (const [log, sequences] of await unreadableWithout({ ...options, group: id, member })) {
      const { live, trimmedTo } = await askNeeded(map, peers, log, sequences);
      if (live === null) throw new DazzleError("notReady", `not all managers say what they need of log ${log.id}`);
      // What is not trimmed yet is not applied everywhere either.
      lost += sequences.filter((sequence) => live.has(sequence) || sequence > trimmedTo).length;
    }
  return lost;
}
