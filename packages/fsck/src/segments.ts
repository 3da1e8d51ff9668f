import { type ClusterMap, findGroupVersion, findLog, type LogRow, type MemberId, placeOf } from "@dazzle/core";
import { behindPrefix, EntryKind, idKey, keyNumber } from "@dazzle/manager";
import type { Imaps } from "./imaps.ts";
import { slots } from "./names.ts";
import type { Problem, Subject, Suspicion } from "./problems.ts";
import type { HeldFragment, Servers, Told } from "./servers.ts";
import { begin, bySequence, type Sequenced } from "./streams.ts";
import { type Depth, verifyStripe, type WrongFragment } from "./stripes.ts";

const TELL_EVERY = 100;
/** Stripes that are read at once, of up to some MiB each. */
const STRIPES_AT_ONCE: Readonly<Record<Depth, number>> = { headers: 32, data: 4 };

/** What is known of a sequence of a log: a fragment that is held, or why it is needed. */
interface Known extends Sequenced {
  readonly fragment?: HeldFragment;
  readonly neededBy?: string;
}

/** The fragments that are held under one placement, at their places. */
interface Placement {
  readonly first: HeldFragment;
  /** Of its group version: the header of what was carried over names that of an older one. */
  readonly parityFragments: number;
  readonly held: readonly HeldFragment[];
  /** What is not held by servers that answered. */
  readonly missing: readonly WrongFragment[];
}

export interface SegmentCounts {
  segments: number;
  fragments: number;
  bytes: number;
}

export interface LogToCheck {
  readonly log: number;
  /** Up to where it is trimmed, as managers know. */
  readonly trimmedTo: number;
  /** Sequences in which sorted runs lie, ascending. */
  readonly runs: readonly number[];
  /** Only these are of interest. */
  readonly only: ReadonlySet<number> | null;
}

/** Everything that is stored of a log, held against what is needed of it: segments that a shard has live bytes of, that sorted runs lie in, or that are not
 * trimmed. In memory: a page of each server and slot. */
export class SegmentCheck {
  readonly #map: () => ClusterMap;
  readonly #imaps: Imaps;
  readonly #servers: Servers;
  readonly #depth: Depth;
  readonly #onSegments: (segments: number) => void;
  readonly counts: SegmentCounts = { segments: 0, fragments: 0, bytes: 0 };

  constructor(options: {
    map: () => ClusterMap;
    imaps: Imaps;
    servers: Servers;
    depth: Depth;
    /** Called once in a while, with how many were verified. */
    onSegments: (segments: number) => void;
  }) {
    this.#map = options.map;
    this.#imaps = options.imaps;
    this.#servers = options.servers;
    this.#depth = options.depth;
    this.#onSegments = options.onSegments;
  }

  /** Throws `SilentServer`. */
  async *look({ log, trimmedTo, runs, only }: LogToCheck): AsyncGenerator<Suspicion> {
    const told: Told = { stableSequence: 0, trimmedTo };
    const row = findLog(this.#map(), log);
    const streams = await begin([
      ...this.#servers.members.map((member) => this.#held(member, log, told)),
      ...slots().map((slot) => this.#live(slot, log)),
      ofRuns(runs),
    ]);
    // Begun when all servers were asked how far the log is.
    const tail = await begin([untrimmed(row, told)]);
    const isDeletable =
      row === undefined || row.state === "closed" ? () => true : (sequence: number) => row.state === "live" && sequence <= trimmedTo;
    const atOnce = STRIPES_AT_ONCE[this.#depth];
    const verifying: Array<Promise<Suspicion[]>> = [];
    for await (const [sequence, known] of bySequence([...streams, ...tail])) {
      if (only !== null && !only.has(sequence)) continue;
      const fragments = known.flatMap(({ fragment }) => fragment ?? []);
      const neededBy = known.flatMap((one) => one.neededBy ?? []);
      if (neededBy.length > 0) {
        const verified = this.#needed({ log, sequence }, fragments, neededBy);
        // Where it is given up before.
        verified.catch(() => {});
        verifying.push(verified);
      } else if (isDeletable(sequence)) yield this.#stray({ log, sequence }, fragments);
      if (verifying.length >= atOnce) yield* await (verifying.shift() as Promise<Suspicion[]>);
    }
    for (const suspicions of await Promise.all(verifying)) yield* suspicions;
  }

  async *#held(member: MemberId, log: number, told: Told): AsyncGenerator<Known> {
    for await (const fragment of this.#servers.held(member, log, 0, told)) yield { sequence: fragment.sequence, fragment };
  }

  async *#live(slot: number, log: number): AsyncGenerator<Known> {
    const prefix = idKey(EntryKind.live, log);
    for await (const [key] of this.#imaps.entries(slot, prefix, behindPrefix(prefix)))
      yield { sequence: keyNumber(key), neededBy: `files of slot ${slot}` };
  }

  #stray(segment: Subject, fragments: readonly HeldFragment[]): Suspicion {
    const names = [...new Set(fragments.map(({ member }) => this.#servers.nameOf(member)))].sort();
    const seen = `${fragments.length} fragments at ${names.join(", ")}`;
    return { problem: "strayFragments", subject: segment, seen, evidence: evidenceOf(fragments) };
  }

  async #needed(
    segment: { readonly log: number; readonly sequence: number },
    fragments: readonly HeldFragment[],
    neededBy: readonly string[],
  ): Promise<Suspicion[]> {
    const suspicion = (problem: Problem, seen: string, subject: Subject = {}): Suspicion => ({
      problem,
      subject: { ...segment, ...subject },
      seen,
      evidence: `${seen} ${evidenceOf(fragments)}`,
    });
    const what = neededBy.length > 1 ? `${neededBy[0]} and others` : neededBy[0];
    const best = this.#bestOf(fragments);
    // Where some servers don't answer, it may lie at those alone.
    if (best === undefined)
      return this.#servers.silent.size > 0 ? [] : [suspicion("segmentLost", `nothing of it is left, and it is needed by ${what}`)];
    const { dataFragments } = best.first;
    const { parityFragments } = best;
    const { wrong, contradiction, bytes } = await verifyStripe(this.#servers, best.held, parityFragments, this.#depth);
    if (++this.counts.segments % TELL_EVERY === 0) this.#onSegments(this.counts.segments);
    this.counts.fragments += best.held.length;
    this.counts.bytes += bytes;
    const at = ({ member, index }: WrongFragment): Subject => ({ server: this.#servers.nameOf(member), index });
    const found = best.missing.map((missing) => suspicion("fragmentMissing", missing.reason, at(missing)));
    for (const one of wrong) found.push(suspicion("fragmentDamaged", one.reason, at(one)));
    const bad = best.missing.length + wrong.length;
    if (bad > parityFragments)
      found.push(
        suspicion("segmentLost", `${bad} of its ${dataFragments + parityFragments} fragments are gone, and it is needed by ${what}`),
      );
    if (contradiction !== undefined) found.push(suspicion("contradiction", contradiction));
    return found;
  }

  /** Of placements that can be read the one of which the least is missing; of equals the newest. */
  #bestOf(fragments: readonly HeldFragment[]): Placement | undefined {
    const byVersion = new Map<string, HeldFragment[]>();
    for (const fragment of fragments) {
      const key = `${fragment.group} ${fragment.groupVersion}`;
      const same = byVersion.get(key);
      if (same === undefined) byVersion.set(key, [fragment]);
      else same.push(fragment);
    }
    let best: Placement | undefined;
    for (const same of byVersion.values()) {
      const placement = this.#placement(same);
      if (placement === undefined) continue;
      if (best === undefined || isBetter(placement, best)) best = placement;
    }
    return best;
  }

  /** Undefined for a version that the map does not have: nobody knows where its fragments are to be. */
  #placement(fragments: readonly HeldFragment[]): Placement | undefined {
    const first = fragments[0] as HeldFragment;
    const row = findGroupVersion(this.#map(), first.group, first.groupVersion);
    if (row === undefined) return undefined;
    const { parityFragments } = row;
    const held: HeldFragment[] = [];
    const missing: WrongFragment[] = [];
    for (let index = 0; index < first.dataFragments + parityFragments; index++) {
      const member = row.servers[placeOf(first.sequence, index, row.servers.length)]?.member as MemberId;
      const fragment = fragments.find((one) => one.index === index && one.member === member);
      if (fragment !== undefined) held.push(fragment);
      else if (!this.#servers.silent.has(member))
        missing.push({ index, member, reason: `${this.#servers.nameOf(member)} does not have it` });
    }
    return { first, parityFragments, held, missing };
  }
}

function isBetter(one: Placement, other: Placement): boolean {
  const isLost = ({ missing, parityFragments }: Placement) => missing.length > parityFragments;
  if (isLost(one) !== isLost(other)) return isLost(other);
  if (one.missing.length !== other.missing.length) return one.missing.length < other.missing.length;
  return one.first.groupVersion > other.first.groupVersion;
}

function evidenceOf(fragments: readonly HeldFragment[]): string {
  return fragments
    .map(({ member, group, groupVersion, index }) => `${member}:${group}.${groupVersion}.${index}`)
    .sort()
    .join(" ");
}

async function* ofRuns(runs: readonly number[]): AsyncGenerator<Known> {
  for (const sequence of runs) yield { sequence, neededBy: "a manager's sorted runs" };
}

/** What a writer, or who recovers the log, still needs: begun when everybody who knows how far the log is trimmed was asked. */
async function* untrimmed(row: LogRow | undefined, told: Told): AsyncGenerator<Known> {
  if (row === undefined || row.state === "closed") return;
  const to = row.end ?? (row.state === "live" ? told.stableSequence : 0);
  for (let sequence = told.trimmedTo + 1; sequence <= to; sequence++) yield { sequence, neededBy: "who brings its log to the end" };
}
