import { resolve } from "node:path";
import { DEFAULT_DIRECTORY } from "../cluster-directory.ts";
import { print, printJson } from "../output.ts";
import { collectStatus } from "../status-document.ts";
import { statusText } from "../status-text.ts";
import { type Command, parse } from "../usage.ts";

const WATCH_INTERVAL_MS = 1_000;
const CLEAR_SCREEN = "\x1b[H\x1b[J";

export const statusCommand: Command = {
  help: `usage: dazzle status [--dir DIR] [--watch] [--json]
The members, groups, managers and mounts, and what is wrong.

  --dir DIR   the cluster's directory on this machine (default ${DEFAULT_DIRECTORY})
  --watch     again every second, until Ctrl-C
  --json      print one JSON document (with --watch, one each time)`,

  async run(args) {
    const { values } = parse(args, { dir: { type: "string" }, watch: { type: "boolean" }, json: { type: "boolean" } });
    const directory = resolve(values.dir ?? DEFAULT_DIRECTORY);
    const show = async () => {
      const document = await collectStatus(directory);
      if (values.json === true) printJson(document);
      else print(`${values.watch === true && process.stdout.isTTY ? CLEAR_SCREEN : ""}${statusText(document)}`);
    };
    await show();
    if (values.watch !== true) return 0;
    process.once("SIGINT", () => process.exit(0));
    for (;;) {
      await new Promise((again) => setTimeout(again, WATCH_INTERVAL_MS));
      await show();
    }
  },
};
