import { utimes } from "node:fs/promises";
import type { ClusterMachine } from "./machine-cluster.ts";

/** Touches files one after the other, until it is over: where another mount touches them as well, their managers are asked each time. Answers how long the longest took. */
export async function touchUntil(machine: ClusterMachine, files: readonly string[], isOver: () => boolean): Promise<number> {
  let longestMs = 0;
  for (let count = 1; !isOver(); count++) {
    const beganMs = performance.now();
    await utimes(machine.path(files[count % files.length] as string), count, count);
    longestMs = Math.max(longestMs, performance.now() - beganMs);
  }
  return longestMs;
}
