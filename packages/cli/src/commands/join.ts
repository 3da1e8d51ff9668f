import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { type Address, type ClusterMap, DazzleError, isDazzleError, type RpcPeer, sleep } from "@dazzle/core";
import { realClock } from "@dazzle/runtime";
import { hostPort, listenAddress, memberName, requireListenable, rolesOf } from "../addresses.ts";
import { connectMember } from "../calls.ts";
import { DEFAULT_DIRECTORY } from "../cluster-directory.ts";
import { abandonJoining, beginJoining, finishJoining, type Machine, requireNew } from "../machine-directory.ts";
import { failure, lineOf, Progress, print, printJson } from "../output.ts";
import { networkAddresses } from "../seeds.ts";
import { type Command, parse } from "../usage.ts";

const ANSWER_DEADLINE_MS = 10_000;
/** Of the change itself, which waits for the keepers. */
const JOIN_DEADLINE_MS = 20_000;
/** The first machine may just be starting. */
const READY_DEADLINE_MS = 30_000;
const RETRY_MS = 200;

export const joinCommand: Command = {
  help: `usage: dazzle join HOST:PORT --listen HOST:PORT [--roles ROLE,…] [--name NAME] [--dir DIR] [--json]
Makes this machine a member of the cluster of which a member answers at HOST:PORT. It writes the directory; run dazzle node there then.

  --listen HOST:PORT   where other machines reach this one
  --roles ROLE,…       of storage, manager, cleaner, keeper, client (default: all)
  --name NAME          of this machine in the cluster (default: its host name)
  --dir DIR            where its state is kept (default ${DEFAULT_DIRECTORY})
  --json               print one JSON document`,

  async run(args) {
    const { values, positionals } = parse(
      args,
      {
        listen: { type: "string" },
        roles: { type: "string" },
        name: { type: "string" },
        dir: { type: "string" },
        json: { type: "boolean" },
      },
      ["HOST:PORT"],
    );
    const member = hostPort("HOST:PORT", positionals[0] as string);
    const machine = { name: memberName(values.name), listen: listenAddress(values.listen), roles: rolesOf(values.roles) };
    const directory = resolve(values.dir ?? DEFAULT_DIRECTORY);
    await requireNew(directory);
    await requireListenable(machine.listen);
    const progress = new Progress("joining", 1);
    let id: number;
    try {
      id = await joinAt(member, machine, directory);
    } finally {
      progress.end();
    }
    const { name, roles } = machine;
    if (values.json === true) printJson({ directory, name, member: id, address: values.listen, roles });
    else print(`${name} is member ${id} of the cluster: start it with dazzle node --dir ${directory}`);
    return 0;
  },
};

async function joinAt(address: Address, machine: Machine, directory: string): Promise<number> {
  const peer = await connectMember(address, ANSWER_DEADLINE_MS).catch((error: Error) => {
    if (!isDazzleError(error, "unreachable", "timedOut")) throw error;
    throw failure(`no member of a cluster answers at ${address.slice("tcp:".length)} (${lineOf(error)}): is dazzle node running there?`);
  });
  try {
    const { map } = (await peer.call("mapRead", {}, { deadlineMs: ANSWER_DEADLINE_MS })).reply;
    const wasThere = existsSync(directory);
    const resumed = await beginJoining(directory, map.clusterId, machine);
    const id = (resumed ? formerAttempt(map, machine) : undefined) ?? (await ask(peer, machine, directory, wasThere));
    await finishJoining(directory, map.clusterId, id, machine, [...new Set([address, ...networkAddresses(map), machine.listen])]);
    return id;
  } finally {
    peer.close();
  }
}

/** What an attempt has come to whose answer was lost. */
function formerAttempt(map: ClusterMap, { name, listen }: Machine): number | undefined {
  return map.members.find((row) => row.name === name && row.store === null && row.addresses.join() === listen)?.id;
}

async function ask(peer: RpcPeer, { name, listen, roles }: Machine, directory: string, wasThere: boolean): Promise<number> {
  const endMs = realClock.nowMs() + READY_DEADLINE_MS;
  for (;;) {
    try {
      return (await peer.call("join", { name, addresses: [listen], roles }, { deadlineMs: JOIN_DEADLINE_MS })).reply.member;
    } catch (error) {
      if (isDazzleError(error, "notReady") && realClock.nowMs() < endMs) {
        await sleep(realClock, RETRY_MS);
        continue;
      }
      if (isDazzleError(error, "unreachable", "timedOut"))
        throw new DazzleError("unreachable", `whether ${name} has joined is not known (${lineOf(error)}): give the same command again`);
      await abandonJoining(directory, wasThere);
      throw error;
    }
  }
}
