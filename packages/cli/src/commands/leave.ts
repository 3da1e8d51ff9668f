import { type Address, type ClusterMap, isDazzleError, type Member } from "@dazzle/core";
import { type DepartureStatus, takerOf } from "@dazzle/node";
import { askMember } from "../ask-member.ts";
import { callOnce, connectMember } from "../calls.ts";
import { readCluster } from "../cluster-directory.ts";
import { failure, print, printJson } from "../output.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, type Reach, reachOf } from "../reach.ts";
import { type Moved, watchRebuild } from "../rebuild-watch.ts";
import { type Command, parse, UsageError } from "../usage.ts";

const BEGIN_DEADLINE_MS = 60_000;
const ANSWER_DEADLINE_MS = 5_000;
const LOOK_MS = 500;
/** In which every node has learned of a change of the map. */
const LEARN_MS = 15_000;
/** For so long nobody need answer before the command gives up; what was begun goes on. */
const SILENCE_MS = 60_000;

export const leaveCommand: Command = {
  help: `usage: dazzle leave [NAME] [--dir DIR | --cluster HOST:PORT] [--force] [--dead | --cancel] [--json]
Takes a machine out of the cluster while it is used: its slots and its part in keeping the map go to others, everything that it stores is written
again on them, and then its node stops. Its node must run, and no mount there. Interrupted, it goes on; the same command again shows how far it is.

  NAME                      the member (default: this machine, by its directory)
${REACH_HELP}
  --dead                    the machine never comes back: what it stored is rebuilt from the others
  --force                   also where the stripe group has less parity without it, and where data is lost with a dead machine
  --cancel                  a machine that has begun to leave stays
  --json                    print one JSON document`,

  async run(args) {
    const flag = { type: "boolean" } as const;
    const options = { ...REACH_OPTIONS, force: flag, dead: flag, cancel: flag, json: flag };
    const named = args.findIndex((arg, index) => !arg.startsWith("-") && !["--dir", "--cluster"].includes(args[index - 1] ?? ""));
    const { values, positionals } = parse(args, options, named < 0 ? [] : ["NAME"]);
    if (values.cancel && (values.dead || values.force)) throw new UsageError("--cancel goes with neither --dead nor --force");
    const reach = await reachOf(values);
    const name = positionals[0] ?? (await nameHere(reach));
    const map = await newestMap(reach);
    const member = memberNamed(map, name);
    if (!member.addresses.some((one) => one.startsWith("tcp:")))
      throw failure(`${name} is a node of dazzle up, on this machine alone: machines leave that began with dazzle init or join`);
    const how = { force: values.force === true, json: values.json === true };
    if (values.cancel) await cancel(reach, map, member, how.json);
    else if (values.dead) await takeOut(reach, map, member, how);
    else await leave(reach, member, how);
    return 0;
  },
};

interface How {
  readonly force: boolean;
  readonly json: boolean;
}

async function leave(reach: Reach, member: Member, { force, json }: How): Promise<void> {
  const { name } = member;
  await begin(addressOf(reach, member), member, force).catch(async (error: unknown) => {
    if (!isDazzleError(error) || !(await hasJustLeft(reach, member))) throw error;
  });
  const done = await watch(reach, member);
  if (json) printJson({ name, segments: done.segments, bytes: done.bytes });
  else print(`${name} has left the cluster`);
}

async function takeOut(reach: Reach, map: ClusterMap, member: Member, { force, json }: How): Promise<void> {
  const { name, id } = member;
  const { lost } = await askMember(reach, map, "takeOut", { member: id, force }, member);
  if (lost > 0 && !json) print(`${lost} segments are lost with ${name}: dazzle fsck says which files`);
  const done = await watch(reach, member);
  if (json) printJson({ name, segments: done.segments, bytes: done.bytes, lost });
  else print(`${name} is taken out of the cluster`);
}

async function cancel(reach: Reach, map: ClusterMap, member: Member, json: boolean): Promise<void> {
  await askMember(reach, map, "stay", { member: member.id }, member);
  if (json) printJson({ name: member.name, leaving: false });
  else print(`${member.name} stays in the cluster`);
}

function addressOf({ near }: Reach, { id, addresses }: Member): Address {
  return near.get(id) ?? (addresses[0] as Address);
}

async function nameHere({ directory }: Reach): Promise<string> {
  const nodes = directory === null ? [] : ((await readCluster(directory))?.nodes ?? []);
  const [only] = nodes;
  if (only === undefined || nodes.length > 1) throw new UsageError("NAME is missing: which machine leaves?");
  return only.name;
}

function memberNamed({ members }: ClusterMap, name: string): Member {
  const member = members.find((row) => row.name === name);
  if (member === undefined) throw failure(`there is no member ${name}: there are ${members.map((row) => row.name).join(", ")}`);
  return member;
}

async function begin(address: Address, { id, name }: Member, force: boolean): Promise<void> {
  const peer = await connectMember(address, ANSWER_DEADLINE_MS).catch((error: unknown) => {
    if (!isDazzleError(error, "unreachable", "timedOut")) throw error;
    throw failure(
      `${name} does not answer, and what it stores can't be moved: start dazzle node there first; if the machine never comes back, dazzle leave ${name} --dead`,
    );
  });
  try {
    await peer.call("leave", { member: id, force }, { deadlineMs: BEGIN_DEADLINE_MS });
  } finally {
    peer.close();
  }
}

/** Who does not answer may be gone because it has left, which the others learn a moment later. */
async function hasJustLeft(reach: Reach, { id }: Member): Promise<boolean> {
  for (const endMs = Date.now() + LEARN_MS; Date.now() < endMs; await new Promise((resolve) => setTimeout(resolve, LOOK_MS))) {
    const row = (await newestMap(reach)).members.find((one) => one.id === id);
    if (row?.leaving !== true) return row === undefined;
  }
  return false;
}

/** Resolves when the map is without the member. */
async function watch(reach: Reach, { id, name }: Member): Promise<Moved> {
  let heardMs = Date.now();
  return watchRebuild(
    reach,
    `${name} is leaving`,
    (map) => {
      const row = map.members.find((one) => one.id === id);
      if (row?.leaving === false) throw failure(`${name} stays in the cluster: its leaving was cancelled`);
      return row === undefined;
    },
    async (map) => {
      const row = map.members.find((one) => one.id === id);
      const taker = map.members.find((one) => row !== undefined && one.id === takerOf(map, row));
      const told = taker === undefined ? undefined : await statusFrom(addressOf(reach, taker), id);
      if (told !== undefined) heardMs = Date.now();
      if (Date.now() - heardMs > SILENCE_MS)
        throw failure(
          `${taker?.name ?? name} does not answer any more, and ${name} has not left yet: start dazzle node there, and it goes on`,
        );
      return told === undefined || told.waits === "" ? [] : [told.waits];
    },
  );
}

async function statusFrom(address: Address, id: number): Promise<DepartureStatus | undefined> {
  const { reply } = await callOnce(address, "status", {}, ANSWER_DEADLINE_MS).catch(() => ({ reply: undefined }));
  const document = reply?.document as { leaving?: readonly DepartureStatus[] } | undefined;
  return document?.leaving?.find(({ member }) => member === id);
}
