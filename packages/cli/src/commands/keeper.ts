import { type ClusterMap, KEEPERS_CHOICES, type MemberId } from "@dazzle/core";
import { askMember } from "../ask-member.ts";
import { print, printJson } from "../output.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import { type Command, parse, runAction, UsageError, wholeNumber } from "../usage.ts";

const OPTIONS = { ...REACH_OPTIONS, json: { type: "boolean" } } as const;

export const keeperCommand: Command = {
  help: `usage: dazzle keeper list [--dir DIR | --cluster HOST:PORT] [--json]
       dazzle keeper count N [--dir DIR | --cluster HOST:PORT] [--json]
Who keeps the cluster map: one member, and three from three with the role keeper on. It is read and changed while most of them
answer, so five outlive the loss of two; count says how many there are to be, 3 or 5. They come and go one change at a time.

${REACH_HELP}
  --json                    print one JSON document`,

  run: async (args) => runAction(args, { list, count }),
};

async function list(args: readonly string[]): Promise<number> {
  const { values } = parse(args, OPTIONS);
  const map = await newestMap(await reachOf(values));
  const keepers = namesOf(map, map.keepers);
  if (values.json === true) printJson({ keepers });
  else print(keepers.join("\n"));
  return 0;
}

async function count(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, OPTIONS, ["N"]);
  const asked = wholeNumber("N", positionals[0], 0) as number;
  if (!KEEPERS_CHOICES.includes(asked)) throw new UsageError(`N is ${KEEPERS_CHOICES.join(" or ")}, not ${asked}`);
  const reach = await reachOf(values);
  const map = await newestMap(reach);
  await askMember(reach, { ...map, members: map.members.filter(({ id }) => map.keepers.includes(id)) }, "askKeepers", { count: asked });
  const keepers = namesOf(map, map.keepers);
  if (values.json === true) printJson({ asked, keepers });
  else if (keepers.length === asked) print(`${asked} members keep the map: ${keepers.join(", ")}`);
  else print(`${asked} members are to keep the map; so far these do: ${keepers.join(", ")}. dazzle status tells when they are ${asked}`);
  return 0;
}

function namesOf({ members }: ClusterMap, ids: readonly MemberId[]): string[] {
  return members.filter(({ id }) => ids.includes(id)).map(({ name }) => name);
}
