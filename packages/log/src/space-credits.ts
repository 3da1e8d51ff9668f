import { currentVersion, DazzleError, findGroup, isDazzleError, type MemberId, sleep } from "@dazzle/core";
import type { LogOptions } from "./options.ts";
import { leaveOut } from "./regroup.ts";

const RETRY_MS = 100;

/** Space credits (PROTOCOL rule 8): bytes that every server of the group has promised to take. A mount accepts a write only against
 * them, so that ENOSPC comes at the write and nothing accepted is lost. Each server promises the whole of it: a mirrored tail is
 * whole on each. */
export class SpaceCredits {
  readonly #options: LogOptions & { readonly log: number; readonly group: number; readonly unstoredBytes: () => number };
  #available = 0;
  /** Taken since the request under way was sent. */
  #takenMeanwhile = 0;
  #asking: Promise<number> | null = null;
  /** Servers that did not answer when they were last asked, and since when. */
  readonly #silentSinceMs = new Map<MemberId, number>();

  /** `unstoredBytes`: accepted bytes that not every server has yet, with what was taken in an earlier turn of the event loop. */
  constructor(options: LogOptions & { readonly log: number; readonly group: number; readonly unstoredBytes: () => number }) {
    this.#options = options;
  }

  /** Takes `bytes` where they are held already. Asks for more, in the background, when little is left. */
  tryTake(bytes: number): boolean {
    if (bytes > this.#available) return false;
    this.#available -= bytes;
    this.#takenMeanwhile += bytes;
    if (this.#asking === null && this.#available < this.#options.limits.dirtyBytes / 4)
      this.#ask(0).catch((error: Error) => {
        this.#options.ports.logger("info", "no more space credits for now", { log: this.#options.log, reason: error.message });
      });
    return true;
  }

  /** As `tryTake`, asking the servers where too little is held. One that is silent is left out of the group, as by a writer: who has nothing
   * to store yet would never find out. Rejects `noSpace` where one can't promise so much, `unreachable` (naming it) where one does not answer
   * for `writeDeadlineMs`. */
  async take(bytes: number): Promise<void> {
    const { ports, limits } = this.#options;
    const deadlineMs = ports.clock.nowMs() + limits.writeDeadlineMs;
    while (!this.tryTake(bytes)) {
      try {
        // What another one asked for does not tell whether there is room for this.
        const other = this.#asking;
        const held = await (other ?? this.#ask(bytes));
        if (other === null && held < bytes) throw new DazzleError("noSpace", `the servers have no room for ${bytes} bytes more`);
      } catch (error) {
        if (!isDazzleError(error) || error.code === "noSpace" || ports.clock.nowMs() >= deadlineMs) throw error;
        await this.#leaveOutSilent();
        await sleep(ports.clock, RETRY_MS);
      }
    }
  }

  async #leaveOutSilent(): Promise<void> {
    const { ports, limits, group, log } = this.#options;
    for (const [member, sinceMs] of [...this.#silentSinceMs]) {
      if (ports.clock.nowMs() - sinceMs < limits.serverSuspectMs) continue;
      this.#silentSinceMs.delete(member);
      try {
        await leaveOut({ ...this.#options, group, member });
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        ports.logger("info", "a server that promises no space can't be left out", { log, reason: error.message });
      }
    }
  }

  #ask(bytes: number): Promise<number> {
    this.#asking = this.#reserve(bytes).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  /** Answers what is held then. Begins in a later turn: what was taken in this one is not accepted yet, and so in nobody's count. Whatever was not stored when the request left, or was taken since, may have been counted against the promise. */
  async #reserve(bytes: number): Promise<number> {
    const { map, peers, limits, log, group, ports } = this.#options;
    await new Promise<void>((resolve) => ports.clock.soon(resolve));
    const unstored = this.#options.unstoredBytes();
    this.#takenMeanwhile = 0;
    const wish = unstored + bytes + limits.dirtyBytes;
    const asked = currentVersion(findGroup(map.current, group)).servers.map(async ({ member }) => {
      const sentMs = ports.clock.nowMs();
      try {
        const { reply } = await peers.call(member, "reserve", { log, bytes: wish }, { deadlineMs: limits.serverDeadlineMs });
        this.#silentSinceMs.delete(member);
        return reply.granted;
      } catch (error) {
        if (isDazzleError(error, "unreachable", "timedOut") && !this.#silentSinceMs.has(member)) this.#silentSinceMs.set(member, sentMs);
        throw error;
      }
    });
    const granted = Math.min(...(await Promise.all(asked)));
    this.#available = Math.max(0, granted - unstored - this.#takenMeanwhile);
    return this.#available;
  }
}
