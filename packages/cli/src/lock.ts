import { linkSync, readFileSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { pidOf, realProcesses } from "@dazzle/runtime";
import { failure } from "./output.ts";

const ATTEMPTS_MAX = 10;

export interface Lock {
  release(): void;
}

/** Holds `path` for this process until it ends: a file with the process's identity. Fails while another living process has it. */
export function acquireLock(path: string, inUse: (pid: number | undefined) => string): Lock {
  const mine = `${path}.${process.pid}`;
  writeFileSync(mine, JSON.stringify({ process: realProcesses.self }));
  try {
    for (let attempt = 0; attempt < ATTEMPTS_MAX; attempt++) {
      if (linked(mine, path)) return { release: () => releaseLock(path) };
      const holder = lockHolder(path);
      if (holder !== undefined && !realProcesses.isGone(holder)) throw failure(inUse(pidOf(holder)));
      moveAway(path, holder);
    }
  } finally {
    unlinkSync(mine);
  }
  throw failure(inUse(undefined));
}

/** Takes the lock of a process that is gone out of the way. Another process may have replaced it since it was read: then it is put back. */
function moveAway(path: string, holder: string | undefined): void {
  const stale = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, stale);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return;
    throw error;
  }
  if (lockHolder(stale) !== holder) linked(stale, path);
  unlinkSync(stale);
}

function linked(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

/** Who holds it; undefined where nobody does. */
export function lockHolder(path: string): string | undefined {
  try {
    const { process } = JSON.parse(readFileSync(path, "utf8")) as { readonly process?: unknown };
    return typeof process === "string" ? process : undefined;
  } catch {
    return undefined;
  }
}

function releaseLock(path: string): void {
  if (lockHolder(path) === realProcesses.self) unlinkSync(path);
}
