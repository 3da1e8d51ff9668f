import { currentVersion, DazzleError, findGroup, type GroupId, isDazzleError, type MemberId, sleep } from "@dazzle/core";
import type { LogOptions } from "./options.ts";
import { leaveOut } from "./regroup.ts";

const RETRY_MS = 100;
/** Where there is no room, a cleaner may be making some: whoever wants to write waits while there was more of it than before within so long. */
const ROOM_PATIENCE_MS = 5_000;

export interface SpaceCreditsOptions extends LogOptions {
  readonly log: number;
  /** Accepted bytes that not every server has yet, with what was taken in an earlier turn of the event loop. */
  readonly unstoredBytes: () => number;
}

/** Space credits (rule 8): bytes that every server of a group has promised to take. A mount accepts a write only where one group has promised
 * all that it has accepted and not stored, so that ENOSPC comes at the write and nothing accepted is lost: whatever another group does not take goes there. */
export class SpaceCredits {
  readonly #options: SpaceCreditsOptions;
  readonly #groups = new Map<GroupId, GroupCredits>();
  /** Somebody waited for room in vain, and nobody got any since. */
  #isFull = false;

  constructor(options: SpaceCreditsOptions) {
    this.#options = options;
  }

  /** Takes `bytes` where they are held already. Asks for more, in the background, when little is left. */
  tryTake(bytes: number): boolean {
    const most = this.#room;
    if (bytes > most) return false;
    this.#isFull = false;
    for (const credits of this.#groups.values()) credits.take(bytes);
    if (most - bytes < this.#options.limits.dirtyBytes / 4)
      for (const credits of this.#groups.values())
        if (credits.asking === null)
          credits.ask(0).catch((error: Error) => {
            this.#options.ports.logger("info", "no more space credits for now", { log: this.#options.log, reason: error.message });
          });
    return true;
  }

  /** What one group has promised beyond what was accepted. */
  get #room(): number {
    return Math.max(Number.NEGATIVE_INFINITY, ...[...this.#groups.values()].map(({ available }) => available));
  }

  /** As `tryTake`, asking the servers where too little is held. One that is silent is left out of its group, as by a writer: who has nothing
   * to store yet would never find out. Rejects `noSpace` where no group can promise so much, and no cleaner makes room, `unreachable` (naming it) where a server that might does not answer
   * for `writeDeadlineMs`. */
  async take(bytes: number): Promise<void> {
    const { ports, limits } = this.#options;
    const deadlineMs = ports.clock.nowMs() + limits.writeDeadlineMs;
    let room = Number.NEGATIVE_INFINITY;
    let roomierMs = ports.clock.nowMs();
    while (!this.tryTake(bytes)) {
      try {
        await Promise.any(this.#allGroups().map((credits) => credits.askFor(bytes)));
      } catch (error) {
        const { errors } = error as AggregateError;
        const reason = errors.find((one) => !isDazzleError(one)) ?? errors.find(({ code }) => code !== "noSpace") ?? errors[0];
        if (!isDazzleError(reason) || ports.clock.nowMs() >= deadlineMs) throw reason;
        if (this.#room > room) {
          room = this.#room;
          roomierMs = ports.clock.nowMs();
        }
        if (reason.code === "noSpace" && (this.#isFull || ports.clock.nowMs() - roomierMs >= ROOM_PATIENCE_MS)) {
          this.#isFull = true;
          throw reason;
        }
        for (const credits of this.#groups.values()) await credits.leaveOutSilent();
        await sleep(ports.clock, RETRY_MS);
      }
    }
  }

  #allGroups(): readonly GroupCredits[] {
    const { groups } = this.#options.map.current;
    for (const { id } of groups) if (!this.#groups.has(id)) this.#groups.set(id, new GroupCredits(this.#options, id));
    return [...this.#groups.values()];
  }
}

/** What one group has promised. Each of its servers promises the whole of it: a mirrored tail is whole on each. */
class GroupCredits {
  readonly #options: SpaceCreditsOptions;
  readonly #group: GroupId;
  /** May be negative: then less is promised than was accepted on another group's word. */
  #available = 0;
  /** Taken since the request under way was sent. */
  #takenMeanwhile = 0;
  #asking: Promise<number> | null = null;
  /** Servers that did not answer when they were last asked, or not for the store that the group lists, and since when. */
  readonly #silentSinceMs = new Map<MemberId, number>();

  constructor(options: SpaceCreditsOptions, group: GroupId) {
    this.#options = options;
    this.#group = group;
  }

  get available(): number {
    return this.#available;
  }

  get asking(): Promise<number> | null {
    return this.#asking;
  }

  take(bytes: number): void {
    this.#available -= bytes;
    this.#takenMeanwhile += bytes;
  }

  /** Rejects `noSpace` where it promises less. What another one asked for does not tell whether there is room for this. */
  async askFor(bytes: number): Promise<void> {
    const other = this.#asking;
    const held = await (other ?? this.ask(bytes));
    if (other === null && held < bytes) throw new DazzleError("noSpace", `the servers have no room for ${bytes} bytes more`);
  }

  /** Asks for what is not stored and `bytes` more. Answers what is held then. */
  ask(bytes: number): Promise<number> {
    this.#asking = this.#reserve(bytes).finally(() => {
      this.#asking = null;
    });
    return this.#asking;
  }

  async leaveOutSilent(): Promise<void> {
    const { ports, limits, log } = this.#options;
    for (const [member, sinceMs] of [...this.#silentSinceMs]) {
      if (ports.clock.nowMs() - sinceMs < limits.serverSuspectMs) continue;
      this.#silentSinceMs.delete(member);
      try {
        await leaveOut({ ...this.#options, group: this.#group, member });
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        ports.logger("info", "a server that promises no space can't be left out", { log, reason: error.message });
      }
    }
  }

  /** Begins in a later turn: what was taken in this one is not accepted yet, and so in nobody's count. Whatever was not stored when the request left, or was taken since, may have been counted against the promise. */
  async #reserve(bytes: number): Promise<number> {
    const { map, peers, limits, log, ports } = this.#options;
    await new Promise<void>((resolve) => ports.clock.soon(resolve));
    const unstored = this.#options.unstoredBytes();
    this.#takenMeanwhile = 0;
    const wish = unstored + bytes + limits.dirtyBytes;
    const asked = currentVersion(findGroup(map.current, this.#group)).servers.map(async ({ member }) => {
      const sentMs = ports.clock.nowMs();
      try {
        const { reply } = await peers.call(member, "reserve", { log, bytes: wish }, { deadlineMs: limits.serverDeadlineMs });
        this.#silentSinceMs.delete(member);
        return reply.granted;
      } catch (error) {
        const isAway = isDazzleError(error, "unreachable", "timedOut", "wrongStore");
        if (isAway && !this.#silentSinceMs.has(member)) this.#silentSinceMs.set(member, sentMs);
        throw error;
      }
    });
    const granted = Math.min(...(await Promise.all(asked)));
    this.#available = granted - unstored - this.#takenMeanwhile;
    return Math.max(0, this.#available);
  }
}
