import { print, printJson } from "../output.ts";
import { REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import { collectStatus } from "../status-document.ts";
import { statusText } from "../status-text.ts";
import { type Command, parse } from "../usage.ts";

const WATCH_INTERVAL_MS = 1_000;
const CLEAR_SCREEN = "\x1b[H\x1b[J";

export const statusCommand: Command = {
  help: `usage: dazzle status [--dir DIR | --cluster HOST:PORT] [--watch] [--json]
The members, groups, managers and mounts, and what is wrong.

${REACH_HELP}
  --watch                   again every second, until Ctrl-C
  --json                    print one JSON document (with --watch, one each time)`,

  async run(args) {
    const { values } = parse(args, { ...REACH_OPTIONS, watch: { type: "boolean" }, json: { type: "boolean" } });
    const show = async () => {
      const document = await collectStatus(await reachOf(values));
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
