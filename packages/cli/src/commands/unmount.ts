import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { findMount } from "@dazzle/fuse";
import { realProcesses } from "@dazzle/runtime";
import { clearMount, findRecord } from "../mount-records.ts";
import { failure, Progress, printJson } from "../output.ts";
import { isGoneWithin, signal } from "../stop-cluster.ts";
import { type Command, parse } from "../usage.ts";

/** The mount's process makes everything durable and closes its log before it ends. */
const END_DEADLINE_MS = 60_000;

export const unmountCommand: Command = {
  help: `usage: dazzle unmount MNT [--dir DIR] [--json]
Unmounts what dazzle has mounted at MNT, and returns when everything done there is durable.

  --dir DIR   the cluster's directory on this machine (default: the one that the mount names)
  --json      print one JSON document`,

  async run(args) {
    const { values, positionals } = parse(args, { dir: { type: "string" }, json: { type: "boolean" } }, ["MNT"]);
    const { directory, record } = await findRecord(positionals[0] as string, values.dir === undefined ? undefined : resolve(values.dir));
    if (realProcesses.isGone(record.process)) {
      if (!(await clearMount(directory, record)))
        throw failure(`${record.mountpoint} can't be unmounted: its process is gone and the kernel keeps it`);
    } else {
      if (findMount(record.mountpoint)?.connection === record.connection) {
        await unmountProgram(record.mountpoint);
        // Copies in other mount namespaces, of a container say, keep it from finding out.
        signal(record.process, "SIGTERM");
      }
      const progress = new Progress("writing what is not durable yet", 1);
      try {
        if (!(await isGoneWithin(record.process, END_DEADLINE_MS)))
          throw failure(`${record.mountpoint} is unmounted, but its process ${record.pid} is still writing what is not durable yet`);
      } finally {
        progress.end();
      }
    }
    if (values.json === true) printJson({ mountpoint: record.mountpoint });
    return 0;
  },
};

async function unmountProgram(mountpoint: string): Promise<void> {
  const [program, args] =
    process.getuid?.() === 0 ? (["umount", ["-i", "-c", mountpoint]] as const) : (["fusermount3", ["-u", "--", mountpoint]] as const);
  try {
    await promisify(execFile)(program, args);
  } catch (error) {
    const { stderr, message } = error as { stderr?: string; message: string };
    throw failure((stderr ?? "").trim().split("\n")[0] || message);
  }
}
