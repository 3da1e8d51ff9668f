import { resolve } from "node:path";
import { pidOf, realProcesses } from "@dazzle/runtime";
import { DEFAULT_DIRECTORY, requireCluster } from "../cluster-directory.ts";
import { lockHolder } from "../lock.ts";
import { failure, Progress, printJson } from "../output.ts";
import { isGoneWithin, stopCluster } from "../stop-cluster.ts";
import { upLock } from "../up-lock.ts";
import { type Command, parse } from "../usage.ts";

const DOWN_DEADLINE_MS = 120_000;

export const downCommand: Command = {
  help: `usage: dazzle down [--dir DIR] [--json]
Stops what \`dazzle up\` started, and the nodes and mounts of the cluster that were started since; returns when all have stopped.

  --dir DIR   the cluster's directory on this machine (default ${DEFAULT_DIRECTORY})
  --json      print one JSON document`,

  async run(args) {
    const { values } = parse(args, { dir: { type: "string" }, json: { type: "boolean" } });
    const directory = resolve(values.dir ?? DEFAULT_DIRECTORY);
    const cluster = await requireCluster(directory);
    const progress = new Progress("stopping", 1);
    try {
      const told = await stopUp(directory);
      const { stopped } = await stopCluster(directory, cluster);
      const wasUp = told || stopped > 0;
      if (values.json === true) printJson({ directory, wasUp });
      else if (!wasUp) progress.print(`nothing is up in ${directory}`);
      return 0;
    } finally {
      progress.end();
    }
  },
};

/** Has `dazzle up` stop everything, as a Ctrl-C would. Resolves to whether it ran. */
async function stopUp(directory: string): Promise<boolean> {
  const holder = lockHolder(upLock(directory));
  const pid = holder === undefined || realProcesses.isGone(holder) ? undefined : pidOf(holder);
  if (holder === undefined || pid === undefined) return false;
  process.kill(pid, "SIGTERM");
  if (!(await isGoneWithin(holder, DOWN_DEADLINE_MS)))
    throw failure(`the cluster in ${directory} (dazzle up is process ${pid}) has not stopped in ${DOWN_DEADLINE_MS / 1_000} s`);
  return true;
}
