import { resolve } from "node:path";
import { callOnce } from "../calls.ts";
import { findRecord } from "../mount-records.ts";
import { failure, Progress, printJson } from "../output.ts";
import { type Command, parse } from "../usage.ts";

const SYNC_DEADLINE_MS = 60_000;

export const syncCommand: Command = {
  help: `usage: dazzle sync MNT [--dir DIR] [--json]
Everything that was done in this mount before is durable when it returns.

  --dir DIR   the cluster's directory on this machine (default: the one that the mount names)
  --json      print one JSON document`,

  async run(args) {
    const { values, positionals } = parse(args, { dir: { type: "string" }, json: { type: "boolean" } }, ["MNT"]);
    const { record } = await findRecord(positionals[0] as string, values.dir === undefined ? undefined : resolve(values.dir));
    if (record.socket === null) throw failure(`the mount at ${record.mountpoint} is just beginning or ending: try again`);
    const progress = new Progress("syncing", 1);
    try {
      const { reply } = await callOnce(record.socket, "syncMount", {}, SYNC_DEADLINE_MS);
      if (values.json === true) printJson({ mountpoint: record.mountpoint, sequence: reply.sequence });
    } finally {
      progress.end();
    }
    return 0;
  },
};
