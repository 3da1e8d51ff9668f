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
import { ReadTimes } from "./read-times.ts";
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
  /** How often they were not asked, as too many were already. */
  hedgesSpared: number;
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
  readonly counters: ReaderCounters = { reads: 0, bytes: 0, reconstructed: 0, damaged: 0, hedged: 0, hedgesSpared: 0, roundTrips: 0 };
  readonly #options: LogOptions;
  readonly #message: "read" | "readToMove";
  /** By fragment: until when its server is not told again that it is damaged. */
  readonly #toldUntilMs = new Map<string, number>();
  /** Until when servers that were slow are asked last. */
  readonly #slowUntilMs = new Map<MemberId, number>();
  readonly #times: ReadTimes;

  /** `message`: what the reads count as at the servers. */
  constructor(options: LogOptions, message: "read" | "readToMove" = "read") {
    this.#options = options;
    this.#message = message;
    this.#times = new ReadTimes(options.limits.readHedgeMs);
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
    const { serverDeadlineMs, requestDeadlineMs } = this.#options.limits;
    // Nobody waits for what is moved.
    const deadlineMs = this.#message === "read" ? serverDeadlineMs : requestDeadlineMs;
    const { clock } = this.#options.ports;
    const askedMs = clock.nowMs();
    this.#times.asked(member, askedMs);
    try {
      const result = await this.#options.peers.call(
        member,
        this.#message,
        request,
        signal === undefined ? { deadlineMs } : { deadlineMs, signal },
      );
      this.#slowUntilMs.delete(member);
      this.#times.answered(member, clock.nowMs() - askedMs);
      return result;
    } catch (error) {
      this.#times.failed(member);
      throw error;
    }
  }

  isSlow(member: MemberId): boolean {
    const nowMs = this.#options.ports.clock.nowMs();
    return nowMs < (this.#slowUntilMs.get(member) ?? 0) || this.#times.isSilent(member, nowMs);
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

  /** The fragment itself first, the others once it failed or was late, whichever answers; of a server known to be slow the
   * others first. */
  #raced(geometry: SegmentGeometry, index: number, offset: number, length: number, signal?: AbortSignal): Promise<readonly Buffer[]> {
    const { member } = serverOf(geometry, index);
    const itself = () => this.#direct(geometry, index, offset, length, signal);
    const others = () => this.others(geometry, index, offset, length, signal);
    const { readHedgeMs } = this.#options.limits;
    if (this.isSlow(member)) return this.#race(others, itself, readHedgeMs, () => 0);
    const { clock } = this.#options.ports;
    const askedMs = clock.nowMs();
    return this.#race(itself, others, this.#times.lateAfterMs(member), () => {
      const leftMs = askedMs + readHedgeMs - clock.nowMs();
      if (leftMs <= 0 && this.#times.isSilent(member, clock.nowMs())) this.wasSlow(member);
      else if (!this.#times.tryHedge()) {
        this.counters.hedgesSpared++;
        return leftMs > 0 ? leftMs : readHedgeMs;
      }
      this.counters.hedged++;
      return 0;
    });
  }

  /** The second once the first has failed, or after `patienceMs` and as much more as `waitsOn` says then. */
  #race(
    first: () => Promise<readonly Buffer[]>,
    second: () => Promise<readonly Buffer[]>,
    patienceMs: number,
    waitsOn: () => number,
  ): Promise<readonly Buffer[]> {
    const { clock } = this.#options.ports;
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
      const late = () => {
        const moreMs = waitsOn();
        if (moreMs > 0) timer = clock.after(moreMs, late);
        else askSecond();
      };
      let timer = clock.after(patienceMs, late);
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
    const { dataFragments } = geometry;
    const { ports, limits } = this.#options;
    const isSlow = (other: number) => Number(this.isSlow(serverOf(geometry, other).member));
    const others = Array.from({ length: widthOf(geometry) }, (_, other) => other)
      .filter((other) => other !== index)
      .sort((one, other) => isSlow(one) - isSlow(other) || one - other);
    if (others.length < dataFragments) throw new RangeFailure([]);
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
