import {
  DazzleError,
  findGroup,
  findLog,
  isDazzleError,
  type ListedFragment,
  type LogId,
  type LogRow,
  type MemberId,
  type Reply,
  type Sequence,
  SUMMARY,
  SUMMARY_RECORD,
} from "@dazzle/core";
import type { ClosedLog } from "./old-logs.ts";
import type { CleanerOptions } from "./options.ts";
import type { Candidate } from "./policy.ts";

const PAGE_SEQUENCES = 1_000;
/** Pages in one look: a group with more takes several, each of which goes on where the one before ended. */
export const LOOK_PAGES = 32;
const DEADLINE_MS = 10_000;
/** Candidates in memory: those in which most is dead. */
const CANDIDATES_MAX = 65_536;
/** Of the histogram: from nothing lives to all does. */
const BINS = 10;
/** In a payload: what is shorter than a block may leave a gap behind it. */
const RECORD_ALIGNMENT = 8;

/** What a group's data segments below their logs' trimmed-to hold, in bytes of their payloads. */
export interface Stock {
  readonly segments: number;
  readonly bytes: number;
  /** With what they take of the summaries. */
  readonly liveBytes: number;
  /** Segments in which nothing lives: they are being deleted. */
  readonly empty: number;
  readonly emptyBytes: number;
  /** Segments by the share of them that lives, in tenths. */
  readonly histogram: readonly number[];
}

export interface StoredSegment extends Candidate {
  readonly groupVersion: number;
  /** Bytes of its payload that some shard names: `live` is more, as each record takes a place in the summary, and begins at a multiple of 8. */
  readonly named: number;
  /** When the look began that found it so. */
  readonly seenMs: number;
  /** Whether it is moved though nothing is won. */
  readonly always?: boolean;
}

/** What is known of a group after a look. */
export interface Survey {
  /** As of the last round, or of this one where it is the first. */
  readonly stock: Stock;
  /** In which something lives and something may be won. */
  readonly candidates: readonly StoredSegment[];
  /** As of the last round, however many candidates there are. */
  readonly closedLogs: readonly ClosedLog[];
  /** Whether a round has ended with this look: everything was looked at since it began. */
  readonly isWhole: boolean;
}

/** Looks through what a group's servers hold and the managers name of it, in rounds: a look takes some pages, so neither what it costs nor what is kept grows with the group. */
export class Surveyor {
  readonly #options: SurveyOptions;
  readonly #group: number;
  readonly #isLeftOut: (segment: StoredSegment) => boolean;
  /** Of the round that is under way, and of the one before. */
  #tally: Tally;
  #before: Omit<Survey, "isWhole"> | null = null;
  /** Everything before it was looked at in this round. */
  #at: Position = START;

  /** Of what `isLeftOut` no candidates are made: they take no room in memory from others. */
  constructor(options: SurveyOptions, group: number, isLeftOut: (segment: StoredSegment) => boolean) {
    this.#options = options;
    this.#group = group;
    this.#isLeftOut = isLeftOut;
    this.#tally = new Tally(isLeftOut);
  }

  /** The next look. Rejects where it can't be told what lives: a manager does not answer, or a slot is on its way. The same is looked at again then. */
  async look(signal: AbortSignal): Promise<Survey> {
    const { map } = this.#options;
    const options = this.#begin(signal);
    for (let pages = 0; pages < LOOK_PAGES; pages++) {
      const { log, after } = this.#at;
      const row = map.current.logs
        .filter(({ id, kind, groups }) => id >= log && kind !== "manager" && groups.some((each) => each === this.#group))
        .sort((one, other) => one.id - other.id)[0];
      if (row === undefined) return this.#endRound();
      const through = await surveyPage(options, row, row.id === log ? after : 0, this.#tally);
      this.#at = through === undefined ? { log: row.id + 1, after: 0 } : { log: row.id, after: through };
    }
    const { stock, candidates, closedLogs } = this.#tally.result;
    const isAhead = ({ log, sequence }: StoredSegment) => log > this.#at.log || (log === this.#at.log && sequence > this.#at.after);
    const left = this.#before?.candidates.filter(isAhead) ?? [];
    const told = this.#before ?? { stock, closedLogs };
    return { stock: told.stock, closedLogs: told.closedLogs, candidates: [...candidates, ...left], isWhole: false };
  }

  /** What lives in these logs, one after the other, and `isWanted`, `most` of it. Takes no more pages than a look. */
  async living(
    logs: readonly LogId[],
    isWanted: (segment: StoredSegment) => boolean,
    most: Most,
    signal: AbortSignal,
  ): Promise<StoredSegment[]> {
    const options = this.#begin(signal);
    const living: StoredSegment[] = [];
    let pages = 0;
    let liveBytes = 0;
    for (const log of logs) {
      const row = findLog(this.#options.map.current, log);
      for (let after: number | undefined = 0; row !== undefined && after !== undefined; ) {
        if (++pages > LOOK_PAGES) return living;
        const tally = new Tally(() => false);
        after = await surveyPage(options, row, after, tally);
        for (const segment of tally.result.candidates.filter(isWanted)) {
          liveBytes += segment.live;
          if (liveBytes > most.liveBytes || living.length >= most.segments) return living;
          living.push(segment);
        }
      }
    }
    return living;
  }

  #begin(signal: AbortSignal): LogSurvey {
    const { versions } = findGroup(this.#options.map.current, this.#group);
    const servers = new Set(versions.flatMap((row) => row.servers.map(({ member }) => member)));
    return { ...this.#options, group: this.#group, signal, servers };
  }

  /** Whether the next look begins a round. */
  get isBetweenRounds(): boolean {
    return this.#at === START;
  }

  #endRound(): Survey {
    const found = this.#tally.result;
    this.#before = found;
    this.#tally = new Tally(this.#isLeftOut);
    this.#at = START;
    return { ...found, isWhole: true };
  }
}

/** How much is listed. */
interface Most {
  readonly liveBytes: number;
  readonly segments: number;
}

interface Position {
  readonly log: number;
  readonly after: number;
}

const START: Position = { log: 0, after: 0 };

type SurveyOptions = Pick<CleanerOptions, "map" | "peers"> & { readonly ports: Pick<CleanerOptions["ports"], "clock"> };

interface LogSurvey extends SurveyOptions {
  readonly group: number;
  readonly signal: AbortSignal;
  /** Those that answer: who is silent once is not asked again. */
  readonly servers: Set<MemberId>;
}

/** Answers up to where the log was looked at; undefined: to its end. */
async function surveyPage(options: LogSurvey, row: LogRow, after: number, tally: Tally): Promise<number | undefined> {
  const seenMs = options.ports.clock.nowMs();
  const [listings, counts] = await Promise.all([listed(options, row.id, after), counted(options, row.id, after)]);
  const trimmedTo = Math.min(row.end ?? Number.MAX_SAFE_INTEGER, Math.max(0, ...[...listings, ...counts].map((page) => page.trimmedTo)));
  const ends = [
    ...listings.flatMap(({ more, fragments }) => (more ? [fragments.at(-1)?.sequence ?? after] : [])),
    ...counts.flatMap(({ more, sequences }) => (more ? [sequences.at(-1) ?? after] : [])),
  ];
  const through = Math.min(trimmedTo, ...ends);
  const live = new Map<number, number>();
  for (const { sequences, bytes } of counts)
    sequences.forEach((sequence, index) => {
      live.set(sequence, (live.get(sequence) ?? 0) + (bytes[index] ?? 0));
    });
  for (const fragment of segmentsOf(listings, options.group, through)) tally.add(fragment, row, live.get(fragment.sequence) ?? 0, seenMs);
  return ends.length === 0 || through >= trimmedTo || through <= after ? undefined : through;
}

/** A fragment for every segment up to `through`: of the newest version it is held under, with the greatest age that a server tells. */
function segmentsOf(listings: readonly Reply<"list">[], group: number, through: number): Iterable<ListedFragment> {
  const segments = new Map<number, ListedFragment>();
  for (const { fragments } of listings)
    for (const fragment of fragments) {
      if (fragment.group !== group || fragment.sequence > through) continue;
      const known = segments.get(fragment.sequence);
      if (known === undefined || known.groupVersion < fragment.groupVersion) segments.set(fragment.sequence, fragment);
      else if (known.groupVersion === fragment.groupVersion && known.bytesSince < fragment.bytesSince)
        segments.set(fragment.sequence, fragment);
    }
  return segments.values();
}

async function listed({ peers, servers, signal }: LogSurvey, log: number, after: number): Promise<Reply<"list">[]> {
  const request = { log, after, limit: PAGE_SEQUENCES };
  const pages = await Promise.all(
    [...servers].map(async (member) => {
      try {
        return (await peers.call(member, "list", request, { deadlineMs: DEADLINE_MS, signal })).reply;
      } catch (error) {
        if (!isDazzleError(error) || error.code === "cancelled") throw error;
        servers.delete(member);
        return undefined;
      }
    }),
  );
  if (servers.size === 0) throw new DazzleError("unreachable", "no storage server of the group answers");
  return pages.filter((page) => page !== undefined);
}

/** What all slots name: a slot that nobody speaks for may name anything, and what one that is on its way names must not count twice. */
async function counted({ map, peers, signal }: LogSurvey, log: number, after: number): Promise<Reply<"liveBytes">[]> {
  const managers = new Set(map.current.slots.flatMap(({ manager }) => (manager === null ? [] : [manager])));
  const request = { log, after, limit: PAGE_SEQUENCES };
  const pages = await Promise.all(
    [...managers].map(async (member) => (await peers.call(member, "liveBytes", request, { deadlineMs: DEADLINE_MS, signal })).reply),
  );
  const slots = pages.flatMap((page) => page.slots);
  const told = new Set(slots);
  if (told.size < slots.length) throw new DazzleError("notReady", "two managers tell what one slot names");
  const silent = map.current.slots.findIndex((_, slot) => !told.has(slot));
  if (silent >= 0) throw new DazzleError("notReady", `nobody tells what slot ${silent} names`);
  return pages;
}

class Tally {
  readonly #isLeftOut: (segment: StoredSegment) => boolean;
  readonly #histogram = new Array<number>(BINS).fill(0);
  readonly #closed = new Map<LogId, number>();
  #candidates: StoredSegment[] = [];
  #segments = 0;
  #bytes = 0;
  #liveBytes = 0;
  #empty = 0;
  #emptyBytes = 0;

  constructor(isLeftOut: (segment: StoredSegment) => boolean) {
    this.#isLeftOut = isLeftOut;
  }

  add(fragment: ListedFragment, row: LogRow, named: number, seenMs: number): void {
    const { sequence, groupVersion, payloadBytes, bytesSince } = fragment;
    const live = liveOf(fragment, named);
    this.#segments++;
    this.#bytes += payloadBytes;
    this.#liveBytes += live;
    const bin = Math.min(BINS - 1, Math.floor((BINS * live) / payloadBytes));
    this.#histogram[bin] = (this.#histogram[bin] ?? 0) + 1;
    if (live === 0) {
      this.#empty++;
      this.#emptyBytes += payloadBytes;
      return;
    }
    if (row.state === "closed") this.#closed.set(row.id, (this.#closed.get(row.id) ?? 0) + live);
    const key = { log: row.id, sequence: sequence as Sequence, groupVersion };
    const segment = { ...key, named, bytes: payloadBytes, live, age: bytesSince, seenMs };
    if (this.#isLeftOut(segment)) return;
    this.#candidates.push(segment);
    if (this.#candidates.length >= 2 * CANDIDATES_MAX) this.#candidates = emptiest(this.#candidates);
  }

  get result(): Omit<Survey, "isWhole"> {
    const candidates = this.#candidates.length > CANDIDATES_MAX ? emptiest(this.#candidates) : this.#candidates;
    const stock = {
      segments: this.#segments,
      bytes: this.#bytes,
      liveBytes: this.#liveBytes,
      empty: this.#empty,
      emptyBytes: this.#emptyBytes,
      histogram: this.#histogram,
    };
    return { stock, candidates, closedLogs: [...this.#closed].map(([log, liveBytes]) => ({ log, liveBytes })) };
  }
}

/** A segment's living records are taken to be as long as its dead ones, on average: so all lives where nothing is dead, however short the records are, and next to nothing where nearly all is dead. */
function liveOf({ payloadBytes, summaryOffset }: ListedFragment, named: number): number {
  const records = Math.max(0, (payloadBytes - summaryOffset - SUMMARY.end) / SUMMARY_RECORD.end);
  const recordBytes = summaryOffset - (RECORD_ALIGNMENT - 1) * records;
  return Math.min(payloadBytes, Math.ceil((named * payloadBytes) / Math.max(1, recordBytes)));
}

function emptiest(candidates: readonly StoredSegment[]): StoredSegment[] {
  return candidates.toSorted((one, other) => one.live / one.bytes - other.live / other.bytes).slice(0, CANDIDATES_MAX);
}
