import type { LogId, Sequence } from "@dazzle/core";

/** A segment below its log's trimmed-to, as a policy sees it. */
export interface Candidate {
  readonly log: LogId;
  readonly sequence: Sequence;
  /** Bytes of its payload. */
  readonly bytes: number;
  /** What writing again what lives of it takes. */
  readonly live: number;
  /** Since it was stored; the unit is the same for all candidates, and does not matter. */
  readonly age: number;
}

/** `greedy` takes what frees most for the bytes moved. `costBenefit` is Sprite LFS's, (1-u) age / (1+u): what is freed in an old segment is worth more, since the rest of it will
 * live on. `adaptive` weighs age by not much more than its root, and takes fuller segments the less space there is (after Matthews et al. 1997, who let costs and benefits decide anew as a disk
 * fills; the second mechanism they choose from, writing into the holes of segments, is none here, where a segment is never changed). Age counts as much where space is short:
 * else what is hot is moved just before it dies, and there is ever less space. */
export type Policy = "greedy" | "costBenefit" | "adaptive";

export interface Choice {
  readonly policy: Policy;
  /** See `shortageOf`. */
  readonly shortage: number;
  /** How many segments at most. */
  readonly count: number;
  /** Payload bytes of a full segment, into which survivors are written. */
  readonly segmentBytes: number;
}

/** A segment costs as much time and memory as this share of a full one's bytes, however small it is: fragments stored and synced at each server, a row in each
 * index, a count at the shards. So it pays to merge small ones though all in them lives. */
const SEGMENT_COST = 1 / 16;

/** A segment of which more would be left is not worth moving: with space to spare, and from half of the way to none on. Not much less, since in cold data a little
 * space is freed at a high price, but for long. */
const UTILISATION_MAX = { roomy: 0.5, short: 0.95 } as const;

/** The shares of a disk that are free for data, between which shortage goes from 0 to 1. Cleaning late is cheap: segments empty themselves meanwhile. */
const FREE = { roomy: 0.02, short: 0.005 } as const;

/** The exponent of age. */
const AGE_WEIGHT = { greedy: 0, costBenefit: 1, adaptive: 0.6 } as const;

/** 0 where there is space to spare, up to 1 where it is all but gone. `freeShare` of a disk is free for data. */
export function shortageOf(freeShare: number): number {
  return Math.min(1, Math.max(0, (FREE.roomy - freeShare) / (FREE.roomy - FREE.short)));
}

/** Segments whose live bytes should move next, best first: none if writing them again would win nothing. Takes O(n log count). Empty segments are
 * not among them: they are deleted unread, by whoever deletes. */
export function choose(candidates: Iterable<Candidate>, choice: Choice): Candidate[] {
  const { policy, shortage, count, segmentBytes } = choice;
  const utilisationMax = Math.min(
    UTILISATION_MAX.short,
    UTILISATION_MAX.roomy + 2 * shortage * (UTILISATION_MAX.short - UTILISATION_MAX.roomy),
  );
  let best: { candidate: Candidate; score: number }[] = [];
  let floor = 0;
  const keepBest = () => {
    best = best.sort((one, other) => other.score - one.score).slice(0, count);
  };
  for (const candidate of candidates) {
    const utilisation = utilisationOf(candidate, segmentBytes);
    if (candidate.live === 0 || utilisation > utilisationMax) continue;
    const score = ((1 - utilisation) / (1 + utilisation)) * (candidate.age + 1) ** AGE_WEIGHT[policy];
    if (score <= floor) continue;
    best.push({ candidate, score });
    if (best.length < 2 * count) continue;
    keepBest();
    floor = best.at(-1)?.score ?? 0;
  }
  keepBest();
  const chosen = best.map(({ candidate }) => candidate);
  return isWorthMoving(chosen, segmentBytes) ? chosen : [];
}

type Held = Pick<Candidate, "bytes" | "live">;

/** With what a segment costs. */
function utilisationOf({ bytes, live }: Held, segmentBytes: number): number {
  return (live * (1 + SEGMENT_COST)) / (bytes + segmentBytes * SEGMENT_COST);
}

/** Whether so much of a segment lives that it is not worth moving, however short space is. */
export function isFull(segment: Held, segmentBytes: number): boolean {
  return utilisationOf(segment, segmentBytes) > UTILISATION_MAX.short;
}

/** Whether writing again what lives in segments, together, takes less than they do. */
export function isWorthMoving(segments: readonly Held[], segmentBytes: number): boolean {
  const cost = segmentBytes * SEGMENT_COST;
  const moved = segments.reduce((sum, { live }) => sum + live, 0);
  const held = segments.reduce((sum, { bytes }) => sum + bytes + cost, 0);
  return moved + Math.ceil(moved / segmentBytes) * cost < held;
}

/** The order in which survivors are written: what is alike in age lies together, and lives on or dies together. */
export function oldestFirst<T extends Pick<Candidate, "age">>(survivors: readonly T[]): T[] {
  return survivors.toSorted((one, other) => other.age - one.age);
}
