import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { RejoiningMount } from "@dazzle/client";
import {
  type Address,
  type ClusterMap,
  type Handlers,
  isDazzleError,
  LIMITS,
  type Logger,
  MapRegister,
  memberId,
  NO_MEMBER,
  type Ports,
  serve,
} from "@dazzle/core";
import { type EngineKind, type Mount, mountFileSystem } from "@dazzle/fuse";
import { openDisk, parseAddress, realProcesses, tcpAddress } from "@dazzle/runtime";
import { NO_MAP } from "./calls.ts";
import { nearOf, requireCluster, spoolDirectory } from "./cluster-directory.ts";
import { clearDeadMounts, type MountRecord, mountSocket, peerSocket, removeRecord, sourceOf, writeRecord } from "./mount-records.ts";
import { failure } from "./output.ts";
import { realPorts } from "./ports.ts";
import { mapFrom, networkAddresses, readSeeds, rememberSeeds } from "./seeds.ts";
import { onStop, report } from "./supervised.ts";

/** A cluster of which nobody is even listening is given a moment to come up. */
const MAP_PATIENCE = { attemptMs: 5_000, unreachableMs: 5_000, silentMs: 15_000 };

export interface MountRequest {
  readonly directory: string;
  readonly mountpoint: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean | undefined;
  readonly engine: EngineKind | "auto";
}

/** Mounts, serves until it is unmounted or this process is asked to stop, and leaves the log closed. */
export async function serveMount(request: MountRequest, logger: Logger): Promise<number> {
  const { directory } = request;
  const cluster = await requireCluster(directory);
  const near = await nearOf(directory, cluster);
  const member = cluster.nodes[0] === undefined ? NO_MEMBER : memberId(cluster.nodes[0].member);
  const ports = realPorts(logger);
  let stop: (reason: string) => void = () => {};
  const stopped = new Promise<string>((resolve) => {
    stop = resolve;
  });
  const supervision = onStop(stop);
  await clearDeadMounts(directory);
  const map = await firstMap(ports, cluster.clusterId, directory, near);
  await rememberSeeds(directory, map);
  const mountpoint = expectedMountpoint(request.mountpoint);
  const client = await RejoiningMount.start({
    ports,
    map,
    mapStore: (peers) => new MapRegister({ ...ports, peers, map, seeds: [...near.values(), ...networkAddresses(map)] }),
    member,
    near,
    ...answersAt(directory, map, member),
    label: mountpoint,
    limits: LIMITS,
    spool: { path: spoolDirectory(directory), open: () => openDisk(spoolDirectory(directory)) },
  });
  let record: MountRecord = { process: realProcesses.self, pid: process.pid, mountpoint, connection: 0, member, socket: null };
  try {
    // Before the kernel knows of it, so that a mount never lacks its record.
    await writeRecord(directory, record);
    const mount = await mountFileSystem(client.fileSystem, {
      mountpoint: request.mountpoint,
      name: sourceOf(directory),
      engine: request.engine,
      readOnly: request.readOnly,
      ...(request.allowOther === undefined ? {} : { allowOther: request.allowOther }),
      log: (line) => logger("warning", line),
    });
    const address: Address = `unix:${mountSocket(directory, process.pid)}`;
    const { network, clock } = ports;
    const control = await serve({ network, clock, map: NO_MAP, handlers: controlHandlers(client, mount), address });
    record = { ...record, mountpoint: mount.mountpoint, connection: mount.connection, socket: address };
    await writeRecord(directory, record);
    logger("info", "mounted", { mountpoint: mount.mountpoint, engine: mount.engine, log: client.log, pid: process.pid });
    await report({ type: "ready", what: "mount", fields: { mountpoint: mount.mountpoint, pid: process.pid, engine: mount.engine } });
    supervision.ready();
    const reason = await Promise.race([stopped, mount.closed.then(() => "it was unmounted")]);
    logger("info", "the mount ends", { mountpoint: mount.mountpoint, reason });
    // From here on nobody is kept waiting by it, and its node's watch leaves it the time to make everything durable.
    await writeRecord(directory, { ...record, socket: null });
    await mount.unmount();
    await control.close();
  } finally {
    await client.close();
    await removeRecord(directory, process.pid);
  }
  return 0;
}

/** Where other mounts ask for what is in this one's memory: where the network knows the machine, or in the directory of a cluster that is all on
 * one. A machine that is no member has no address that others know. */
function answersAt(directory: string, map: ClusterMap, member: number): { answersAt?: Address } {
  const known = map.members.find(({ id }) => id === member)?.addresses.map(parseAddress);
  if (known === undefined) return {};
  const there = known.find(({ kind }) => kind === "tcp");
  return { answersAt: there?.kind === "tcp" ? tcpAddress(there.host, 0) : `unix:${peerSocket(directory, process.pid)}` };
}

function controlHandlers(client: RejoiningMount, mount: Mount): Handlers {
  return {
    syncMount: async () => ({ reply: { sequence: await client.sync() } }),
    status: () => ({ reply: { document: { log: client.log as number, engine: mount.engine, counters: client.counters() } } }),
  };
}

/** As the kernel's table will show it, where that can be told beforehand. */
function expectedMountpoint(path: string): string {
  const absolute = resolve(path);
  try {
    return join(realpathSync(dirname(absolute)), basename(absolute));
  } catch {
    return absolute;
  }
}

/** From this machine's nodes, or whoever else is known. */
async function firstMap(
  { network, clock }: Ports,
  clusterId: string,
  directory: string,
  near: ReadonlyMap<number, Address>,
): Promise<ClusterMap> {
  const addresses = async () => [...near.values(), ...(await readSeeds(directory))];
  try {
    return await mapFrom(network, clock, addresses, clusterId, MAP_PATIENCE);
  } catch (error) {
    if (!isDazzleError(error, "unreachable", "timedOut")) throw error;
    throw failure(
      `the cluster in ${directory} does not answer (${(error as Error).message}): start it with dazzle ${near.size > 1 ? "up" : "node"} --dir ${directory}`,
    );
  }
}
