import { print, printJson } from "../output.ts";
import { REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import { collectStatus } from "../status-document.ts";
import { managerTable } from "../status-text.ts";
import { type Command, parse, UsageError } from "../usage.ts";

export const managerCommand: Command = {
  help: `usage: dazzle manager list [--dir DIR | --cluster HOST:PORT] [--json]
The manager map: which member manages which slots.

${REACH_HELP}
  --json                    print one JSON document`,

  async run([action, ...args]) {
    if (action !== "list") throw new UsageError(action === undefined ? "list is missing" : `there is no "${action}": there is list`);
    const { values } = parse(args, { ...REACH_OPTIONS, json: { type: "boolean" } });
    const { managers } = await collectStatus(await reachOf(values));
    if (values.json === true) printJson({ managers });
    else print(managerTable(managers));
    return 0;
  },
};
