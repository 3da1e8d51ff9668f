import { resolve } from "node:path";
import { withDeadline } from "@dazzle/core";
import { pidOf, realClock, realProcesses } from "@dazzle/runtime";
import { DEFAULT_DIRECTORY, requireCluster } from "../cluster-directory.ts";
import { lockHolder } from "../lock.ts";
import { Progress, print, printJson } from "../output.ts";
import { upLock } from "../up-lock.ts";
import { type Command, parse } from "../usage.ts";
import { untilGone } from "../wait.ts";

const DOWN_DEADLINE_MS = 120_000;

export const downCommand: Command = {
  help: `dazzle down [--dir DIR] [--json]
Stops what \`dazzle up\` started, and returns when it has stopped.

  --dir DIR   the cluster's directory on this machine (default ${DEFAULT_DIRECTORY})
  --json      print one JSON document`,

  async run(args) {
    const { values } = parse(args, { dir: { type: "string" }, json: { type: "boolean" } });
    const directory = resolve(values.dir ?? DEFAULT_DIRECTORY);
    await requireCluster(directory);
    const holder = lockHolder(upLock(directory));
    const pid = holder === undefined || realProcesses.isGone(holder) ? undefined : pidOf(holder);
    if (holder !== undefined && pid !== undefined) {
      process.kill(pid, "SIGTERM");
      const progress = new Progress("stopping", 1);
      try {
        await withDeadline(realClock, DOWN_DEADLINE_MS, `stopping the cluster in ${directory}, process ${pid},`, untilGone(holder));
      } finally {
        progress.end();
      }
    }
    if (values.json === true) printJson({ directory, stopped: pid ?? null });
    else print(pid === undefined ? `nothing is up in ${directory}` : `the cluster in ${directory} is down`);
    return 0;
  },
};
