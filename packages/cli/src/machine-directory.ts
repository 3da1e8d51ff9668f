import { existsSync } from "node:fs";
import { readdir, rm, rmdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { type Address, memberId, type Role } from "@dazzle/core";
import { makePath, realRandom } from "@dazzle/runtime";
import {
  type ClusterFile,
  clusterFile,
  DIRECTORY_FORMAT,
  DIRECTORY_MODE,
  type NodeFile,
  type NodeRow,
  nodeDirectory,
  nodeFile,
  readCluster,
  runDirectory,
  SOCKET,
} from "./cluster-directory.ts";
import { readJson, writeJson } from "./files.ts";
import { failure } from "./output.ts";
import { writeSeeds } from "./seeds.ts";

/** What one machine is in a cluster, before it has an id there. */
export interface Machine {
  readonly name: string;
  readonly listen: Address;
  readonly roles: readonly Role[];
}

/** DIR/joining.json, until the machine is a member: with it, an attempt whose answer was lost is carried on. */
interface JoiningFile extends Machine {
  readonly format: number;
  readonly clusterId: string;
}

const joiningFile = (directory: string) => join(directory, "joining.json");

/** Rejects where `directory` holds anything but what an interrupted join has left. */
export async function requireNew(directory: string): Promise<void> {
  if (!existsSync(dirname(directory))) throw failure(`${directory} can't be made: there is no ${dirname(directory)}; create that first`);
  const cluster = await readCluster(directory);
  if (cluster !== undefined) {
    const name = cluster.nodes[0]?.name;
    const what = name === undefined ? "this machine's mounts" : name;
    throw failure(`${directory} holds ${what} of the cluster ${cluster.clusterId} already: give another --dir`);
  }
  if (existsSync(joiningFile(directory))) return;
  const names = await readdir(directory).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw failure(`${directory} can't be used: ${error.code === "ENOTDIR" ? "it is not a directory" : error.message}`);
  });
  if (names.length > 0) throw failure(`${directory} is not empty: give another --dir`);
}

async function makeDirectories(directory: string): Promise<void> {
  try {
    await makePath(runDirectory(directory), DIRECTORY_MODE);
  } catch (error) {
    throw failure(`${directory} can't be made: ${(error as Error).message}`);
  }
}

const owner = () => ({ uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 });

/** The first machine of a new cluster. */
export async function writeFirst(directory: string, { name, listen, roles }: Machine, parity: number): Promise<void> {
  await makeDirectories(directory);
  const clusterId = Buffer.from(realRandom.bytes(16)).toString("hex");
  const row: NodeRow = { member: memberId(1), name, roles };
  const node: NodeFile = { format: DIRECTORY_FORMAT, clusterId, ...row, address: SOCKET, listen, keeper: SOCKET };
  await writeJson(nodeFile(nodeDirectory(directory, name)), node);
  const cluster: ClusterFile = {
    format: DIRECTORY_FORMAT,
    clusterId,
    groupSize: 1,
    parity,
    nodes: [row],
    owner: owner(),
    prepared: true,
  };
  // Last: with it the directory is a cluster's.
  await writeJson(clusterFile(directory), cluster);
}

/** Writes down that this machine is about to join. Resolves to whether it was about to before, with the same words. */
export async function beginJoining(directory: string, clusterId: string, machine: Machine): Promise<boolean> {
  const begun = (await readJson(joiningFile(directory))) as JoiningFile | undefined;
  const { name, listen } = machine;
  if (begun !== undefined) {
    if (begun.clusterId !== clusterId || begun.name !== name || begun.listen !== listen)
      throw failure(
        `${directory} is about to join the cluster ${begun.clusterId} as ${begun.name} at ${begun.listen}: finish that, or give another --dir`,
      );
    return true;
  }
  await makeDirectories(directory);
  const file: JoiningFile = { format: DIRECTORY_FORMAT, clusterId, ...machine };
  await writeJson(joiningFile(directory), file);
  return false;
}

/** Nothing has come of it: what `beginJoining` made is taken away, and the directory itself where it was not there before. */
export async function abandonJoining(directory: string, wasThere: boolean): Promise<void> {
  await rm(joiningFile(directory), { force: true });
  await rm(runDirectory(directory), { recursive: true, force: true });
  if (!wasThere) await rmdir(directory);
}

/** The machine is a member. */
export async function finishJoining(
  directory: string,
  clusterId: string,
  member: number,
  { name, listen, roles }: Machine,
  seeds: readonly Address[],
): Promise<void> {
  const row: NodeRow = { member, name, roles };
  const node: NodeFile = { format: DIRECTORY_FORMAT, clusterId, ...row, address: SOCKET, listen, keeper: null };
  await writeJson(nodeFile(nodeDirectory(directory, name)), node);
  await writeSeeds(directory, seeds);
  await writeJson(clusterFile(directory), joinedCluster(clusterId, [row]));
  await rm(joiningFile(directory), { force: true });
}

/** A machine that is no member, and only mounts. */
export async function writeClient(directory: string, clusterId: string, seeds: readonly Address[]): Promise<void> {
  await makeDirectories(directory);
  await writeSeeds(directory, seeds);
  await writeJson(clusterFile(directory), joinedCluster(clusterId, []));
}

/** Of a cluster that was begun elsewhere. */
function joinedCluster(clusterId: string, nodes: readonly NodeRow[]): ClusterFile {
  return { format: DIRECTORY_FORMAT, clusterId, groupSize: 0, parity: 0, nodes, owner: owner(), prepared: true, joined: true };
}
