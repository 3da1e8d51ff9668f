import { join } from "node:path";
import { type Address, type Clock, type ClusterMap, isDazzleError, type Network, readMapFromAny, sleep } from "@dazzle/core";
import { readJson, writeJson } from "./files.ts";

/** DIR/seeds.json: where members of the cluster answer, as this machine last heard, to find it again. */
const SEEDS_FORMAT = 1;
const RETRY_MS = 100;

const seedsFile = (directory: string) => join(directory, "seeds.json");

export async function readSeeds(directory: string): Promise<readonly Address[]> {
  const value = await readJson(seedsFile(directory));
  const addresses = value?.addresses;
  return value?.format === SEEDS_FORMAT && Array.isArray(addresses) ? addresses.filter((one) => typeof one === "string") : [];
}

export async function writeSeeds(directory: string, addresses: readonly Address[]): Promise<void> {
  await writeJson(seedsFile(directory), { format: SEEDS_FORMAT, addresses });
}

/** Where other machines meet the members. */
export function networkAddresses(map: ClusterMap): readonly Address[] {
  return map.members.flatMap(({ addresses }) => addresses.filter((address) => address.startsWith("tcp:")));
}

/** Writes down where the map's members answer, where that has changed. */
export async function rememberSeeds(directory: string, map: ClusterMap): Promise<void> {
  const addresses = networkAddresses(map);
  if (addresses.length > 0 && addresses.join() !== (await readSeeds(directory)).join()) await writeSeeds(directory, addresses);
}

export interface MapPatience {
  /** Of one attempt. */
  readonly attemptMs: number;
  /** How long a cluster that answers nowhere is waited for. */
  readonly unreachableMs: number;
  /** How long one that is there and does not answer in time is waited for. */
  readonly silentMs: number;
}

/** The map as the first who answers at one of these addresses knows it, tried again while nobody answers; who uses it reads it anew at the keepers. Rejects with the reason of the last attempt. */
export async function mapFrom(
  network: Network,
  clock: Clock,
  addresses: () => Promise<readonly Address[]>,
  clusterId: string,
  { attemptMs, unreachableMs, silentMs }: MapPatience,
): Promise<ClusterMap> {
  const beganMs = clock.nowMs();
  for (;;) {
    try {
      return await readMapFromAny(network, clock, await addresses(), attemptMs, clusterId);
    } catch (error) {
      const patienceMs = isDazzleError(error, "unreachable") ? unreachableMs : silentMs;
      if (!isDazzleError(error, "unreachable", "timedOut") || clock.nowMs() - beganMs > patienceMs) throw error;
      await sleep(clock, RETRY_MS);
    }
  }
}
