import { assert, isDazzleError } from "@dazzle/core";
import type { SimCluster } from "../cluster.ts";
import { heldFragments, neededSegments } from "./segments.ts";

const ATTEMPTS_MAX = 10;
const RETRY_MS = 500;
const SHOWN = 10;
/** Servers are listed one after the other: what moves meanwhile is met neither where it was nor where it comes to, and not so again and again. */
const LOOKS_MAX = 5;

/** Resolves when storage servers hold enough fragments of every segment in which something lives; rejects, naming them, where some are gone. While every
 * node is up. */
export async function nothingLost(cluster: SimCluster): Promise<void> {
  let lost = await findLost(cluster);
  for (let look = 2; look <= LOOKS_MAX && lost.length > 0; look++) {
    await new Promise<void>((resolve) => cluster.world.after(RETRY_MS, resolve));
    const again = new Set(await findLost(cluster));
    lost = lost.filter((segment) => again.has(segment));
  }
  assert(lost.length === 0, `segments that are needed are gone: ${lost.slice(0, SHOWN).join(", ")}`);
}

async function findLost(cluster: SimCluster): Promise<string[]> {
  for (let attempt = 1; ; attempt++) {
    try {
      const before = await neededSegments(cluster);
      const whole = await readable(cluster);
      // What was emptied meanwhile may be gone.
      const after = await neededSegments(cluster);
      return [...before].filter((segment) => after.has(segment) && !whole.has(segment));
    } catch (error) {
      if (!isDazzleError(error) || attempt === ATTEMPTS_MAX) throw error;
      await new Promise<void>((resolve) => cluster.world.after(RETRY_MS, resolve));
    }
  }
}

/** Segments of which servers hold as many fragments of one version as it takes to read them. */
async function readable(cluster: SimCluster): Promise<Set<string>> {
  const indexes = new Map<string, Set<number>>();
  const whole = new Set<string>();
  for (const { log, sequence, group, groupVersion, index, dataFragments } of await heldFragments(cluster)) {
    const key = `${log}/${sequence} ${group} ${groupVersion}`;
    const held = indexes.get(key) ?? new Set();
    indexes.set(key, held.add(index));
    if (held.size >= dataFragments) whole.add(`${log}/${sequence}`);
  }
  return whole;
}
