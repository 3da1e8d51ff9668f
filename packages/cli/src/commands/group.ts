import { failure, print, printJson } from "../output.ts";
import { REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import type { GroupStatus, StatusDocument } from "../status-document.ts";
import { collectStatus } from "../status-document.ts";
import { groupTable, memberTable } from "../status-text.ts";
import { type Command, parse, UsageError } from "../usage.ts";

export const groupCommand: Command = {
  help: `usage: dazzle group list [--dir DIR | --cluster HOST:PORT] [--json]
       dazzle group show G [--dir DIR | --cluster HOST:PORT] [--json]
The stripe groups, or one of them and its servers.

${REACH_HELP}
  --json                    print one JSON document`,

  async run([action, ...args]) {
    const options = { ...REACH_OPTIONS, json: { type: "boolean" } } as const;
    switch (action) {
      case "list": {
        const { values } = parse(args, options);
        const { groups } = await collectStatus(await reachOf(values));
        if (values.json === true) printJson({ groups });
        else print(groupTable(groups));
        return 0;
      }
      case "show": {
        const { values, positionals } = parse(args, options, ["G"]);
        const document = await collectStatus(await reachOf(values));
        const group = groupNamed(document, positionals[0] as string);
        const servers = document.members.filter(({ name }) => group.servers.includes(name));
        if (values.json === true) printJson({ ...group, members: servers });
        else print(`${groupTable([group])}\n\n${memberTable(servers)}`);
        return 0;
      }
      default:
        throw new UsageError(action === undefined ? "list or show is missing" : `there is no "${action}": there are list, show`);
    }
  },
};

function groupNamed({ groups }: StatusDocument, name: string): GroupStatus {
  const group = groups.find((row) => row.name === name);
  if (group === undefined) throw failure(`there is no group ${name}: there are ${groups.map((row) => row.name).join(", ") || "none yet"}`);
  return group;
}
