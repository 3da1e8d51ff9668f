import { type CleaningTally, deferred, type GroupId, isDazzleError, type MemberId, type Timer, withAbort } from "@dazzle/core";
import type { Alarm } from "./alarm.ts";
import type { CleanerOptions } from "./options.ts";
import { Pace } from "./pace.ts";
import { oldestFirst } from "./policy.ts";
import type { SetAside } from "./set-aside.ts";
import type { StoredSegment } from "./survey.ts";

/** A cleaner that has not answered by then has lost its segments to the others. */
const SET_DEADLINE_MS = 120_000;
const SET_SEGMENTS_MAX = 256;
/** Of full segments' worth of live bytes, in one set. */
const SET_TARGETS = 4;
const PAUSE_MAX_MS = 30_000;
/** Who alone is not done is waited for so long, and so many times as long as the slowest set of the others took. */
const STRAGGLER_MS = 5_000;
const STRAGGLER_TIMES = 4;
/** A cleaner that has not done its set is left out for so long, and twice as long each time, where there are others. */
const LEFT_OUT_FIRST_MS = 10_000;
const LEFT_OUT_MAX_MS = 600_000;

/** How a leader has segments cleaned. */
export interface Turn {
  readonly shortage: number;
  /** No set is begun after it. */
  readonly endMs: number;
  readonly isWanted: () => boolean;
  /** Whether it is cleaned without pauses. */
  readonly isHurried: () => boolean;
}

interface LeftOut {
  readonly untilMs: number;
  readonly pauseMs: number;
}

/** Of one group: deals sets of segments out to the cleaners, and keeps what they have done, and how each of them does. */
export class Dealer {
  readonly #options: CleanerOptions;
  readonly #group: GroupId;
  readonly #alarm: Alarm;
  readonly #signal: AbortSignal;
  readonly #paces = new Map<MemberId, Pace>();
  readonly #leftOut = new Map<MemberId, LeftOut>();
  #tally: CleaningTally = { segments: 0, skipped: 0, bytesRead: 0, bytesWritten: 0, bytesWon: 0 };
  /** Why the last of the sets that were dealt last was not cleaned that was not. */
  #failure = "";

  constructor(options: CleanerOptions, group: GroupId, alarm: Alarm, signal: AbortSignal) {
    this.#options = options;
    this.#group = group;
    this.#alarm = alarm;
    this.#signal = signal;
  }

  get tally(): CleaningTally {
    return this.#tally;
  }

  get failure(): string {
    return this.#failure;
  }

  /** By how much others slow down what the cleaners do, at most of all; 1: not at all. */
  get slowdown(): number {
    return Math.max(1, ...[...this.#paces.values()].map((pace) => pace.slowdown));
  }

  get #nowMs(): number {
    return this.#options.ports.clock.nowMs();
  }

  /** Every cleaner that answers takes the next set when it is done with one. Who takes much longer than the others, while they have nothing left to do, loses its set: it is dealt anew after the next look. That it may
   * still be cleaned does no harm: a block moves where it is at its old address. */
  deal(sets: StoredSegment[][], turn: Turn, setAside: SetAside): Promise<void> {
    return withAbort([this.#signal], (ending) => this.#deal(sets, turn, setAside, ending));
  }

  async #deal(sets: StoredSegment[][], turn: Turn, setAside: SetAside, ending: AbortController): Promise<void> {
    const { clock } = this.#options.ports;
    this.#failure = "";
    const working = new Set(this.#members());
    const cleaning = new Set<MemberId>();
    let slowestMs = -1;
    const work = async (member: MemberId) => {
      for (let set = sets.shift(); set !== undefined && turn.isWanted(); set = sets.shift()) {
        const beganMs = this.#nowMs;
        cleaning.add(member);
        const isDone = await this.#clean(member, set, setAside, ending.signal);
        cleaning.delete(member);
        if (!isDone) {
          sets.unshift(set);
          return;
        }
        const tookMs = this.#nowMs - beganMs;
        slowestMs = Math.max(slowestMs, tookMs);
        if (turn.isHurried() || ending.signal.aborted) continue;
        const pauses = 1 / this.#paceOf(member).shareAt(turn.shortage) - 1;
        await this.#alarm.wait(clock, Math.min(PAUSE_MAX_MS, tookMs * pauses));
      }
    };
    const all = Promise.all(
      [...working].map(async (member) => {
        await work(member);
        working.delete(member);
        ended();
      }),
    );
    const givenUp = deferred();
    let timer: Timer | null = null;
    const giveUp = () => {
      for (const member of cleaning) this.#leaveOut(member);
      ending.abort();
      givenUp.resolve();
    };
    const ended = () => {
      timer?.cancel();
      if (working.size === 0 || slowestMs < 0 || ending.signal.aborted) return;
      const leftMs = sets.length === 0 ? 0 : Math.max(0, turn.endMs - this.#nowMs);
      timer = clock.after(leftMs + Math.max(STRAGGLER_MS, STRAGGLER_TIMES * slowestMs), giveUp);
    };
    await Promise.race([all, givenUp.promise]);
    // What goes on behind this loses no error.
    void all.then(() => {});
  }

  /** Those that do what they are asked to, or all where there are none. */
  #members(): MemberId[] {
    const { members } = this.#options.map.current;
    const all = members.filter(({ roles, leaving }) => roles.includes("cleaner") && !leaving).map(({ id }) => id);
    const well = all.filter((id) => this.#nowMs >= (this.#leftOut.get(id)?.untilMs ?? 0));
    return well.length > 0 ? well : all;
  }

  #leaveOut(member: MemberId): void {
    const before = this.#leftOut.get(member)?.pauseMs ?? LEFT_OUT_FIRST_MS / 2;
    const pauseMs = Math.min(LEFT_OUT_MAX_MS, 2 * before);
    this.#leftOut.set(member, { pauseMs, untilMs: this.#nowMs + pauseMs });
  }

  #paceOf(member: MemberId): Pace {
    let pace = this.#paces.get(member);
    if (pace === undefined) {
      pace = new Pace();
      this.#paces.set(member, pace);
    }
    return pace;
  }

  /** False where that cleaner did not do it. */
  async #clean(member: MemberId, set: readonly StoredSegment[], setAside: SetAside, signal: AbortSignal): Promise<boolean> {
    const { peers, ports } = this.#options;
    const request = {
      group: this.#group,
      logs: set.map(({ log }) => log),
      sequences: set.map(({ sequence }) => sequence),
      groupVersions: set.map(({ groupVersion }) => groupVersion),
      always: set.map(({ always }) => always === true),
    };
    const beganMs = this.#nowMs;
    try {
      const { reply } = await peers.call(member, "cleanSegments", request, { deadlineMs: SET_DEADLINE_MS, signal });
      const retry = new Map(
        reply.skippedLogs.map((log, index) => [nameOf({ log, sequence: reply.skippedSequences[index] ?? 0 }), reply.skippedRetry[index]]),
      );
      const full = new Set(reply.fullLogs.map((log, index) => nameOf({ log, sequence: reply.fullSequences[index] ?? 0 })));
      const skipped = set.filter((segment) => retry.has(nameOf(segment)));
      const cleaned = set.filter((segment) => !retry.has(nameOf(segment)) && !full.has(nameOf(segment)));
      const isPassing = (segment: StoredSegment) => retry.get(nameOf(segment)) === true;
      setAside.postpone(skipped.filter(isPassing), this.#nowMs);
      setAside.skip(
        skipped.filter((segment) => !isPassing(segment)),
        this.#nowMs,
      );
      setAside.full(
        set.filter((segment) => full.has(nameOf(segment))),
        this.#nowMs,
      );
      setAside.cleaned(cleaned, this.#nowMs);
      this.#leftOut.delete(member);
      this.#paceOf(member).done({ segments: set.length, bytes: reply.bytesRead + reply.bytesWritten, tookMs: this.#nowMs - beganMs });
      this.#tally = {
        segments: this.#tally.segments + cleaned.length,
        skipped: this.#tally.skipped + skipped.length,
        bytesRead: this.#tally.bytesRead + reply.bytesRead,
        bytesWritten: this.#tally.bytesWritten + reply.bytesWritten,
        bytesWon: this.#tally.bytesWon + cleaned.reduce((sum, { bytes }) => sum + bytes, 0) - reply.bytesWritten,
      };
      return true;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      ports.logger("info", "a cleaner has not cleaned", { member, segments: set.length, reason: error.message });
      if (signal.aborted) return false;
      this.#failure = error.message;
      // One that has too many sets already works well.
      if (!isDazzleError(error, "notReady")) this.#leaveOut(member);
      return false;
    }
  }
}

function nameOf({ log, sequence }: { readonly log: number; readonly sequence: number }): string {
  return `${log}/${sequence}`;
}

/** Disjoint, in the order of `chosen`, each oldest first. */
export function setsOf(chosen: readonly StoredSegment[], segmentBytes: number): StoredSegment[][] {
  const sets: StoredSegment[][] = [];
  let liveBytes = 0;
  for (const segment of chosen) {
    const set = sets.at(-1);
    if (set === undefined || set.length >= SET_SEGMENTS_MAX || liveBytes >= SET_TARGETS * segmentBytes) {
      sets.push([segment]);
      liveBytes = segment.live;
    } else {
      set.push(segment);
      liveBytes += segment.live;
    }
  }
  return sets.map(oldestFirst);
}
