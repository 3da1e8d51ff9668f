import { DATA_FRAGMENTS_MAX, type GroupChange, PARITY_MAX } from "@dazzle/core";
import { askMember } from "../ask-member.ts";
import { failure, print, printJson } from "../output.ts";
import { PARITY_DEFAULT } from "../parity.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, reachOf } from "../reach.ts";
import { lostText, watchGroups } from "../rebuild-watch.ts";
import type { GroupStatus, StatusDocument } from "../status-document.ts";
import { collectStatus } from "../status-document.ts";
import { groupTable, memberTable } from "../status-text.ts";
import { type Command, parse, runAction, UsageError, wholeNumber } from "../usage.ts";

const FLAG = { type: "boolean" } as const;
const ASK_OPTIONS = { ...REACH_OPTIONS, json: FLAG } as const;
const CHANGE_OPTIONS = { ...ASK_OPTIONS, force: FLAG } as const;
const CREATE_OPTIONS = { ...ASK_OPTIONS, servers: { type: "string" }, data: { type: "string" }, parity: { type: "string" } } as const;
const NO_CHANGE = { servers: [], parity: 0, force: false } as const;

export const groupCommand: Command = {
  help: `usage: dazzle group list [OPTIONS]
       dazzle group show G [OPTIONS]
       dazzle group create G --servers A,B,… [--data D] [--parity M] [OPTIONS]
       dazzle group add-server G SERVER [OPTIONS]
       dazzle group remove-server G SERVER [--force] [OPTIONS]
       dazzle group replace-server G OLD NEW [--force] [OPTIONS]
       dazzle group set-parity G M [--force] [OPTIONS]
The stripe groups, one of them and its servers, and changing them while they are used. What is written goes to the new version at once; what was stored before
is moved into it, and rebuilt where a server is dead. The command shows that until it is done. Interrupted, it goes on; the same command again shows how far
it is. OLD and NEW may be one name: then its storage directory was emptied, and the new one is admitted.

${REACH_HELP}
  --servers A,B,…           the members of a new group, in the order of their places
  --data D                  the data fragments of a new group's stripes, at most: with D + M servers or more, more parity is written without the data (default: as many as
                            the parity leaves room for)
  --parity M                the parity of a new group (default ${PARITY_DEFAULT})
  --force                   also where less parity is left, or segments are lost
  --json                    print one JSON document`,

  run: async (args) =>
    runAction(args, {
      list,
      show,
      create,
      "add-server": addServer,
      "remove-server": removeServer,
      "replace-server": replaceServer,
      "set-parity": setParity,
    }),
};

interface AskValues {
  readonly dir?: string;
  readonly cluster?: string;
  readonly json?: boolean;
}

async function list(args: readonly string[]): Promise<number> {
  const { values } = parse(args, ASK_OPTIONS);
  const { groups } = await collectStatus(await reachOf(values));
  if (values.json === true) printJson({ groups });
  else print(groupTable(groups));
  return 0;
}

async function show(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, ASK_OPTIONS, ["G"]);
  const document = await collectStatus(await reachOf(values));
  const group = groupNamed(document, positionals[0] as string);
  const servers = document.members.filter(({ name }) => group.servers.includes(name));
  if (values.json === true) printJson({ ...group, members: servers });
  else print(`${groupTable([group])}\n\n${memberTable(servers)}`);
  return 0;
}

async function create(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, CREATE_OPTIONS, ["G"]);
  const group = positionals[0] as string;
  const servers = (values.servers ?? "").split(",").filter((name) => name !== "");
  if (servers.length === 0) throw new UsageError("--servers A,B,… is missing: the members of the new group");
  const parity = values.parity === undefined ? PARITY_DEFAULT : parityFrom("--parity", values.parity);
  const data = wholeNumber("--data", values.data, 1);
  if (data !== undefined && data > DATA_FRAGMENTS_MAX) throw new UsageError(`--data is at most ${DATA_FRAGMENTS_MAX}, not ${data}`);
  return change(values, { ...NO_CHANGE, group, change: "create", servers, parity }, `the group ${group} is made`, data);
}

async function addServer(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, ASK_OPTIONS, ["G", "SERVER"]);
  const [group, server] = positionals as [string, string];
  return change(values, { ...NO_CHANGE, group, change: "add", servers: [server] }, `${server} comes into the group ${group}`);
}

async function removeServer(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, CHANGE_OPTIONS, ["G", "SERVER"]);
  const [group, server] = positionals as [string, string];
  const asked = { ...NO_CHANGE, group, change: "remove", servers: [server], force: values.force === true } as const;
  return change(values, asked, `${server} goes out of the group ${group}`);
}

async function replaceServer(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, CHANGE_OPTIONS, ["G", "OLD", "NEW"]);
  const [group, ...servers] = positionals as [string, string, string];
  const what = `${servers[1]} takes the place of ${servers[0]} in the group ${group}`;
  return change(values, { ...NO_CHANGE, group, change: "replace", servers, force: values.force === true }, what);
}

async function setParity(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, CHANGE_OPTIONS, ["G", "M"]);
  const group = positionals[0] as string;
  const parity = parityFrom("M", positionals[1]);
  const asked = { ...NO_CHANGE, group, change: "parity", parity, force: values.force === true } as const;
  return change(values, asked, `the group ${group} gets ${parity} parity`);
}

function parityFrom(name: string, text: string | undefined): number {
  const parity = wholeNumber(name, text, 0) ?? PARITY_DEFAULT;
  if (parity > PARITY_MAX) throw new UsageError(`${name} is at most ${PARITY_MAX}, not ${parity}`);
  return parity;
}

/** `data`: of a group that is made, where it is asked for. */
async function change(values: AskValues, asked: GroupChange, what: string, data?: number): Promise<number> {
  const reach = await reachOf(values);
  const map = await newestMap(reach);
  const { group, servers: members, parity } = asked;
  const { lost } =
    data === undefined
      ? await askMember(reach, map, "changeGroup", asked)
      : await askMember(reach, map, "createGroup", { group, servers: members, parity, data });
  if (lost !== 0 && values.json !== true) print(lostText(asked.servers[0] as string, lost));
  const moved = await watchGroups(reach, [asked.group], what);
  const document = await collectStatus(reach);
  const { name, version, dataFragments, parityFragments, dataMax, servers } = groupNamed(document, asked.group);
  const stored = lost === 0 ? "all that it stores" : "what is left of what it stored";
  if (values.json === true)
    printJson({ name, version, dataFragments, parityFragments, dataMax, servers, lost: lost < 0 ? null : lost, ...moved });
  else print(`the group ${name} is ${dataFragments}+${parityFragments} over ${servers.join(", ")}, and ${stored} lies there`);
  return 0;
}

function groupNamed({ groups }: StatusDocument, name: string): GroupStatus {
  const group = groups.find((row) => row.name === name);
  if (group === undefined) throw failure(`there is no group ${name}: there are ${groups.map((row) => row.name).join(", ") || "none yet"}`);
  return group;
}
