import type { Clock, MapCache } from "@dazzle/core";
import type { Imap } from "../imap/imap.ts";
import { RunCache } from "../imap/run-cache.ts";
import type { ReadableLogs } from "../log-access.ts";
import { ChainReader } from "./recovery.ts";
import { StepTimes } from "./step-times.ts";

/** The imaps of slots as the logs of their chains say, for who does not own them: `logs` ends nothing, and answers of a log that goes on what is stable of it.
 * In memory: what is logged since the last checkpoint, and `runCacheBytes`. Rejects as `ChainReader` does. */
export async function loggedImaps(
  options: { readonly map: MapCache; readonly logs: ReadableLogs; readonly clock: Clock; readonly runCacheBytes: number },
  slots: readonly number[],
): Promise<Map<number, Imap>> {
  const { map, logs, clock } = options;
  const rows = map.current.slots;
  const reader = new ChainReader(logs, map, new StepTimes(clock));
  const found = await reader.find(slots.map((slot) => ({ slot, links: rows[slot]?.chain ?? [] })));
  const cache = new RunCache({ read: (address) => logs.read(address), capacityBytes: options.runCacheBytes });
  const events = { emptied: () => {}, named: () => {} };
  const shards = await reader.shards(found, { term: (slot) => rows[slot]?.term ?? 0, cache, events, clock });
  const imaps = new Map<number, Imap>();
  for (const [slot, shard] of shards) {
    // Which files were removed is logged; that their extents were dropped since is not.
    while (shard.condemned.size > 0) await shard.sweep();
    imaps.set(slot, shard.imap);
  }
  return imaps;
}
