import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { type Address, type Member, type MemberId, memberId, type Role } from "@dazzle/core";
import type { Genesis } from "@dazzle/node";
import { realRandom } from "@dazzle/runtime";
import { readJson, writeJson } from "./files.ts";
import { failure } from "./output.ts";

/** DIR/cluster.json, and DIR/nodes/NAME/node.json. */
export const DIRECTORY_FORMAT = 1;
export const DEFAULT_DIRECTORY = "./.dazzle";

export interface NodeRow {
  readonly member: number;
  readonly name: string;
  readonly roles: readonly Role[];
}

/** What a cluster was begun with. */
export interface ClusterFile {
  readonly format: number;
  readonly clusterId: string;
  readonly groupSize: number;
  readonly parity: number;
  readonly nodes: readonly NodeRow[];
  /** Who began it: the root directory is theirs. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Whether its nodes' directories were made. */
  readonly prepared: boolean;
  /** Whether the cluster was begun elsewhere: this machine joined it, or only mounts it. */
  readonly joined?: boolean;
}

/** The path of a unix socket counts from the node's own directory, so that a cluster can be moved. */
export interface NodeFile extends NodeRow {
  readonly format: number;
  readonly clusterId: string;
  /** Where it listens. */
  readonly address: Address;
  /** Where it listens for other machines. */
  readonly listen?: Address;
  /** Where the map's keeper answers; null where the map tells. */
  readonly keeper: Address | null;
  /** The machine has left the cluster: what is here is of use to nobody. */
  readonly left?: boolean;
}

export const SOCKET: Address = "unix:socket";
/** The cluster's state on this machine is its user's alone. */
export const DIRECTORY_MODE = 0o700;

export const clusterFile = (directory: string) => join(directory, "cluster.json");
/** What mounts of this machine could not save when they were expelled. */
export const spoolDirectory = (directory: string) => join(directory, "spool");
export const nodeDirectory = (directory: string, name: string) => join(directory, "nodes", name);
export const nodeFile = (node: string) => join(node, "node.json");
export const nodeLock = (node: string) => join(node, "lock");
export const nodeLog = (node: string) => join(node, "node.log");
export const runDirectory = (directory: string) => join(directory, "run");
/** The cluster's directory, of a node's. */
export const clusterOf = (node: string) => dirname(dirname(node));

function checkFormat(path: string, format: unknown): void {
  if (format === DIRECTORY_FORMAT) return;
  throw failure(
    typeof format === "number" && format > DIRECTORY_FORMAT
      ? `${path} is of format ${format}, newer than this program's ${DIRECTORY_FORMAT}: use the newer program`
      : `${path} is damaged: it has no format that this program knows`,
  );
}

export async function readCluster(directory: string): Promise<ClusterFile | undefined> {
  const path = clusterFile(directory);
  const value = await readJson(path);
  if (value === undefined) return undefined;
  checkFormat(path, value.format);
  return value as unknown as ClusterFile;
}

/** Fails where no cluster was ever begun. */
export async function requireCluster(directory: string): Promise<ClusterFile> {
  const cluster = await readCluster(directory);
  if (cluster === undefined)
    throw failure(`there is no cluster in ${directory}: begin one with dazzle up --dir ${directory}, or name one with --cluster HOST:PORT`);
  return cluster;
}

/** A node's own file, checked against its cluster's. */
export async function requireNode(node: string): Promise<{ readonly file: NodeFile; readonly cluster: ClusterFile }> {
  const path = nodeFile(node);
  const value = await readJson(path);
  if (value === undefined) throw failure(`${node} is no node's directory: it has no node.json`);
  checkFormat(path, value.format);
  const file = value as unknown as NodeFile;
  const cluster = await requireCluster(clusterOf(node));
  if (file.clusterId !== cluster.clusterId)
    throw failure(`${node} belongs to another cluster (${file.clusterId}) than ${clusterOf(node)} (${cluster.clusterId})`);
  if (basename(node) !== file.name) throw failure(`${node} is the directory of ${file.name}: give it back its name`);
  return { file, cluster };
}

/** The address with a path that counts from `node` made absolute. */
export function absoluteAddress(node: string, address: Address): Address {
  if (!address.startsWith("unix:")) return address;
  const path = address.slice("unix:".length);
  return `unix:${isAbsolute(path) ? path : resolve(node, path)}`;
}

/** Where processes of this machine meet a node of the cluster. */
export async function addressOf(directory: string, row: NodeRow): Promise<Address> {
  const node = nodeDirectory(directory, row.name);
  const file = await readJson(nodeFile(node));
  return absoluteAddress(node, typeof file?.address === "string" ? file.address : SOCKET);
}

/** Where other machines meet it, where they can; else as `addressOf`. */
async function publicAddressOf(directory: string, row: NodeRow): Promise<Address> {
  const file = await readJson(nodeFile(nodeDirectory(directory, row.name)));
  return typeof file?.listen === "string" ? file.listen : addressOf(directory, row);
}

/** The sockets of the nodes on this machine, by member. */
export async function nearOf(directory: string, cluster: ClusterFile): Promise<ReadonlyMap<number, Address>> {
  const near = new Map<number, Address>();
  for (const row of cluster.nodes) near.set(row.member, await addressOf(directory, row));
  return near;
}

function keeperRow(directory: string, cluster: ClusterFile): NodeRow {
  const row = cluster.nodes.find(({ roles }) => roles.includes("keeper"));
  if (row === undefined) throw failure(`${clusterFile(directory)} is damaged: no node is a keeper`);
  return row;
}

/** Null where the cluster was begun elsewhere. */
export async function genesisOf(directory: string, cluster: ClusterFile): Promise<Genesis | null> {
  if (cluster.joined === true) return null;
  const members: Member[] = [];
  for (const row of cluster.nodes) {
    const { member, name, roles } = row;
    members.push({
      id: memberId(member),
      name,
      addresses: [await publicAddressOf(directory, row)],
      roles,
      incarnation: 1,
      leaving: false,
      store: null,
    });
  }
  const manager = members.find(({ roles }) => roles.includes("manager")) as Member;
  const servers: readonly MemberId[] = members.slice(0, cluster.groupSize).map(({ id }) => id);
  return { members, manager: manager.id, servers, parity: cluster.parity, rootOwner: cluster.owner };
}

/** Begins a cluster: its file first, then its nodes' directories (see `prepareNodes`). */
export async function prepareCluster(
  directory: string,
  wanted: { readonly nodes: number; readonly groupSize: number; readonly parity: number },
): Promise<ClusterFile> {
  const nodes = Array.from({ length: wanted.nodes }, (_, index): NodeRow => {
    const roles: readonly Role[] = index === 0 ? ["storage", "manager", "cleaner", "keeper"] : ["storage", "cleaner"];
    return { member: index + 1, name: `node${index + 1}`, roles };
  });
  const clusterId = Buffer.from(realRandom.bytes(16)).toString("hex");
  const cluster: ClusterFile = {
    format: DIRECTORY_FORMAT,
    clusterId,
    groupSize: wanted.groupSize,
    parity: wanted.parity,
    nodes,
    owner: { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 },
    prepared: false,
  };
  await writeJson(clusterFile(directory), cluster);
  return cluster;
}

/** Makes the nodes' files where that was not finished yet. Their directories may be there before, as disks of their own. */
export async function prepareNodes(directory: string, cluster: ClusterFile): Promise<void> {
  if (cluster.prepared) return;
  const keeper = keeperRow(directory, cluster);
  for (const row of cluster.nodes) {
    const path = nodeFile(nodeDirectory(directory, row.name));
    if ((await readJson(path)) !== undefined) continue;
    const { format, clusterId } = cluster;
    const file: NodeFile = {
      format,
      clusterId,
      ...row,
      address: SOCKET,
      keeper: row === keeper ? SOCKET : `unix:../${keeper.name}/socket`,
    };
    await writeJson(path, file);
  }
  await writeJson(clusterFile(directory), { ...cluster, prepared: true });
}
