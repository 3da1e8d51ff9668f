import { existsSync } from "node:fs";
import { join } from "node:path";
import { type Address, findMember, LIMITS, type Logger, memberId, withDeadline } from "@dazzle/core";
import { MachineNode } from "@dazzle/node";
import { openDisk, realClock } from "@dazzle/runtime";
import {
  absoluteAddress,
  type ClusterFile,
  clusterOf,
  genesisOf,
  type NodeFile,
  nearOf,
  nodeFile,
  nodeLock,
  requireNode,
} from "./cluster-directory.ts";
import { writeJson } from "./files.ts";
import { acquireLock } from "./lock.ts";
import { mountsHere } from "./mount-status.ts";
import { MountWatch } from "./mount-watch.ts";
import { failure } from "./output.ts";
import { realPorts } from "./ports.ts";
import { readSeeds, rememberSeeds } from "./seeds.ts";
import { onStop, report } from "./supervised.ts";

type Fields = Readonly<Record<string, unknown>>;

const STOP_DEADLINE_MS = 20_000;

/** A machine's daemon, until it is asked to stop. It listens on `listen` too. `ready` is called once all its roles serve. */
export async function serveNode(
  node: string,
  listen: readonly Address[],
  logger: Logger,
  ready: (fields: Fields) => void,
): Promise<number> {
  const { file, cluster } = await requireNode(node);
  if (file.left === true)
    throw failure(`${file.name} has left the cluster: remove ${clusterOf(node)}, and join again with dazzle join if it is to come back`);
  const lock = acquireLock(nodeLock(node), (pid) => `${node} is in use by process ${pid ?? "of somebody else"}: stop that one first`);
  try {
    refuseLostMap(node, file);
    const stopped = new Promise<string>((yes) => onStop(yes));
    const running = await Promise.race([startNode({ node, file, cluster, listen, logger }), stopped]);
    // What it had begun is as after a crash, which every start can take.
    if (typeof running === "string") return 0;
    const left = running.left.then(async () => {
      await writeJson(nodeFile(node), { ...file, left: true });
      return "it has left the cluster";
    });
    await serveUntil(Promise.race([stopped, left]), running, { node, file, cluster, logger, ready });
    return 0;
  } finally {
    lock.release();
  }
}

interface Starting {
  readonly node: string;
  readonly file: NodeFile;
  readonly cluster: ClusterFile;
  readonly listen: readonly Address[];
  readonly logger: Logger;
}

async function startNode({ node, file, cluster, listen, logger }: Starting): Promise<MachineNode> {
  const directory = clusterOf(node);
  const near = await nearOf(directory, cluster);
  return MachineNode.start({
    ports: realPorts(logger),
    limits: LIMITS,
    clusterId: file.clusterId,
    member: memberId(file.member),
    roles: file.roles,
    address: absoluteAddress(node, file.address),
    moreAddresses: file.listen === undefined ? listen : [file.listen, ...listen],
    seeds: [...(file.keeper === null ? [] : [absoluteAddress(node, file.keeper)]), ...near.values(), ...(await readSeeds(directory))],
    storageDisk: await openDisk(join(node, "storage")),
    keeperDisk: await openDisk(join(node, "keeper")),
    genesis: await genesisOf(directory, cluster),
    near,
    mounts: () => mountsHere(directory),
  });
}

interface Serving extends Omit<Starting, "listen"> {
  readonly ready: (fields: Fields) => void;
}

async function serveUntil(stopped: Promise<string>, running: MachineNode, serving: Serving): Promise<void> {
  const { node, file, cluster, logger, ready } = serving;
  const { name, member, roles } = file;
  const place = cluster.nodes.findIndex((row) => row.name === name);
  const watch = new MountWatch({ directory: clusterOf(node), clock: realClock, logger, place });
  try {
    const { addresses } = running;
    await registerAddresses(running, member, addresses);
    const forget = rememberAlways(clusterOf(node), running, logger);
    logger("info", "the storage serves", { name, address: addresses.join(","), pid: process.pid });
    const early = await Promise.race([running.managing, stopped]);
    if (early === undefined) {
      const fields = { name, pid: process.pid, address: addresses[0], roles };
      logger("info", "the node is up", fields);
      ready(fields);
      await report({ type: "ready", what: "node", fields });
    }
    logger("info", "the node stops", { name, reason: await stopped });
    forget();
  } finally {
    watch.stop();
    await withDeadline(realClock, STOP_DEADLINE_MS, `stopping ${name}`, running.stop());
  }
}

/** Has this machine know where the others answer, as the map changes. Returns what ends it. */
function rememberAlways(directory: string, running: MachineNode, logger: Logger): () => void {
  let writing = Promise.resolve();
  const remember = () => {
    writing = writing
      .then(() => rememberSeeds(directory, running.map.current))
      .catch((error: Error) => logger("warning", "where the members answer can't be written down", { reason: error.message }));
  };
  remember();
  return running.map.onChange(remember);
}

/** A cluster's directory may have been moved since. Sockets are of use on this machine alone: where there is an address for others, the map names that. */
async function registerAddresses(running: MachineNode, member: number, listening: readonly Address[]): Promise<void> {
  const network = listening.filter((address) => address.startsWith("tcp:"));
  const addresses = network.length > 0 ? network : listening;
  await running.map.change((map) => {
    const row = findMember(map, memberId(member));
    if (row.addresses.join() === addresses.join()) return undefined;
    return { ...map, members: map.members.map((one) => (one === row ? { ...one, addresses } : one)) };
  });
}

/** A node that has nobody else to ask for the map can't go on without its keeper's file. */
function refuseLostMap(node: string, file: NodeFile): void {
  const map = join(node, "keeper", "map");
  if (file.keeper === file.address && existsSync(join(node, "storage", "store")) && !existsSync(map))
    throw failure(`the cluster's map, ${map}, is gone while its data is still there: bring that file back`);
}
