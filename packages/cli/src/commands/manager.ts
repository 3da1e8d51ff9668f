import { type ClusterMap, SLOTS } from "@dazzle/core";
import { connectMember } from "../calls.ts";
import { type ManagerStatus, managerWarnings } from "../manager-status.ts";
import { failure, Progress, print, printJson } from "../output.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, type Reach, reachOf } from "../reach.ts";
import { collectStatus } from "../status-document.ts";
import { managerTable, warningLines } from "../status-text.ts";
import { type Command, parse, runAction, UsageError, wholeNumber } from "../usage.ts";

const OPTIONS = { ...REACH_OPTIONS, json: { type: "boolean" } } as const;
const CONNECT_DEADLINE_MS = 10_000;
/** What is served there goes on with its new manager: mounts are asked what they hold. */
const MOVE_DEADLINE_MS = 60_000;

export const managerCommand: Command = {
  help: `usage: dazzle manager list [--dir DIR | --cluster HOST:PORT] [--json]
       dazzle manager move SLOT NAME [--dir DIR | --cluster HOST:PORT] [--json]
The manager map: which member manages which slots; and moving a slot to another member, while it is used.

${REACH_HELP}
  --json                    print one JSON document`,

  run: async (args) => runAction(args, { list, move }),
};

async function list(args: readonly string[]): Promise<number> {
  const { values } = parse(args, OPTIONS);
  const { managers } = await collectStatus(await reachOf(values));
  if (values.json === true) printJson({ managers });
  else print([managerTable(managers), ...warnings(managers)].join("\n\n"));
  return 0;
}

function warnings(managers: readonly ManagerStatus[]): string[] {
  const lines = managers.flatMap(managerWarnings);
  return lines.length === 0 ? [] : [warningLines(lines)];
}

async function move(args: readonly string[]): Promise<number> {
  const { values, positionals } = parse(args, OPTIONS, ["SLOT", "NAME"]);
  const [text, name] = positionals as [string, string];
  const slot = wholeNumber("SLOT", text, 0) as number;
  if (slot >= SLOTS) throw new UsageError(`SLOT is below ${SLOTS}, not ${slot}`);
  const reach = await reachOf(values);
  const map = await newestMap(reach);
  const to = managerNamed(map, name);
  const progress = new Progress(`moving slot ${slot}`, 1);
  try {
    await ask(reach, slot, to);
  } finally {
    progress.end();
  }
  if (values.json === true) printJson({ slot, manager: name });
  else print(`slot ${slot} is managed by ${name}`);
  return 0;
}

function managerNamed(map: ClusterMap, name: string): number {
  const managers = map.members.filter(({ roles }) => roles.includes("manager"));
  const member = managers.find((row) => row.name === name);
  if (member !== undefined) return member.id;
  const what = map.members.some((row) => row.name === name) ? `${name} has no manager role` : `there is no member ${name}`;
  throw failure(`${what}: managers are ${managers.map((row) => row.name).join(", ")}`);
}

/** Any member passes it on: the first that is there. */
async function ask({ addresses, way }: Reach, slot: number, member: number): Promise<void> {
  const peer = await Promise.any(addresses.map((address) => connectMember(address, CONNECT_DEADLINE_MS))).catch(() => {
    throw failure(`no node of the cluster answers: ${way}`);
  });
  try {
    await peer.call("moveSlot", { slot, member }, { deadlineMs: MOVE_DEADLINE_MS });
  } finally {
    peer.close();
  }
}
