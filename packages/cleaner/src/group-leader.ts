import {
  type CleaningTally,
  currentVersion,
  DazzleError,
  findGroup,
  type GroupId,
  isDazzleError,
  leadersOf,
  type Reply,
  type Request,
} from "@dazzle/core";
import type { Alarm } from "./alarm.ts";
import { Dealer, setsOf } from "./dealer.ts";
import { smallestLogs } from "./old-logs.ts";
import type { CleanerOptions } from "./options.ts";
import { choose, oldestFirst, shortageOf } from "./policy.ts";
import { SetAside } from "./set-aside.ts";
import { type Stock, type StoredSegment, type Survey, Surveyor } from "./survey.ts";

/** How often a leader looks whether there is something to do, where nothing wakes it. */
const LOOK_MS = 10_000;
/** A survey takes no more than this share of the time; while somebody waits, of the time that is cleaned. */
const SURVEY_SHARE = 0.05;
const SURVEY_SHARE_ASKED = 0.2;
/** What was surveyed is out of date after so long, where that is longer: what is hot has emptied itself meanwhile. */
const TURN_MS = 30_000;
const TURN_ASKED_MS = 2_000;
const ANSWER_DEADLINE_MS = 2_000;
/** Of full segments' worth of live bytes, between two surveys. */
const TURN_TARGETS = 64;
const TURN_SEGMENTS_MAX = 4_096;
/** Of what is moved between two surveys, what may be in closed logs that are too many, where there is something to win as well. */
const OLD_LOGS_SHARE = 1 / 8;
/** With space to spare and unasked, less than so many full segments, or fewer small ones merged, are not worth the while. */
const WIN_SEGMENTS = 8;
const WIN_MERGED = 128;
/** Who asked for cleaning must ask again within so long. */
const ASKED_MS = 5_000;
/** Requests at once. */
const ASKED_MAX = 64;
/** What is empty is deleted within so long, or it is not waited for. */
const DELETED_MS = 15_000;

interface Asked {
  readonly until: number;
  readonly sinceMs: number;
  readonly before: CleaningTally;
  renewedMs: number;
}

export type LeaderState = "follows" | "idle" | "looks" | "cleans" | "waits";

/** What a leader tells of its group, for `dazzle status`. Since it began to lead. */
export interface GroupCleaning extends CleaningTally {
  readonly group: number;
  readonly state: LeaderState;
  /** Null before the first survey. */
  readonly stock: Stock | null;
  /** Segments whose live bytes are counted wrong: they are left alone. */
  readonly miscounted: number;
  /** By how much others slow down what it does, at most of all cleaners; 1: not at all. */
  readonly slowdown: number;
}

/** Of a group: looks what is worth cleaning, chooses, and deals it out to the cleaners, itself among them, as far as it is the first to try, or was asked. It
 * remembers nothing that another one could not find out: where two lead at once, they waste work. */
export class GroupLeader {
  readonly group: GroupId;
  readonly #options: CleanerOptions;
  readonly #alarm: Alarm;
  readonly #signal: AbortSignal;
  /** Whether somebody waits for another group that is led here. */
  readonly #isOtherAsked: () => boolean;
  readonly #asked = new Map<string, Asked>();
  #surveyor: Surveyor;
  #setAside = new SetAside();
  readonly #dealer: Dealer;
  #stock: Stock | null = null;
  #state: LeaderState = "follows";
  /** When the round of looks began that is under way, and what the servers held then. */
  #round = { beganMs: -1, held: "" };
  /** When the last one had begun that ended and was chosen from, and since when rounds have found nothing to clean. */
  #surveyedMs = -1;
  #nothingLeftMs = Number.POSITIVE_INFINITY;
  /** When it last got on, what has been in its way since, and when it last met that. */
  #gotOn = { atMs: 0, hindrance: "", failedMs: 0 };
  /** What the servers held when nothing was worth cleaning, and until when that says something. */
  #quiet = "";
  #quietUntilMs = 0;

  constructor(options: CleanerOptions, group: GroupId, alarm: Alarm, signal: AbortSignal, isOtherAsked = () => false) {
    this.#options = options;
    this.group = group;
    this.#alarm = alarm;
    this.#signal = signal;
    this.#isOtherAsked = isOtherAsked;
    this.#surveyor = this.#newSurveyor();
    this.#dealer = new Dealer(options, group, alarm, signal);
  }

  /** Null where it has never led. */
  get status(): GroupCleaning | null {
    if (this.#state === "follows" && this.#stock === null) return null;
    const { slowdown, tally } = this.#dealer;
    return { group: this.group, state: this.#state, stock: this.#stock, miscounted: this.#setAside.wrong, slowdown, ...tally };
  }

  get #nowMs(): number {
    return this.#options.ports.clock.nowMs();
  }

  /** The message `clean`. */
  ask({ id, until, stop }: Request<"clean">): Reply<"clean"> {
    const known = this.#asked.get(id);
    if (known === undefined && !stop) {
      if (this.#asked.size >= ASKED_MAX) throw new DazzleError("notReady", `${ASKED_MAX} others have asked for cleaning`);
      this.#asked.set(id, { until, sinceMs: this.#nowMs, before: this.#dealer.tally, renewedMs: this.#nowMs });
    } else if (known !== undefined) {
      known.renewedMs = this.#nowMs;
      if (stop) this.#asked.delete(id);
    }
    if (known === undefined) this.#alarm.ring();
    const asked = known ?? this.#asked.get(id);
    const before = asked?.before ?? this.#dealer.tally;
    const { atMs, hindrance, failedMs } = this.#gotOn;
    const { segments, bytes, liveBytes } = this.#stock ?? { segments: 0, bytes: 0, liveBytes: 0 };
    return {
      ...difference(this.#dealer.tally, before),
      ...{ stored: segments, storedBytes: bytes, liveBytes, done: asked !== undefined && this.#isDone(asked) },
      ...{ hindrance, hinderedMs: asked === undefined ? 0 : Math.max(0, failedMs - Math.max(atMs, asked.sinceMs)) },
    };
  }

  #isDone({ until, sinceMs }: Asked): boolean {
    if (this.#stock === null || this.#surveyedMs < sinceMs) return false;
    if (utilisation(this.#stock) >= until) return true;
    const leftMs = this.#nowMs - Math.max(this.#nothingLeftMs, sinceMs);
    return this.#nothingLeftMs <= this.#nowMs && (this.#stock.empty === 0 || leftMs > DELETED_MS);
  }

  /** Up to which utilisation somebody wants it cleaned now. */
  get #until(): number | null {
    let until: number | null = null;
    for (const [id, asked] of this.#asked)
      if (this.#nowMs - asked.renewedMs > ASKED_MS) this.#asked.delete(id);
      else until = Math.max(until ?? 0, asked.until);
    return until;
  }

  get isAsked(): boolean {
    return this.#until !== null;
  }

  /** Looks once, and cleans what is worth it. Answers after how long to look again. */
  async turn(): Promise<number> {
    try {
      return await this.#turn();
    } catch (error) {
      if (isDazzleError(error)) this.#hindered(error.message);
      throw error;
    }
  }

  async #turn(): Promise<number> {
    const until = this.#until;
    if (until === null && !(await this.#isFirst())) {
      if (this.#state !== "follows") this.#forget();
      return LOOK_MS;
    }
    const { freeShare, held } = await this.#space();
    if (until === null && held === this.#quiet && this.#nowMs < this.#quietUntilMs) {
      this.#state = "idle";
      return LOOK_MS;
    }
    this.#state = "looks";
    const beganMs = this.#nowMs;
    const survey = await this.#look(held);
    const tookMs = this.#nowMs - beganMs;
    const { isWhole } = survey;
    const shortage = until === null ? shortageOf(freeShare) : 1;
    const nextRetryMs = this.#setAside.nextRetryMs(survey.candidates, this.#nowMs);
    const isAsked = until !== null;
    const winning = this.#chosen(survey, shortage, until);
    const old = isWhole ? await this.#ofOldLogs(survey, winning) : [];
    // Who waits for space gets the emptiest first.
    const chosen = isAsked ? [...winning, ...old] : [...old, ...oldestFirst(winning)];
    if (isWhole) {
      this.#surveyedMs = this.#round.beganMs;
      this.#nothingLeftMs = chosen.length > 0 ? Number.POSITIVE_INFINITY : Math.min(this.#nothingLeftMs, this.#nowMs);
    }
    if (chosen.length === 0) {
      this.#hindered("");
      this.#state = until === null ? "idle" : "waits";
      if (!isWhole) return until === null ? Math.min(LOOK_MS, tookMs / SURVEY_SHARE) : 0;
      this.#quiet = this.#round.held;
      this.#quietUntilMs = nextRetryMs;
      return LOOK_MS;
    }
    this.#state = "cleans";
    const { segments, skipped } = this.#dealer.tally;
    const turnMs = isAsked ? Math.max(TURN_ASKED_MS, tookMs / SURVEY_SHARE_ASKED) : Math.max(TURN_MS, tookMs / SURVEY_SHARE);
    const sets = setsOf(chosen, this.#segmentBytes);
    const endMs = this.#nowMs + turnMs;
    const isWanted = () => !this.#signal.aborted && this.#nowMs < endMs && (this.isAsked || (!isAsked && !this.#isOtherAsked()));
    await this.#dealer.deal(sets, { shortage, endMs, isWanted, isHurried: () => this.isAsked }, this.#setAside);
    this.#state = "waits";
    const now = this.#dealer.tally;
    this.#hindered(now.segments + now.skipped === segments + skipped ? this.#dealer.failure : "");
    if (segments === now.segments) return LOOK_MS;
    return isAsked ? 0 : Math.min(LOOK_MS, tookMs / SURVEY_SHARE);
  }

  #newSurveyor(): Surveyor {
    return new Surveyor(this.#options, this.group, (segment) => this.#setAside.isOnlyFull(segment, this.#nowMs));
  }

  /** Another one leads: it finds out by itself. */
  #forget(): void {
    this.#state = "follows";
    this.#quiet = "";
    this.#surveyor = this.#newSurveyor();
    this.#setAside = new SetAside();
  }

  /** What keeps it from getting on; "" where it has got on. */
  #hindered(hindrance: string): void {
    const failedMs = this.#nowMs;
    this.#gotOn = { hindrance, failedMs, atMs: hindrance === "" ? failedMs : this.#gotOn.atMs };
  }

  async #look(held: string): Promise<Survey> {
    if (this.#surveyor.isBetweenRounds) this.#round = { beganMs: this.#nowMs, held };
    const survey = await this.#surveyor.look(this.#signal);
    const { stock, candidates, isWhole } = survey;
    for (const { log, sequence, named } of this.#setAside.check(candidates))
      this.#options.ports.logger("warning", "a segment counts bytes that no file has: it is left alone", { log, sequence, bytes: named });
    this.#stock = stock;
    if (isWhole) this.#setAside.keepOnly(candidates, this.#round.beganMs);
    return survey;
  }

  get #segmentBytes(): number {
    return currentVersion(findGroup(this.#options.map.current, this.group)).dataFragments * this.#options.limits.fragmentBytes;
  }

  async #isFirst(): Promise<boolean> {
    const { map, peers, self } = this.#options;
    for (const member of leadersOf(map.current, this.group)) {
      if (member === self) return true;
      try {
        await peers.call(member, "ping", {}, { deadlineMs: ANSWER_DEADLINE_MS, signal: this.#signal });
        return false;
      } catch (error) {
        if (!isDazzleError(error) || error.code === "cancelled") throw error;
      }
    }
    return false;
  }

  /** The least share of a server's disk that is free for data, and what tells that something changed. */
  async #space(): Promise<{ readonly freeShare: number; readonly held: string }> {
    const { map, peers } = this.#options;
    const { servers } = currentVersion(findGroup(map.current, this.group));
    const asked = servers.map(({ member }) => peers.call(member, "stat", {}, { deadlineMs: ANSWER_DEADLINE_MS, signal: this.#signal }));
    const answers = await Promise.allSettled(asked);
    const told = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value.reply] : []));
    if (told.length === 0) throw new DazzleError("unreachable", "no storage server of the group answers");
    return {
      freeShare: Math.min(...told.map(freeForData)),
      held: told.map(({ store, bytesUsed, fragments }) => `${store} ${bytesUsed} ${fragments}`).join(),
    };
  }

  /** What may be chosen. */
  #left({ candidates }: Survey): StoredSegment[] {
    return candidates.filter((candidate) => !this.#setAside.has(candidate, this.#nowMs) && !this.#setAside.isFull(candidate, this.#nowMs));
  }

  /** What lives in closed logs that are too many. */
  async #ofOldLogs({ closedLogs }: Survey, winning: readonly StoredSegment[]): Promise<StoredSegment[]> {
    const share = winning.length === 0 ? 1 : OLD_LOGS_SHARE;
    const isWanted = (segment: StoredSegment) =>
      !this.#setAside.has(segment, this.#nowMs) &&
      !winning.some(({ log, sequence }) => log === segment.log && sequence === segment.sequence);
    const most = { liveBytes: share * TURN_TARGETS * this.#segmentBytes, segments: share * TURN_SEGMENTS_MAX };
    const living = await this.#surveyor.living(smallestLogs(closedLogs), isWanted, most, this.#signal);
    return living.map((segment) => ({ ...segment, always: true }));
  }

  #chosen(survey: Survey, shortage: number, until: number | null): StoredSegment[] {
    const segmentBytes = this.#segmentBytes;
    const { stock } = survey;
    const best = choose(this.#left(survey), { policy: "adaptive", shortage, count: TURN_SEGMENTS_MAX, segmentBytes }) as StoredSegment[];
    const chosen: StoredSegment[] = [];
    let live = 0;
    let won = stock.emptyBytes;
    for (const candidate of best) {
      if (live >= TURN_TARGETS * segmentBytes || (until !== null && stock.liveBytes >= until * (stock.bytes - won))) break;
      chosen.push(candidate);
      live += candidate.live;
      won += candidate.bytes - candidate.live;
    }
    const least = (1 - shortage) * WIN_SEGMENTS * segmentBytes;
    return won - stock.emptyBytes < least && chosen.length < (1 - shortage) * WIN_MERGED ? [] : chosen;
  }
}

/** What is promised is free until it is stored: who finds that too little is left to be promised says so. */
function freeForData({ bytesForData, bytesTotal }: Reply<"stat">): number {
  return bytesForData / Math.max(1, bytesTotal);
}

export function utilisation({ bytes, liveBytes }: Pick<Stock, "bytes" | "liveBytes">): number {
  return bytes === 0 ? 1 : liveBytes / bytes;
}

/** What was read and written for every byte that is free to be written anew (Rosenblum and Ousterhout 1992, section 3.4): 1 where nothing was cleaned. */
export function writeCost({ bytesRead, bytesWritten, bytesWon }: CleaningTally): number {
  return bytesWon <= 0 ? 1 : (bytesRead + bytesWritten + bytesWon) / bytesWon;
}

function difference(now: CleaningTally, before: CleaningTally): CleaningTally {
  return {
    segments: now.segments - before.segments,
    skipped: now.skipped - before.skipped,
    bytesRead: now.bytesRead - before.bytesRead,
    bytesWritten: now.bytesWritten - before.bytesWritten,
    bytesWon: now.bytesWon - before.bytesWon,
  };
}
