import { sleep } from "@dazzle/core";
import { realClock, realProcesses } from "@dazzle/runtime";

const POLL_MS = 50;

/** Resolves when the process is gone; not before: give it a deadline. */
export async function untilGone(identity: string): Promise<void> {
  while (!realProcesses.isGone(identity)) await sleep(realClock, POLL_MS);
}
