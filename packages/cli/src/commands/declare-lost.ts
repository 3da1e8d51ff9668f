import { askMember } from "../ask-member.ts";
import { failure, print, printJson } from "../output.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import { lostText, watchGroups } from "../rebuild-watch.ts";
import { type Command, parse } from "../usage.ts";

export const declareLostCommand: Command = {
  help: `usage: dazzle declare-lost SERVER [--dir DIR | --cluster HOST:PORT] [--force] [--json]
Your word that what a storage server has stored never comes back, as when its disk has died: nobody waits for it any more, its groups go on without
it, and what it held is rebuilt from the others. The machine stays a member. Interrupted, it goes on; the same command again shows how far it is.

  SERVER                    the member
${REACH_HELP}
  --force                   also where segments are lost with it, or nobody can tell, and where a group has less parity without it
  --json                    print one JSON document`,

  async run(args) {
    const flag = { type: "boolean" } as const;
    const { values, positionals } = parse(args, { ...REACH_OPTIONS, force: flag, json: flag }, ["SERVER"]);
    const server = positionals[0] as string;
    const reach = await reachOf(values);
    const map = await newestMap(reach);
    const member = map.members.find(({ name }) => name === server);
    if (member === undefined) throw failure(`there is no member ${server}: there are ${map.members.map(({ name }) => name).join(", ")}`);
    const { lost } = await askMember(reach, map, "declareLost", { server, force: values.force === true }, member);
    if (lost !== 0 && values.json !== true) print(lostText(server, lost));
    const concerned = map.groups.filter(
      ({ wanted, versions }) =>
        wanted.includes(member.id) || versions.some(({ servers }) => servers.some((row) => row.member === member.id)),
    );
    const names = concerned.map(({ name }) => name);
    const moved = await watchGroups(reach, names, `what ${server} held is rebuilt`);
    if (values.json === true) printJson({ name: server, lost: lost < 0 ? null : lost, ...moved });
    else print(`${server} is lost, and ${lost === 0 ? "what" : "what is left of what"} it held is whole on the others`);
    return 0;
  },
};
