import { resolve } from "node:path";
import { type Address, type ClusterMap, readMapFrom } from "@dazzle/core";
import { realClock, webSocketNetwork } from "@dazzle/runtime";
import { addressList } from "./addresses.ts";
import { DEFAULT_DIRECTORY, nearOf, requireCluster } from "./cluster-directory.ts";
import { failure, lineOf } from "./output.ts";
import { readSeeds } from "./seeds.ts";

const ANSWER_DEADLINE_MS = 3_000;

/** How a command that only asks finds a cluster. */
export interface Reach {
  /** The cluster's directory on this machine; null where it was named from outside. */
  readonly directory: string | null;
  /** Sockets of the members on this machine. */
  readonly near: ReadonlyMap<number, Address>;
  readonly addresses: readonly Address[];
  /** "" where any will do. */
  readonly clusterId: string;
  /** What is said where nobody answers. */
  readonly way: string;
}

/** The options of every such command. */
export const REACH_OPTIONS = { dir: { type: "string" }, cluster: { type: "string" } } as const;
export const REACH_HELP = `  --dir DIR                 the cluster's directory on this machine (default ${DEFAULT_DIRECTORY})
  --cluster HOST:PORT,…     any members of a cluster, asked from outside`;

export async function reachOf(values: { readonly dir?: string; readonly cluster?: string }): Promise<Reach> {
  if (values.cluster !== undefined) {
    const addresses = addressList("--cluster", values.cluster);
    return { directory: null, near: new Map(), addresses, clusterId: "", way: `is dazzle node running there?` };
  }
  const directory = resolve(values.dir ?? DEFAULT_DIRECTORY);
  const cluster = await requireCluster(directory);
  const near = await nearOf(directory, cluster);
  const start = near.size > 1 ? "up" : "node";
  return {
    directory,
    near,
    clusterId: cluster.clusterId,
    addresses: [...near.values(), ...(await readSeeds(directory))],
    way: `start it with dazzle ${start} --dir ${directory}`,
  };
}

/** The newest map that any member knows which answers in time. */
export async function newestMap({ addresses, clusterId, directory, way }: Reach): Promise<ClusterMap> {
  const network = webSocketNetwork();
  const answers = await Promise.allSettled(
    addresses.map((address) => readMapFrom(network, realClock, address, ANSWER_DEADLINE_MS, clusterId)),
  );
  let newest: ClusterMap | undefined;
  let reason = "";
  for (const answer of answers) {
    if (answer.status === "rejected") reason ||= lineOf(answer.reason);
    else if (answer.value.version > (newest?.version ?? 0)) newest = answer.value;
  }
  if (newest === undefined)
    throw failure(`no node of the cluster${directory === null ? "" : ` in ${directory}`} answers (${reason}): ${way}`);
  return newest;
}
