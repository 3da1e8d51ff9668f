import { type Candidate, choose, oldestFirst, type Policy, shortageOf } from "@dazzle/cleaner";
import { BLOCK_BYTES, logId, sequence } from "@dazzle/core";

/** Blocks of a segment, fewer than a real one has: what counts is the ratio to the disk. */
const SEGMENT_BLOCKS = 64;
const SEGMENTS = 800;
/** Beyond these, segments that only the cleaner's log takes: what storage servers keep back for it. */
const SEGMENTS_KEPT = 24;
/** Segments cleaned in one go, whose survivors are sorted. */
const ROUND = 16;
/** Cleaning begins where so few segments are free for the writer. */
const FREE_MIN = 6;
const ALL = SEGMENTS + SEGMENTS_KEPT;
const NOWHERE = -1;

const WRITER = 1;
const CLEANER = 2;

export interface Cost {
  /** What was moved to and from the disk for each byte that was written, segments read whole, as in Sprite LFS's figures. */
  readonly wholeReads: number;
  /** The same where only what lives is read, as Dazzle does. */
  readonly liveReads: number;
  /** Bytes written for each byte of an update. */
  readonly written: number;
  /** The share of a cleaned segment that lived. */
  readonly cleanedAt: number;
}

/** A disk of a log's segments with files of one block each, which are overwritten one at a time. Segments are chosen and survivors sorted by the shipped functions. */
export class LogModel {
  readonly #policy: Policy;
  /** The place of each file's block: segment * SEGMENT_BLOCKS + index. */
  readonly #places: Int32Array;
  /** The file at each place. */
  readonly #files = new Int32Array(ALL * SEGMENT_BLOCKS).fill(NOWHERE);
  readonly #live = new Int32Array(ALL);
  /** When each segment was stored. */
  readonly #stored = new Float64Array(ALL);
  readonly #sealed = new Uint8Array(ALL);
  readonly #free: number[] = Array.from({ length: ALL }, (_, index) => index);
  /** The open segments of the writer's and of the cleaner's log, and how many blocks of each are used. */
  readonly #open = { [WRITER]: { segment: NOWHERE, used: SEGMENT_BLOCKS }, [CLEANER]: { segment: NOWHERE, used: SEGMENT_BLOCKS } };
  #now = 0;
  #new = 0;
  #moved = 0;
  #cleaned = 0;

  /** Files fill `utilisation` of the disk; `first` is the order in which they are written at first. */
  constructor(policy: Policy, first: readonly number[]) {
    this.#policy = policy;
    this.#places = new Int32Array(first.length).fill(NOWHERE);
    for (const file of first) this.write(file);
  }

  static files(utilisation: number): number {
    return Math.floor(utilisation * SEGMENTS * SEGMENT_BLOCKS);
  }

  write(file: number): void {
    this.#now++;
    this.#new++;
    this.#drop(file);
    this.#put(WRITER, file);
  }

  get #freeForWriter(): number {
    return this.#free.length - SEGMENTS_KEPT;
  }

  /** Counts from here on. */
  begin(): void {
    this.#new = 0;
    this.#moved = 0;
    this.#cleaned = 0;
  }

  cost(): Cost {
    const of = (read: number) => (this.#new + this.#moved + read) / this.#new;
    return {
      wholeReads: of(this.#cleaned * SEGMENT_BLOCKS),
      liveReads: of(this.#moved),
      written: of(0),
      cleanedAt: this.#cleaned === 0 ? 0 : this.#moved / (this.#cleaned * SEGMENT_BLOCKS),
    };
  }

  #drop(file: number): void {
    const place = this.#places[file] as number;
    if (place === NOWHERE) return;
    this.#files[place] = NOWHERE;
    this.#places[file] = NOWHERE;
    const segment = Math.floor(place / SEGMENT_BLOCKS);
    this.#live[segment] = (this.#live[segment] as number) - 1;
    this.#freeIfEmpty(segment);
  }

  #freeIfEmpty(segment: number): void {
    if (this.#live[segment] !== 0 || this.#sealed[segment] !== 1) return;
    this.#sealed[segment] = 0;
    this.#free.push(segment);
  }

  #put(log: typeof WRITER | typeof CLEANER, file: number): void {
    const open = this.#open[log];
    if (open.used === SEGMENT_BLOCKS) {
      if (log === WRITER) while (this.#freeForWriter < FREE_MIN && this.#clean());
      const next = this.#free.pop();
      if (next === undefined) throw new Error("no segment is free");
      this.#open[log] = { segment: next, used: 0 };
      this.#put(log, file);
      return;
    }
    const place = open.segment * SEGMENT_BLOCKS + open.used++;
    this.#files[place] = file;
    this.#places[file] = place;
    this.#live[open.segment] = (this.#live[open.segment] as number) + 1;
    if (open.used < SEGMENT_BLOCKS) return;
    this.#stored[open.segment] = this.#now;
    this.#sealed[open.segment] = 1;
    this.#freeIfEmpty(open.segment);
  }

  /** Cleans one round of segments. False where none is worth it. */
  #clean(): boolean {
    const chosen = choose(this.#candidates(), {
      policy: this.#policy,
      shortage: shortageOf(this.#freeForWriter / SEGMENTS),
      count: ROUND,
      segmentBytes: SEGMENT_BLOCKS * BLOCK_BYTES,
    });
    for (const { sequence } of oldestFirst(chosen)) {
      const segment = sequence - 1;
      this.#cleaned++;
      for (let at = segment * SEGMENT_BLOCKS; at < (segment + 1) * SEGMENT_BLOCKS; at++) {
        const file = this.#files[at] as number;
        if (file === NOWHERE) continue;
        this.#moved++;
        this.#drop(file);
        this.#put(CLEANER, file);
      }
    }
    return chosen.length > 0;
  }

  *#candidates(): Generator<Candidate> {
    for (let segment = 0; segment < ALL; segment++) {
      if (this.#sealed[segment] !== 1) continue;
      yield {
        log: logId(1),
        sequence: sequence(segment + 1),
        bytes: SEGMENT_BLOCKS * BLOCK_BYTES,
        live: (this.#live[segment] as number) * BLOCK_BYTES,
        age: this.#now - (this.#stored[segment] as number),
      };
    }
  }
}
