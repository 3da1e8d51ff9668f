import { existsSync } from "node:fs";
import { dirname, resolve } from "node:path";
import { PARITY_MAX } from "@dazzle/core";
import { checkMount } from "@dazzle/fuse";
import { makePath } from "@dazzle/runtime";
import {
  type ClusterFile,
  DEFAULT_DIRECTORY,
  DIRECTORY_MODE,
  nodeDirectory,
  prepareCluster,
  prepareNodes,
  readCluster,
  requireNode,
  runDirectory,
} from "../cluster-directory.ts";
import { Fleet } from "../fleet.ts";
import { acquireLock } from "../lock.ts";
import { mountFlags } from "../mount-options.ts";
import { clearDeadMounts } from "../mount-records.ts";
import { failure, print, printJson } from "../output.ts";
import { PARITY_DEFAULT } from "../parity.ts";
import { onStop } from "../supervised.ts";
import { upLock } from "../up-lock.ts";
import { type Command, parse, UsageError, wholeNumber } from "../usage.ts";

const NODES_DEFAULT = 3;

interface Size {
  readonly nodes: number | undefined;
  readonly groupSize: number | undefined;
  readonly parity: number | undefined;
}

export const upCommand: Command = {
  help: `usage: dazzle up [--dir DIR] [--mount MNT] [--nodes N] [--group-size N] [--parity M] [-o ro] [--fuse-engine addon|node|auto] [--json]
A whole cluster on this machine, in the foreground. Ctrl-C stops it; started again it brings everything back.

  --dir DIR            where its state is kept (default ${DEFAULT_DIRECTORY})
  --mount MNT          also mounts it at MNT, which is made if its parent exists
  --nodes N            node processes of a new cluster (default ${NODES_DEFAULT})
  --group-size N       storage servers in a new cluster's stripe group (default: all); the others store nothing until a group takes them
  --parity M           servers of the group that may be lost at once, 0 to ${PARITY_MAX} (default ${PARITY_DEFAULT}); fewer than the group has servers
  -o OPTION,…          ro: mount read only; allow_other: other users may enter (the default for root)
  --fuse-engine KIND   how the kernel is spoken to (default auto)
  --json               print one JSON document when all is up`,

  async run(args) {
    const { values } = parse(args, {
      dir: { type: "string" },
      mount: { type: "string" },
      nodes: { type: "string" },
      "group-size": { type: "string" },
      parity: { type: "string" },
      options: { type: "string", short: "o", multiple: true },
      "fuse-engine": { type: "string" },
      json: { type: "boolean" },
    });
    const size: Size = {
      nodes: wholeNumber("--nodes", values.nodes, 1),
      groupSize: wholeNumber("--group-size", values["group-size"], 1),
      parity: wholeNumber("--parity", values.parity, 0),
    };
    const flags = mountFlags(values.options, values["fuse-engine"]);
    if (values.mount === "") throw new UsageError("--mount is empty");
    const directory = resolve(values.dir ?? DEFAULT_DIRECTORY);
    const existing = await readCluster(directory);
    const checkMountpoint = async () => {
      if (values.mount !== undefined) await checkMount({ mountpoint: values.mount, engine: flags.engine });
    };
    if (existing === undefined) {
      checkSize(size);
      await checkMountpoint();
    }
    await makeDirectories(directory);
    const lock = acquireLock(
      upLock(directory),
      (pid) => `${directory} is in use: its cluster is running, process ${pid}; stop it with dazzle down --dir ${directory}`,
    );
    try {
      const cluster = existing ?? (await begin(directory, size));
      await checkSame(directory, cluster, size);
      await clearDeadMounts(directory);
      if (existing !== undefined) await checkMountpoint();
      await prepareNodes(directory, cluster);
      return await supervise(new Fleet(directory, cluster), async (fleet) => {
        await fleet.startNodes(existing !== undefined);
        if (values.mount !== undefined) await fleet.mount(values.mount, flags);
        if (values.json === true) printJson({ directory, nodes: cluster.nodes.map(({ name }) => name), mount: values.mount ?? null });
        else print(`the cluster in ${directory} is up; Ctrl-C stops it`);
      });
    } finally {
      lock.release();
    }
  },
};

/** Wrong from the start, whatever is on disk. */
function checkSize(size: Size): void {
  const { nodes = NODES_DEFAULT, groupSize = nodes, parity = Math.min(PARITY_DEFAULT, groupSize - 1) } = size;
  if (groupSize > nodes) throw new UsageError(`--group-size ${groupSize} is more than the ${nodes} nodes`);
  if (parity > PARITY_MAX) throw new UsageError(`--parity ${parity} is more than ${PARITY_MAX}`);
  const least = parity + 1;
  if (groupSize < least) throw new UsageError(`--parity ${parity} takes a group of ${least} servers at least, not of ${groupSize}`);
}

async function begin(directory: string, size: Size): Promise<ClusterFile> {
  const { nodes = NODES_DEFAULT, groupSize = nodes, parity = PARITY_DEFAULT } = size;
  return prepareCluster(directory, { nodes, groupSize, parity });
}

/** What was asked for and what is there must agree: `up` doesn't change a cluster's size. */
async function checkSame(directory: string, cluster: ClusterFile, { nodes, groupSize, parity }: Size): Promise<void> {
  const differs = (option: string, wanted: number | undefined, is: number) => {
    if (wanted !== undefined && wanted !== is)
      throw failure(`the cluster in ${directory} was begun with ${option} ${is}: leave that option out, or use another --dir`);
  };
  differs("--nodes", nodes, cluster.nodes.length);
  differs("--group-size", groupSize, cluster.groupSize);
  differs("--parity", parity, cluster.parity);
  if (cluster.prepared) for (const { name } of cluster.nodes) await requireNode(nodeDirectory(directory, name));
}

async function makeDirectories(directory: string): Promise<void> {
  if (!existsSync(dirname(directory))) throw failure(`${directory} can't be made: there is no ${dirname(directory)}; create that first`);
  try {
    await makePath(runDirectory(directory), DIRECTORY_MODE);
  } catch (error) {
    throw failure(`${directory} can't be made: ${(error as Error).message}`);
  }
}

/** Starts, waits for a signal or for the end of everything, and stops in order. A second signal stops at once. */
async function supervise(fleet: Fleet, start: (fleet: Fleet) => Promise<void>): Promise<number> {
  const asked = new Promise<"asked">((resolve) => {
    onStop((_reason, signals) => {
      if (signals > 1) fleet.kill();
      else print("stopping");
      resolve("asked");
    });
  });
  let ended: "asked" | "ended" | undefined;
  try {
    ended = (await Promise.race([start(fleet), asked])) ?? (await Promise.race([asked, fleet.allEnded()]));
  } finally {
    if (!(await fleet.stop()))
      process.stderr.write("dazzle up: not everything stopped by itself; what was killed recovers at the next start\n");
  }
  if (ended === "ended") throw failure("none of its processes is left");
  print("stopped");
  return 0;
}
