import { type Address, isDazzleError, type Member } from "@dazzle/core";
import type { ScrubStatus } from "@dazzle/node";
import { callOnce, connectMember } from "../calls.ts";
import { bytesText } from "../figures.ts";
import { failure, Progress, print, printJson } from "../output.ts";
import { newestMap, REACH_HELP, REACH_OPTIONS, type Reach, reachOf } from "../reach.ts";
import { type Command, parse } from "../usage.ts";

const ANSWER_DEADLINE_MS = 5_000;
const LOOK_MS = 500;
/** For so long a server need not answer before it is given up; it goes on by itself. */
const SILENCE_MS = 60_000;
/** What is damaged is repaired within so long, or is waiting for something. */
const REPAIR_MS = 30_000;

interface Scrubbed extends ScrubStatus {
  readonly name: string;
}

export const scrubCommand: Command = {
  help: `usage: dazzle scrub [--dir DIR | --cluster HOST:PORT] [--json]
Reads and verifies everything that is stored, on all servers at once, and repairs what is damaged from the other servers. The servers do so by themselves,
slowly; this is now, and faster. Interrupted, they go on. Exit status 1 where something damaged is left, or a server does not answer.

${REACH_HELP}
  --json                    print one JSON document`,

  async run(args) {
    const { values } = parse(args, { ...REACH_OPTIONS, json: { type: "boolean" } });
    const reach = await reachOf(values);
    const servers = (await newestMap(reach)).members.filter(({ roles }) => roles.includes("storage"));
    const progress = new Progress("verified: percent", 100);
    const bars = new Map(servers.map(({ name }) => [name, 0]));
    const outcomes = await Promise.allSettled(
      servers.map((member) =>
        scrubOne(reach, member, (status) => {
          bars.set(member.name, status.progress);
          const sum = [...bars.values()].reduce((total, one) => total + one, 0);
          progress.step(`${status.fragments} fragments on ${member.name}`, Math.floor((100 * sum) / servers.length));
        }),
      ),
    ).finally(() => progress.end());
    const done = outcomes.flatMap((outcome) => (outcome.status === "fulfilled" ? [outcome.value] : []));
    if (values.json === true) printJson({ servers: done });
    else for (const one of done) print(summary(one));
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    const bad = done.filter(({ waiting, unrepairable }) => waiting + unrepairable > 0);
    if (bad.length > 0) throw failure(`damaged fragments are left on ${bad.map(({ name }) => name).join(", ")}: their logs say why`);
    return 0;
  },
};

function summary({ name, fragments, bytes, last, repaired, waiting, unrepairable }: Scrubbed): string {
  const found = last === null || last.damaged === 0 ? "none damaged" : `${last.damaged} damaged`;
  const left = waiting + unrepairable === 0 ? "" : `, ${waiting} to be repaired yet, ${unrepairable} unrepairable`;
  return `${name}: ${fragments} fragments (${bytesText(bytes)}) verified, ${found}${left}; ${repaired} repaired so far`;
}

/** Begins a pass there, and resolves when it has ended, and what it found is repaired or waits for something. */
async function scrubOne(reach: Reach, { id, name, addresses }: Member, shows: (status: ScrubStatus) => void): Promise<Scrubbed> {
  const address = reach.near.get(id) ?? (addresses[0] as Address);
  const pass = await begin(address, name);
  let endedMs: number | undefined;
  for (let heardMs = Date.now(); ; await new Promise((resolve) => setTimeout(resolve, LOOK_MS))) {
    const status = await statusOf(address);
    if (status === undefined) {
      if (Date.now() - heardMs > SILENCE_MS)
        throw failure(`${name} does not answer any more, and has not verified everything: start it, and it goes on`);
      continue;
    }
    heardMs = Date.now();
    shows(status);
    if (status.running && status.pass === pass) continue;
    endedMs ??= Date.now();
    if (status.waiting === 0 || Date.now() - endedMs > REPAIR_MS) return { name, ...status };
  }
}

async function begin(address: Address, name: string): Promise<number> {
  const peer = await connectMember(address, ANSWER_DEADLINE_MS).catch((error: unknown) => {
    if (!isDazzleError(error, "unreachable", "timedOut")) throw error;
    throw failure(`${name} does not answer: what it stores is not verified. Start it, and run dazzle scrub again`);
  });
  try {
    return (await peer.call("scrub", {}, { deadlineMs: ANSWER_DEADLINE_MS })).reply.pass;
  } finally {
    peer.close();
  }
}

async function statusOf(address: Address): Promise<ScrubStatus | undefined> {
  const answer = await callOnce(address, "status", {}, ANSWER_DEADLINE_MS).catch((error: unknown) => {
    if (!isDazzleError(error)) throw error;
    return undefined;
  });
  return (answer?.reply.document as { scrub?: ScrubStatus | null } | undefined)?.scrub ?? undefined;
}
