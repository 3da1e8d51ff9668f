import {
  addMultiple,
  DazzleError,
  fragmentLength,
  isDazzleError,
  type MemberId,
  type Reply,
  type Request,
  reconstruction,
} from "@dazzle/core";
import { askEnough } from "./enough.ts";
import { memberName } from "./listing.ts";
import type { LogOptions } from "./options.ts";
import { type SegmentGeometry, serverOf, widthOf } from "./segment-geometry.ts";
import { slicePieces, verifiedBlocks } from "./verified-blocks.ts";

/** Damaged fragments of which the servers were told lately, and for how long that is remembered. */
const TOLD_MAX = 1_024;
const TELL_AGAIN_MS = 60_000;

/** Counted since the reader was made. */
export interface ReaderCounters {
  /** Reads asked of this reader, and the bytes answered. */
  reads: number;
  bytes: number;
  /** Ranges of a fragment computed from the others, or taken from another copy. */
  reconstructed: number;
  /** Answers whose blocks did not match their checksums. */
  damaged: number;
  /** Ranges for which the other fragments were asked because a server was slow. */
  hedged: number;
  /** Requests to servers. */
  roundTrips: number;
}

/** A range could not be had under one group version: why each of its fragments failed. */
export class RangeFailure extends Error {
  readonly failures: readonly DazzleError[];

  constructor(failures: readonly DazzleError[]) {
    super(failures.map((failure) => failure.message).join("; "));
    this.failures = failures;
  }

  /** Nothing of the segment is there under this version. */
  get isMissing(): boolean {
    return this.failures.every(({ code }) => code === "fragmentMissing");
  }
}

/** Reads ranges of one fragment, verified: from its server, or from the others where that one is missing, slow or wrong. */
export class FragmentReader {
  readonly counters: ReaderCounters = { reads: 0, bytes: 0, reconstructed: 0, damaged: 0, hedged: 0, roundTrips: 0 };
  readonly #options: LogOptions;
  /** By fragment: until when its server is not told again that it is damaged. */
  readonly #toldUntilMs = new Map<string, number>();
  /** Until when servers that were slow are asked last. */
  readonly #slowUntilMs = new Map<MemberId, number>();

  constructor(options: LogOptions) {
    this.#options = options;
  }

  /** Bytes `offset … offset + length` of a fragment, exactly. Rejects a `RangeFailure`
   * or its only failure; `cancelled` alone. */
  read(geometry: SegmentGeometry, index: number, offset: number, length: number, signal?: AbortSignal): Promise<readonly Buffer[]> {
    if (geometry.parityFragments === 0) return this.#direct(geometry, index, offset, length, signal);
    return this.#raced(geometry, index, offset, length, signal);
  }

  /** One `read` request, its answer not verified. A member that serves no store any more has lost what it had. */
  async ask(
    member: MemberId,
    request: Request<"read">,
    signal?: AbortSignal,
  ): Promise<{ readonly reply: Reply<"read">; readonly tail: readonly Uint8Array[] }> {
    const { members } = this.#options.map.current;
    const row = members.find(({ id }) => id === member);
    if (row === undefined || row.store === null)
      throw new DazzleError("fragmentMissing", `the store of ${row?.name ?? `member ${member}`} is gone`);
    this.counters.roundTrips++;
    const deadlineMs = this.#options.limits.serverDeadlineMs;
    const result = await this.#options.peers.call(member, "read", request, signal === undefined ? { deadlineMs } : { deadlineMs, signal });
    this.#slowUntilMs.delete(member);
    return result;
  }

  isSlow(member: MemberId): boolean {
    const untilMs = this.#slowUntilMs.get(member);
    return untilMs !== undefined && this.#options.ports.clock.nowMs() < untilMs;
  }

  /** It did not answer in `readHedgeMs`. */
  wasSlow(member: MemberId): void {
    this.#slowUntilMs.set(member, this.#options.ports.clock.nowMs() + this.#options.limits.serverSuspectMs);
  }

  /** Says who sent what does not match its checksums. */
  damaged(geometry: SegmentGeometry, index: number, member: MemberId, what: string): DazzleError {
    this.counters.damaged++;
    this.#tell(geometry, index, member);
    const server = memberName(this.#options, member);
    this.#options.ports.logger("error", "a fragment is damaged", {
      log: geometry.log,
      sequence: geometry.sequence,
      index,
      server,
      reason: what,
    });
    return new DazzleError("fragmentDamaged", `log ${geometry.log} segment ${geometry.sequence} fragment ${index} at ${server}: ${what}`);
  }

  /** So that the server looks at what it has, and repairs it. What it never hears of it finds itself, some day. */
  #tell({ log, sequence, group, groupVersion }: SegmentGeometry, index: number, member: MemberId): void {
    const { peers, limits, ports } = this.#options;
    const name = `${log} ${sequence} ${group} ${groupVersion} ${index}`;
    const nowMs = ports.clock.nowMs();
    if (nowMs < (this.#toldUntilMs.get(name) ?? 0)) return;
    if (this.#toldUntilMs.size >= TOLD_MAX) this.#toldUntilMs.clear();
    this.#toldUntilMs.set(name, nowMs + TELL_AGAIN_MS);
    const request = { log, sequence, group, groupVersion, index };
    peers.call(member, "verifyFragment", request, { deadlineMs: limits.requestDeadlineMs }).catch(() => {});
  }

  /** The fragment itself first, the others once it failed or was slow, whichever answers; of a server known to be slow the
   * others first. */
  #raced(geometry: SegmentGeometry, index: number, offset: number, length: number, signal?: AbortSignal): Promise<readonly Buffer[]> {
    const { member } = serverOf(geometry, index);
    const itself = () => this.#direct(geometry, index, offset, length, signal);
    const others = () => this.others(geometry, index, offset, length, signal);
    if (this.isSlow(member)) return this.#race(others, itself, () => {});
    return this.#race(itself, others, () => {
      this.counters.hedged++;
      this.wasSlow(member);
    });
  }

  #race(first: () => Promise<readonly Buffer[]>, second: () => Promise<readonly Buffer[]>, slow: () => void): Promise<readonly Buffer[]> {
    return new Promise((resolve, reject) => {
      const failures: DazzleError[] = [];
      let underWay = 1;
      let secondAsked = false;
      const askSecond = () => {
        if (secondAsked) return;
        secondAsked = true;
        underWay++;
        second().then(resolve, failed);
      };
      const failed = (error: unknown) => {
        failures.push(...failuresOf(error));
        const cancelled = failures.find(({ code }) => code === "cancelled");
        if (cancelled === undefined) askSecond();
        if (--underWay === 0) reject(cancelled ?? new RangeFailure(failures));
      };
      const timer = this.#options.ports.clock.after(this.#options.limits.readHedgeMs, () => {
        slow();
        askSecond();
      });
      first().then(
        (pieces) => {
          timer.cancel();
          resolve(pieces);
        },
        (error) => {
          timer.cancel();
          failed(error);
        },
      );
    });
  }

  async #direct(
    geometry: SegmentGeometry,
    index: number,
    offset: number,
    length: number,
    signal?: AbortSignal,
  ): Promise<readonly Buffer[]> {
    const { log, sequence, group, groupVersion } = geometry;
    const { member } = serverOf(geometry, index);
    try {
      const { reply, tail } = await this.ask(member, { log, sequence, group, groupVersion, index, offset, length }, signal);
      const skip = offset - reply.offset;
      if (reply.index !== index || reply.groupVersion !== groupVersion || skip < 0 || skip + length > reply.length)
        throw this.damaged(geometry, index, member, `bytes ${reply.offset} + ${reply.length} are not what was asked`);
      const blocks = verifiedBlocks(tail, reply.length, geometry.checksumSeed);
      if (blocks === undefined)
        throw this.damaged(geometry, index, member, `bytes ${reply.offset} + ${reply.length} don't match their checksums`);
      return skip === 0 && length === reply.length ? blocks : slicePieces(blocks, skip, length);
    } catch (error) {
      if (isDazzleError(error)) throw error;
      throw new DazzleError("inputOutput", (error as Error).message);
    }
  }

  /** As `read`, from anything but that fragment: from as many of the others as there are slices, which are asked first where their servers are not slow, and that need
   * the least to be computed. */
  async others(geometry: SegmentGeometry, index: number, offset: number, length: number, signal?: AbortSignal): Promise<readonly Buffer[]> {
    const { dataFragments, parityFragments } = geometry;
    if (parityFragments === 0) throw new RangeFailure([]);
    const { ports, limits } = this.#options;
    const isSlow = (other: number) => Number(this.isSlow(serverOf(geometry, other).member));
    const others = Array.from({ length: widthOf(geometry) }, (_, other) => other)
      .filter((other) => other !== index)
      .sort((one, other) => isSlow(one) - isSlow(other) || one - other);
    const ranges = new Map<number, readonly Buffer[]>();
    const failures = await askEnough({
      count: dataFragments,
      of: others,
      ask: async (other) => {
        // Past a short fragment's end it counts as zeros.
        const bytes = Math.min(length, fragmentLength(geometry, other) - offset);
        ranges.set(other, bytes > 0 ? await this.#direct(geometry, other, offset, bytes, signal) : []);
      },
      slow: (other) => {
        this.counters.hedged++;
        this.wasSlow(serverOf(geometry, other).member);
      },
      clock: ports.clock,
      patienceMs: limits.readHedgeMs,
    });
    if (ranges.size < dataFragments) throw new RangeFailure(failures.flatMap(failuresOf));
    this.counters.reconstructed++;
    const [only] = ranges.values();
    // A copy.
    if (dataFragments === 1 && only !== undefined) return only;
    const target = Buffer.alloc(length);
    const terms = reconstruction(dataFragments, index, [...ranges.keys()].slice(0, dataFragments));
    for (const term of terms) addPieces(target, ranges.get(term.index) as readonly Buffer[], term.factor);
    return [target];
  }
}

function addPieces(target: Buffer, pieces: readonly Buffer[], factor: number): void {
  let at = 0;
  for (const piece of pieces) {
    addMultiple(target.subarray(at), piece, factor);
    at += piece.length;
  }
}

/** The failures that an error of this module stands for. Anything else is a fault of the program and is thrown on. */
export function failuresOf(error: unknown): readonly DazzleError[] {
  if (error instanceof RangeFailure) return error.failures;
  if (isDazzleError(error)) return [error];
  throw error;
}
