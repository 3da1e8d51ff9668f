import { existsSync, writeFileSync } from "node:fs";
import { writeFile } from "node:fs/promises";
import { findMount, mountTable } from "./mount-table.ts";
import { runProgram } from "./programs.ts";

const CONTROL_DIRECTORY = "/sys/fs/fuse/connections";

/**
 * Ends a mount whose server answers no more: every waiting process gets an error at once, even those that no signal wakes. Takes the
 * connection's number or the mountpoint. False where there is no such connection or it isn't ours to abort.
 */
export async function abortConnection(target: number | string): Promise<boolean> {
  const connection = typeof target === "number" ? target : findMount(target)?.connection;
  if (connection === undefined) return false;
  await ensureControlDirectory();
  try {
    writeFileSync(`${CONTROL_DIRECTORY}/${connection}/abort`, "1");
    return true;
  } catch {
    return false;
  }
}

/** For another process than the one that serves the mount, which is dead or stalled: aborts the connection, takes the mountpoint out of the
 * tree and has the kernel drop what it cached of it. Never looks at the mountpoint itself. True when nothing is mounted there any more. */
export async function abortAndUnmount(mountpoint: string, connection: number): Promise<boolean> {
  // Somebody may have unmounted it; the kernel gives its number to the next mount, whoever's that is. What still waits in a connection
  // without a mountpoint ends with the process that served it.
  if (findMount(mountpoint)?.connection !== connection) return true;
  await abortConnection(connection);
  await detach(mountpoint);
  await dropCleanPages();
  return findMount(mountpoint)?.connection !== connection;
}

/** Whoever still has a file of a dead mount open would be served its pages from the kernel's cache for ever. There is no way to drop those of one
 * mount alone from outside; as root those of all are dropped, as far as they are clean and not mapped. */
async function dropCleanPages(): Promise<void> {
  if (process.getuid?.() === 0) await writeFile("/proc/sys/vm/drop_caches", "1").catch(() => {});
}

/** Takes a mountpoint out of the tree, whoever still uses it. Says what went wrong, or nothing. */
export async function detach(mountpoint: string): Promise<string> {
  return process.getuid?.() === 0 ? unmountProgram(["-i", "-c", "-l", mountpoint]) : fusermount(["-u", "-z", "--", mountpoint]);
}

/** Unmounts what nobody uses. Says what went wrong, or nothing. */
export async function detachIdle(mountpoint: string): Promise<string> {
  return process.getuid?.() === 0 ? unmountProgram(["-i", "-c", mountpoint]) : fusermount(["-u", "--", mountpoint]);
}

async function unmountProgram(args: string[]): Promise<string> {
  const { status, errors } = await runProgram("umount", args);
  return status === 0 ? "" : status === undefined ? "the program umount is missing" : errors || `umount ended with ${status}`;
}

async function fusermount(args: string[]): Promise<string> {
  const { status, errors } = await runProgram("fusermount3", args);
  return status === 0 ? "" : status === undefined ? "the program fusermount3 is missing" : errors || `fusermount3 ended with ${status}`;
}

/** Small systems don't mount the control filesystem by themselves. */
async function ensureControlDirectory(): Promise<void> {
  if (mountTable().some((row) => row.mountpoint === CONTROL_DIRECTORY) || process.getuid?.() !== 0 || !existsSync(CONTROL_DIRECTORY))
    return;
  await runProgram("mount", ["-i", "-t", "fusectl", "fusectl", CONTROL_DIRECTORY]);
}

export interface WatchdogOptions {
  readonly mountpoint: string;
  readonly connection: number;
  /** When the mount's process was last heard of, by the clock of `nowMs`; undefined: it is known to be dead. */
  readonly lastHeartbeatMs: () => number | undefined;
  readonly nowMs: () => number;
  /** Silence after which the process counts as stalled. */
  readonly stalledAfterMs: number;
  /** Called first, once: the place to kill the process and to drop the page cache. */
  readonly onStalled: () => void;
}

/** Watches a mount's process from another one, and ends the mount when it is dead or stalled. */
export class Watchdog {
  readonly #options: WatchdogOptions;
  readonly #timer: NodeJS.Timeout;
  #ending: Promise<boolean> | undefined;

  constructor(options: WatchdogOptions) {
    this.#options = options;
    this.#timer = setInterval(() => this.check(), Math.max(10, options.stalledAfterMs / 4));
    this.#timer.unref();
  }

  /** Resolves to whether the mount is gone, once it was ended; undefined while all is well. */
  get ending(): Promise<boolean> | undefined {
    return this.#ending;
  }

  check(): void {
    if (this.#ending !== undefined) return;
    const { lastHeartbeatMs, nowMs, stalledAfterMs, onStalled, mountpoint, connection } = this.#options;
    const last = lastHeartbeatMs();
    if (last !== undefined && nowMs() - last < stalledAfterMs) return;
    this.stop();
    onStalled();
    this.#ending = abortAndUnmount(mountpoint, connection);
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}
