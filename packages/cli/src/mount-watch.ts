import type { Address, Clock, Logger, RpcPeer, Timer } from "@dazzle/core";
import { realProcesses } from "@dazzle/runtime";
import { connectPeer } from "./calls.ts";
import { clearMount, type MountRecord, readRecords } from "./mount-records.ts";

const INTERVAL_MS = 1_000;
/** Half a mount's lease: a frozen mount would go on serving pages from the kernel's cache (rule 30). */
const STALLED_AFTER_MS = 5_000;
/** A second node acts only where the first did not. */
const STAGGER_MS = 1_500;
const HEARTBEAT_DEADLINE_MS = 1_000;

interface Watched {
  peer: RpcPeer | null;
  asking: boolean;
  silentMs: number;
}

/** A node's watch over the mounts of its machine: one whose process is dead or answers no more is ended, so that nobody hangs in it. */
export class MountWatch {
  readonly #directory: string;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #patienceMs: number;
  readonly #watched = new Map<number, Watched>();
  #timer: Timer | null = null;
  #lastMs: number;
  #stopped = false;

  /** `place`: which of the machine's nodes this is, from 0. */
  constructor(options: { directory: string; clock: Clock; logger: Logger; place: number }) {
    this.#directory = options.directory;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#patienceMs = STALLED_AFTER_MS + options.place * STAGGER_MS;
    this.#lastMs = options.clock.nowMs();
    this.#again();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
    for (const { peer } of this.#watched.values()) peer?.close();
  }

  #again(): void {
    if (this.#stopped) return;
    this.#timer = this.#clock.after(INTERVAL_MS, () => {
      this.#check()
        .catch((error: Error) => this.#logger("warning", "the mounts can't be watched", { reason: error.message }))
        .finally(() => this.#again());
    });
  }

  async #check(): Promise<void> {
    const nowMs = this.#clock.nowMs();
    // Silence is only counted while this process ran itself: it may have been frozen along with the mount, or instead of it.
    const elapsedMs = Math.min(nowMs - this.#lastMs, 2 * INTERVAL_MS);
    this.#lastMs = nowMs;
    const records = await readRecords(this.#directory);
    for (const [pid, { peer }] of this.#watched) {
      if (records.some((record) => record.pid === pid && record.socket !== null)) continue;
      peer?.close();
      this.#watched.delete(pid);
    }
    for (const record of records) {
      if (realProcesses.isGone(record.process)) await this.#end(record, "its process is gone");
      else if (record.socket !== null && this.#silence(record.pid, record.socket, elapsedMs) >= this.#patienceMs) {
        this.#logger("error", "a mount's process answers no more: it is killed", { mountpoint: record.mountpoint, pid: record.pid });
        // First what the kernel would go on serving of it; once it is dead, others may change that.
        await this.#end(record, "its process answered no more");
        kill(record.pid);
      }
    }
  }

  async #end(record: MountRecord, reason: string): Promise<void> {
    const { mountpoint, pid } = record;
    const cleared = await clearMount(this.#directory, record);
    this.#logger(cleared ? "warning" : "error", cleared ? "a mount was ended" : "a mount can't be ended", { mountpoint, pid, reason });
  }

  #silence(pid: number, socket: Address, elapsedMs: number): number {
    let watched = this.#watched.get(pid);
    if (watched === undefined) {
      watched = { peer: null, asking: false, silentMs: 0 };
      this.#watched.set(pid, watched);
    }
    watched.silentMs += elapsedMs;
    if (!watched.asking) void this.#ask(watched, socket);
    return watched.silentMs;
  }

  async #ask(watched: Watched, socket: Address): Promise<void> {
    watched.asking = true;
    try {
      if (watched.peer === null || watched.peer.closed) watched.peer = await connectPeer(socket, HEARTBEAT_DEADLINE_MS);
      await watched.peer.call("status", {}, { deadlineMs: HEARTBEAT_DEADLINE_MS });
      watched.silentMs = 0;
    } catch {
      // Its silence is what is counted.
    } finally {
      watched.asking = false;
    }
  }
}

function kill(pid: number): void {
  try {
    process.kill(pid, "SIGKILL");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
