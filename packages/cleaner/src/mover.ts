import {
  BLOCK_BYTES,
  DazzleError,
  isDazzleError,
  joined,
  type Logger,
  type Piece,
  RecordKind,
  roundUp,
  slotOf,
  someAtOnce,
  summaryBytes,
} from "@dazzle/core";
import type { LogReader } from "@dazzle/log";
import type { CleanerLog } from "./cleaner-log.ts";
import { isFull, isWorthMoving } from "./policy.ts";
import type { SlotManagers } from "./slot-managers.ts";

/** What lies between two live runs is read along where it is shorter: another request costs more. */
const GAP_BYTES = 32 * 1024;
const RUN_BYTES_MAX = 1024 * 1024;
/** Segments of which is asked what lives in them at once, and runs that are read at once. */
const ASKED_AT_ONCE = 8;
const READ_AT_ONCE = 4;

export interface SegmentName {
  readonly log: number;
  readonly sequence: number;
  /** A hint. */
  readonly groupVersion: number;
  /** Whether it is moved though nothing is won. */
  readonly always: boolean;
}

/** What the mover uses of its surroundings. */
export interface MoverOptions {
  readonly group: number;
  readonly reader: Pick<LogReader, "summary" | "read">;
  readonly managers: Pick<SlotManagers, "stillAt">;
  readonly log: Pick<CleanerLog, "put" | "settle" | "segmentBytes" | "bytesWritten">;
  readonly logger: Logger;
  readonly signal: AbortSignal;
}

export interface Moved {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly skipped: readonly SkippedSegment[];
  /** Those that were left as they are, as moving what lives in them would win nothing. */
  readonly full: readonly SegmentName[];
}

/** One that is left as it is: something of it could not be had. */
export interface SkippedSegment extends SegmentName {
  /** Whether trying again can help. */
  readonly retry: boolean;
}

/** A piece that lives, with its bytes. */
interface Survivor {
  readonly segment: SegmentName;
  readonly piece: Piece;
  readonly bytes: Buffer;
}

/** Pieces that live, not read yet. */
interface Found {
  readonly segment: SegmentName;
  readonly pieces: readonly Piece[];
  /** Of the segment's payload. */
  readonly bytes: number;
  /** What the pieces take where they are written. */
  readonly live: number;
}

/** Moves what lives in segments of a group into the cleaner's own log. */
export class Mover {
  readonly #options: MoverOptions;
  readonly #skipped: SkippedSegment[] = [];
  readonly #full: SegmentName[] = [];
  #bytesRead = 0;

  constructor(options: MoverOptions) {
    this.#options = options;
  }

  /** Resolves when nothing lives in the segments any more but in those that were skipped or are full. Survivors are written in the order of `segments`, by file within
   * about as much as one target holds. Rejects where the log is given up, and `cancelled`. */
  async move(segments: readonly SegmentName[]): Promise<Moved> {
    const { log } = this.#options;
    const writtenBefore = log.bytesWritten;
    let batch: Found[] = [];
    let batchBytes = 0;
    for (let at = 0; at < segments.length; at += ASKED_AT_ONCE)
      for (const found of await someAtOnce(ASKED_AT_ONCE, segments.slice(at, at + ASKED_AT_ONCE), (segment) => this.#find(segment))) {
        batch.push(found);
        batchBytes += found.pieces.reduce((sum, { length }) => sum + length, 0);
        if (batchBytes < log.segmentBytes) continue;
        await this.#copy(this.#worthMoving(batch));
        batch = [];
        batchBytes = 0;
      }
    await this.#copy(this.#worthMoving(batch));
    await log.settle();
    return { bytesRead: this.#bytesRead, bytesWritten: log.bytesWritten - writtenBefore, skipped: this.#skipped, full: this.#full };
  }

  /** What lives in a segment. */
  async #find(segment: SegmentName): Promise<Found> {
    const { group, reader, managers, signal } = this.#options;
    const found = await this.#orSkipped(segment, async () => {
      const { records, payloadBytes: bytes } = await reader.summary(segment.log, segment.sequence, group, segment.groupVersion);
      const blocks = records.filter(({ kind }) => kind === RecordKind.block);
      const named = blocks.map(({ owner, position, offset, length }) => ({ ino: owner, block: position / BLOCK_BYTES, offset, length }));
      const pieces = await managers.stillAt(segment.log, segment.sequence, named, signal);
      return { segment, pieces, bytes, live: spaceOf(pieces) };
    });
    return found ?? { segment, pieces: [], bytes: 0, live: 0 };
  }

  /** What a leader counts is less than what is taken: of the gaps before whole blocks, which files of odd lengths leave, it knows nothing. */
  #worthMoving(batch: readonly Found[]): Found[] {
    const { segmentBytes } = this.#options.log;
    const holed = batch.filter((found) => !found.segment.always && !isFull(found, segmentBytes));
    const won = isWorthMoving(holed, segmentBytes) ? holed : [];
    const moved = batch.filter((found) => found.segment.always || found.live === 0 || won.includes(found));
    for (const found of batch) if (!moved.includes(found)) this.#full.push(found.segment);
    return moved;
  }

  async #copy(batch: readonly Found[]): Promise<void> {
    const survivors: Survivor[] = [];
    // One segment after the other is in memory whole before any of it is written: of one that is damaged nothing is.
    for (const { segment, pieces } of batch) survivors.push(...((await this.#orSkipped(segment, () => this.#read(segment, pieces))) ?? []));
    survivors.sort(({ piece: one }, { piece: other }) => inOrder(one, other));
    const { log, signal } = this.#options;
    for (const { segment, piece, bytes } of survivors) {
      if (signal.aborted) throw new DazzleError("cancelled", "nobody waits for what is moved");
      await log.put(segment, piece, bytes);
    }
  }

  async #read(segment: SegmentName, pieces: readonly Piece[]): Promise<Survivor[]> {
    const { group, reader, signal } = this.#options;
    const { log, sequence, groupVersion } = segment;
    const read = await someAtOnce(READ_AT_ONCE, runsOf(pieces), async (run) => {
      const address = { log, sequence, offset: run.offset, length: run.length, group, groupVersion };
      const bytes = joined(await reader.read(address, signal));
      this.#bytesRead += run.length;
      return run.pieces.map((piece): Survivor => {
        const from = piece.offset - run.offset;
        return { segment, piece, bytes: bytes.subarray(from, from + piece.length) };
      });
    });
    return read.flat();
  }

  /** Undefined where what a segment holds can't be had: whoever repairs finds it as it was. One that is not there any more was emptied meanwhile, and deleted. */
  async #orSkipped<T>(segment: SegmentName, action: () => Promise<T>): Promise<T | undefined> {
    try {
      return await action();
    } catch (error) {
      if (!isDazzleError(error) || error.code === "cancelled") throw error;
      if (error.code === "fragmentMissing") return undefined;
      const retry = error.retry !== "never";
      this.#skipped.push({ ...segment, retry });
      const { log, sequence } = segment;
      const { logger } = this.#options;
      if (retry) logger("info", "a segment is cleaned later", { log, sequence, reason: error.message });
      else logger("warning", "a segment is left uncleaned", { log, sequence, reason: error.message });
      return undefined;
    }
  }
}

/** The order in which survivors are written. */
function inOrder(one: Piece, other: Piece): number {
  return slotOf(one.ino) - slotOf(other.ino) || one.ino - other.ino || one.block - other.block;
}

/** Bytes of a payload that pieces take, with their summary. */
function spaceOf(pieces: readonly Piece[]): number {
  let end = 0;
  for (const { length } of pieces.toSorted(inOrder)) end = roundUp(end, length >= BLOCK_BYTES ? BLOCK_BYTES : 8) + length;
  return pieces.length === 0 ? 0 : end + summaryBytes(pieces.length);
}

interface Run {
  readonly offset: number;
  readonly length: number;
  readonly pieces: readonly Piece[];
}

/** Pieces that are read together, by offset. */
export function runsOf(pieces: readonly Piece[]): Run[] {
  const runs: { offset: number; length: number; pieces: Piece[] }[] = [];
  for (const piece of pieces.toSorted((one, other) => one.offset - other.offset)) {
    const run = runs.at(-1);
    const end = piece.offset + piece.length;
    if (run !== undefined && piece.offset - (run.offset + run.length) <= GAP_BYTES && end - run.offset <= RUN_BYTES_MAX) {
      run.length = Math.max(run.length, end - run.offset);
      run.pieces.push(piece);
    } else {
      runs.push({ offset: piece.offset, length: piece.length, pieces: [piece] });
    }
  }
  return runs;
}
