import { join, resolve } from "node:path";
import type { Address } from "@dazzle/core";
import { checkMount } from "@dazzle/fuse";
import { lineLogger } from "@dazzle/runtime";
import { addressList } from "../addresses.ts";
import { Child } from "../child.ts";
import { DEFAULT_DIRECTORY, readCluster, requireCluster, runDirectory } from "../cluster-directory.ts";
import { requireNew, writeClient } from "../machine-directory.ts";
import { type MountFlags, mountFlags } from "../mount-options.ts";
import { serveMount } from "../mount-process.ts";
import { failure, Progress, print, printJson } from "../output.ts";
import { newestMap } from "../reach.ts";
import { networkAddresses } from "../seeds.ts";
import { type Command, parse, UsageError } from "../usage.ts";

export const mountCommand: Command = {
  help: `usage: dazzle mount MNT [--dir DIR] [--cluster HOST:PORT,…] [-f] [-o ro] [--fuse-engine addon|node|auto] [--json]
Mounts the cluster at MNT, which is made if its parent exists; returns when it can be used.

  --dir DIR            the cluster's directory on this machine (default ${DEFAULT_DIRECTORY})
  --cluster HOST:PORT  members of the cluster to mount, from a machine that is none; DIR then holds what this machine knows of it
  -f, --foreground     serve it from this process, until it is unmounted or SIGINT or SIGTERM comes
  -o OPTION,…          ro: read only; allow_other: other users may enter (the default for root)
  --fuse-engine KIND   how the kernel is spoken to: by the native addon, by Node alone, or the best there is (default auto)
  --json               print one JSON document when it is mounted`,

  async run(args) {
    const { values, positionals } = parse(
      args,
      {
        dir: { type: "string" },
        cluster: { type: "string" },
        foreground: { type: "boolean", short: "f" },
        options: { type: "string", short: "o", multiple: true },
        "fuse-engine": { type: "string" },
        json: { type: "boolean" },
      },
      ["MNT"],
    );
    const mountpoint = positionals[0] as string;
    if (mountpoint === "") throw new UsageError("MNT is empty");
    const flags = mountFlags(values.options, values["fuse-engine"]);
    const directory = resolve(values.dir ?? DEFAULT_DIRECTORY);
    if (values.cluster !== undefined) await prepareClient(directory, addressList("--cluster", values.cluster), mountpoint, flags.engine);
    if (values.foreground === true)
      return serveMount({ directory, mountpoint, ...flags }, lineLogger(values.json === true ? process.stderr : process.stdout));
    await requireCluster(directory);
    return inBackground(directory, args, values.json === true);
  },
};

async function inBackground(directory: string, args: readonly string[], json: boolean): Promise<number> {
  const progress = new Progress("mounting", 1);
  const child = Child.start("the mount", ["mount", "-f", ...args.filter((argument) => argument !== "--json")], {
    logPath: join(runDirectory(directory), "mounts.log"),
    supervision: "until-ready",
  });
  const end = () => child.kill("SIGTERM");
  process.once("SIGINT", end).once("SIGTERM", end);
  try {
    const fields = await child.ready;
    if (json) printJson(fields);
    else print(`mounted at ${String(fields.mountpoint)}: pid ${String(fields.pid)}`);
    child.leave();
    return 0;
  } finally {
    progress.end();
  }
}

/** The directory of a machine that is no member, where there is none yet. */
async function prepareClient(
  directory: string,
  addresses: readonly Address[],
  mountpoint: string,
  engine: MountFlags["engine"],
): Promise<void> {
  const map = await newestMap({ directory: null, near: new Map(), addresses, clusterId: "", way: "is dazzle node running there?" });
  const existing = await readCluster(directory);
  if (existing === undefined) {
    await requireNew(directory);
    await checkMount({ mountpoint, engine });
    await writeClient(directory, map.clusterId, networkAddresses(map));
  } else if (existing.clusterId !== map.clusterId)
    throw failure(`${directory} belongs to the cluster ${existing.clusterId}, and ${map.clusterId} answers: give another --dir`);
}
