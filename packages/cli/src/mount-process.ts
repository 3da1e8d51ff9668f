import { realpathSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { MountClient } from "@dazzle/client";
import {
  type Address,
  type ClusterMap,
  type Handlers,
  isDazzleError,
  LIMITS,
  type Logger,
  MapRegister,
  memberId,
  type Ports,
  readMapFrom,
  serve,
  sleep,
} from "@dazzle/core";
import { type EngineKind, type Mount, mountFileSystem } from "@dazzle/fuse";
import { realProcesses } from "@dazzle/runtime";
import { NO_MAP } from "./calls.ts";
import { keeperOf, requireCluster } from "./cluster-directory.ts";
import { clearDeadMounts, type MountRecord, mountSocket, removeRecord, sourceOf, writeRecord } from "./mount-records.ts";
import { failure } from "./output.ts";
import { realPorts } from "./ports.ts";
import { onStop, report } from "./supervised.ts";

const MAP_DEADLINE_MS = 10_000;
const MAP_ATTEMPT_MS = 2_000;
/** A cluster whose keeper is not even listening is given so long to come up. */
const MAP_GRACE_MS = 2_000;
const RETRY_MS = 100;

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
  const keeper = await keeperOf(directory, cluster);
  const member = memberId(keeper.row.member);
  const ports = realPorts(logger);
  let stop: (reason: string) => void = () => {};
  const stopped = new Promise<string>((resolve) => {
    stop = resolve;
  });
  const supervision = onStop(stop);
  await clearDeadMounts(directory);
  const map = await firstMap(ports, keeper.address, directory);
  const mountpoint = expectedMountpoint(request.mountpoint);
  const client = await MountClient.start({
    ports,
    map,
    mapStore: (peers) => new MapRegister({ ...ports, peers, map, seeds: [keeper.address] }),
    member,
    label: mountpoint,
    limits: LIMITS,
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

function controlHandlers(client: MountClient, mount: Mount): Handlers {
  return {
    syncMount: async () => ({ reply: { sequence: await client.sync() } }),
    status: () => ({ reply: { document: { log: client.log, engine: mount.engine, counters: client.counters() } } }),
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

async function firstMap(ports: Ports, keeper: Address, directory: string): Promise<ClusterMap> {
  const { clock, network } = ports;
  const beganMs = clock.nowMs();
  for (;;) {
    try {
      return await readMapFrom(network, clock, keeper, MAP_ATTEMPT_MS);
    } catch (error) {
      const waitedMs = clock.nowMs() - beganMs;
      const patienceMs = isDazzleError(error, "unreachable") ? MAP_GRACE_MS : MAP_DEADLINE_MS;
      if (!isDazzleError(error, "unreachable", "timedOut") || waitedMs > patienceMs)
        throw failure(
          `the cluster in ${directory} does not answer (${(error as Error).message}): start it with dazzle up --dir ${directory}`,
        );
      await sleep(clock, RETRY_MS);
    }
  }
}
