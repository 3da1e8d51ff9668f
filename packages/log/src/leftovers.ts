import { currentVersion, type Group, type ListedFragment, type LogRow, type StoreId } from "@dazzle/core";
import { listRange, type ServerListing } from "./listing.ts";
import { LogEvidence } from "./log-end.ts";
import type { MoveOptions } from "./move-scan.ts";
import { goneStores } from "./outdated.ts";

/** Sequences of a log that are looked at together. */
const PAGE_SEQUENCES = 1_000;

/** Deletes what `self` holds under versions that have left the map: it was away when what lay under them was moved, and given up. What is not whole under a version that the map
 * has stays as long as managers need it. Answers how many fragments stay. Rejects where somebody does not answer. */
export async function deleteLeftovers(options: MoveOptions, group: Group): Promise<number> {
  const { map, self } = options;
  let kept = 0;
  for (const log of map.current.logs) {
    if (!log.groups.includes(group.id)) continue;
    for (let after = 0; ; ) {
      const { listing, last, more } = await listRange(options, self, log.id, after, Number.MAX_SAFE_INTEGER, PAGE_SEQUENCES);
      const left = listing.fragments.filter((fragment) => isLeft(group, fragment));
      if (left.length > 0) kept += await deleteUnneeded(options, group, log, left, after, last);
      if (!more) break;
      after = last;
    }
  }
  return kept;
}

function isLeft(group: Group, fragment: ListedFragment): boolean {
  return (
    fragment.group === group.id &&
    fragment.groupVersion < currentVersion(group).version &&
    !group.versions.some(({ version }) => version === fragment.groupVersion)
  );
}

async function deleteUnneeded(
  options: MoveOptions,
  group: Group,
  log: LogRow,
  left: readonly ListedFragment[],
  after: number,
  through: number,
): Promise<number> {
  const { map, peers, limits, self } = options;
  const all = group.versions.flatMap(({ servers }) => servers);
  const gone = goneStores(map.current, all);
  const servers = new Map(all.filter(({ store }) => !gone.has(store)).map(({ store, member }) => [store, member]));
  const listings = new Map<StoreId, ServerListing>();
  for (const [store, member] of servers) listings.set(store, (await listRange(options, member, log.id, after, through)).listing);
  const needed = await options.needed(
    log,
    left.map(({ sequence }) => sequence),
  );
  const versions = group.versions.map((row) => ({ group: group.id, row, lastSequence: Number.MAX_SAFE_INTEGER }));
  const evidence = new LogEvidence(versions, listings, gone, needed.trimmedTo);
  const isUnneeded = ({ sequence }: ListedFragment) =>
    sequence <= evidence.trimmedTo &&
    (evidence.verdict(sequence).readable.some(({ complete }) => complete) || (needed.live !== null && !needed.live.has(sequence)));
  const unneeded = left.filter(isUnneeded);
  for (const groupVersion of new Set(unneeded.map((fragment) => fragment.groupVersion))) {
    const sequences = unneeded.filter((fragment) => fragment.groupVersion === groupVersion).map(({ sequence }) => sequence);
    const request = { log: log.id, sequences, trimmedTo: evidence.trimmedTo, group: group.id, groupVersion };
    await peers.call(self, "delete", request, { deadlineMs: limits.requestDeadlineMs });
  }
  return left.length - unneeded.length;
}
