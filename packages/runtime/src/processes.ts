import { readFileSync } from "node:fs";
import type { Processes } from "@dazzle/core";

function bootIdOfMachine(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "latin1").trim();
}

/** State letter, parent, and start time (in ticks since the machine started) of a process; undefined where there is none. */
function statusOf(pid: number): { readonly state: string; readonly parent: number; readonly started: string } | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The command's name stands in parentheses and may hold anything; the third field follows the last of them.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0] ?? "", parent: Number(fields[1]), started: fields[19] ?? "" };
}

/** `Processes.self` of a process of this machine that runs now. */
export function processIdentity(pid: number): string | undefined {
  const status = statusOf(pid);
  return status === undefined || status.state === "Z" ? undefined : `${bootIdOfMachine()}:${pid}:${status.started}`;
}

export function parentOf(pid: number): number | undefined {
  return statusOf(pid)?.parent;
}

/** The process number in a `Processes.self`, whatever machine it is of. */
export function pidOf(identity: string): number | undefined {
  const pid = Number(identity.split(":")[1]);
  return Number.isSafeInteger(pid) && pid > 0 ? pid : undefined;
}

let self: string | undefined;

export const realProcesses: Processes = {
  get self(): string {
    self ??= processIdentity(process.pid) ?? "";
    return self;
  },
  isGone: (identity) => {
    const [boot, pid, started] = identity.split(":");
    if (boot === undefined || !/^\d+$/.test(pid ?? "") || started === undefined) return false;
    // Another machine's process never comes here: who asks, asks the node of the process's own machine.
    if (boot !== bootIdOfMachine()) return true;
    const status = statusOf(Number(pid));
    return status === undefined || status.state === "Z" || status.state === "X" || status.started !== started;
  },
};
