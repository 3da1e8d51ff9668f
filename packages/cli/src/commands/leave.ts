import { type Address, type ClusterMap, isDazzleError, type Member } from "@dazzle/core";
import type { DepartureStatus } from "@dazzle/node";
import { callOnce, connectMember } from "../calls.ts";
import { readCluster } from "../cluster-directory.ts";
import { failure, Progress, print, printJson } from "../output.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, type Reach, reachOf } from "../reach.ts";
import { type Command, parse, UsageError } from "../usage.ts";

const BEGIN_DEADLINE_MS = 30_000;
const ANSWER_DEADLINE_MS = 5_000;
const LOOK_MS = 500;
/** In which every node has learned of a change of the map. */
const LEARN_MS = 15_000;
/** For so long nobody need answer before the command gives up; the machine goes on leaving. */
const SILENCE_MS = 60_000;

export const leaveCommand: Command = {
  help: `usage: dazzle leave [NAME] [--dir DIR | --cluster HOST:PORT] [--force] [--json]
Takes a machine out of the cluster while it is used: its slots and its part in keeping the map go to others, everything that it stores is written
again on them, and then its node stops. Its node must run, and no mount there. Interrupted, it goes on; the same command again shows how far it is.

  NAME                      the member (default: this machine, by its directory)
${REACH_HELP}
  --force                   also where the stripe group has less parity without it
  --json                    print one JSON document`,

  async run(args) {
    const options = { ...REACH_OPTIONS, force: { type: "boolean" }, json: { type: "boolean" } } as const;
    const named = args.findIndex((arg, index) => !arg.startsWith("-") && !["--dir", "--cluster"].includes(args[index - 1] ?? ""));
    const { values, positionals } = parse(args, options, named < 0 ? [] : ["NAME"]);
    const reach = await reachOf(values);
    const name = positionals[0] ?? (await nameHere(reach));
    const member = memberNamed(await newestMap(reach), name);
    if (!member.addresses.some((one) => one.startsWith("tcp:")))
      throw failure(`${name} is a node of dazzle up, on this machine alone: machines leave that began with dazzle init or join`);
    const address = reach.near.get(member.id) ?? (member.addresses[0] as Address);
    await begin(address, member, values.force === true).catch(async (error: unknown) => {
      if (!isDazzleError(error) || !(await hasJustLeft(reach, member))) throw error;
    });
    const done = await watch(reach, member, address);
    if (values.json === true) printJson({ name, segments: done.segments, bytes: done.bytes });
    else print(`${name} has left the cluster`);
    return 0;
  },
};

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
    throw failure(`${name} does not answer, and what it stores can't be moved: start dazzle node there first`);
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
async function watch(reach: Reach, { id, name }: Member, address: Address): Promise<DepartureStatus> {
  let status: DepartureStatus = { segments: 0, bytes: 0, left: 0, waits: "" };
  const progress = new LeaveProgress(name);
  try {
    for (let heardMs = Date.now(); ; ) {
      const map = await newestMap(reach).catch(() => undefined);
      if (map !== undefined && !map.members.some((row) => row.id === id)) return status;
      const { reply } = await callOnce(address, "status", {}, ANSWER_DEADLINE_MS).catch(() => ({ reply: undefined }));
      const told = (reply?.document as { leaving?: DepartureStatus | null } | undefined)?.leaving;
      if (told !== undefined && told !== null) {
        status = told;
        heardMs = Date.now();
      }
      progress.show(status);
      if (Date.now() - heardMs > SILENCE_MS)
        throw failure(`${name} does not answer any more, and has not left yet: start dazzle node there, and it goes on`);
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  } finally {
    progress.end();
  }
}

/** A bar over the segments known by now. */
class LeaveProgress {
  readonly #name: string;
  #total = 1;
  #bar: Progress;

  constructor(name: string) {
    this.#name = name;
    this.#bar = this.#begin();
  }

  #begin(): Progress {
    return new Progress(`${this.#name} is leaving: segments`, this.#total);
  }

  show({ segments, bytes, left, waits }: DepartureStatus): void {
    if (segments + left > 0 && segments + left !== this.#total) {
      this.#total = segments + left;
      this.#bar.end();
      this.#bar = this.#begin();
    }
    this.#bar.step(`${bytes} bytes${waits === "" ? "" : `; waits: ${waits}`}`, segments);
  }

  end(): void {
    this.#bar.end();
  }
}
