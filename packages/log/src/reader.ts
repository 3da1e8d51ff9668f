import {
  currentVersion,
  DazzleError,
  decodeSummary,
  findGroup,
  findGroupVersion,
  fragmentLength,
  fragmentRanges,
  type GroupVersionRow,
  isDazzleError,
  joined,
  type LogAddress,
  type MemberId,
  placeOf,
  type Reply,
  type SegmentRecord,
  type Stripe,
  totalBytes,
  withDeadline,
} from "@dazzle/core";
import { FragmentReader, failuresOf, type ReaderCounters } from "./fragment-reader.ts";
import { locateSegment } from "./locate.ts";
import type { LogOptions } from "./options.ts";
import { GeometryCache, geometryFrom, placementName, type SegmentGeometry, serverOf } from "./segment-geometry.ts";
import { slicePieces, verifiedBlocks } from "./verified-blocks.ts";

/** Bytes of this process's own segments that are not stable yet, from memory; undefined where it does not hold them. */
export type LocalBytes = (log: number, sequence: number, offset: number, length: number) => Buffer | undefined;

/** What a segment says of itself. */
export interface SegmentSummary {
  readonly records: SegmentRecord[];
  readonly payloadBytes: number;
  /** Where it was found. */
  readonly group: number;
  readonly groupVersion: number;
}

/** As the offset of a `read` request: where the segment's summary begins, which the server knows. */
const SUMMARY = -1;

/** Part of a payload that came with the answer that told the geometry. */
interface PayloadPart {
  readonly offset: number;
  readonly pieces: readonly Buffer[];
}

interface FirstTouch {
  readonly geometry: SegmentGeometry;
  readonly part: PayloadPart | undefined;
}

/** Reads what the map's logs hold, by address. Every byte is verified against the checksums its writer stored. */
export class LogReader {
  readonly #options: LogOptions;
  readonly #local: LocalBytes;
  readonly #fragments: FragmentReader;
  readonly #geometries = new GeometryCache();

  /** `message`: what the reads count as at the servers. */
  constructor(options: LogOptions & { readonly local?: LocalBytes; readonly message?: "read" | "readToMove" }) {
    this.#options = options;
    this.#local = options.local ?? (() => undefined);
    this.#fragments = new FragmentReader(options, options.message);
  }

  get counters(): Readonly<ReaderCounters> {
    return this.#fragments.counters;
  }

  /** The bytes of an address, as pieces in order. They may be views of larger buffers that came from the network, or of a segment
   * buffer of this process (use those before returning to the event loop): copy what is kept. Reconstructed where a server is
   * missing, slow or wrong. Rejects `fragmentMissing` where no server of the log's groups has the segment, `segmentLost` (naming it)
   * where too much of it is damaged or gone, `unreachable` where servers that are silent may still have it. */
  async read(address: LogAddress, signal?: AbortSignal): Promise<readonly Buffer[]> {
    const { log, sequence, offset, length } = address;
    this.#fragments.counters.reads++;
    this.#fragments.counters.bytes += length;
    const local = this.#local(log, sequence, offset, length);
    if (local !== undefined) return [local];
    const geometry = this.#geometries.get(log, sequence);
    return this.#read(address, geometry && { geometry, part: undefined }, signal);
  }

  async #read(address: LogAddress, touched: FirstTouch | undefined, signal?: AbortSignal): Promise<readonly Buffer[]> {
    let touch = touched;
    try {
      touch ??= await this.#firstTouch(address, signal);
      return await this.#range(touch.geometry, address.offset, address.length, touch.part, signal);
    } catch (error) {
      if (isDazzleError(error, "cancelled", "corrupt")) throw error;
      return this.#anywhere(address, touch?.geometry, failuresOf(error), signal);
    }
  }

  /** A segment's records and length, from its summary. Rejects as `read`, and `corrupt`. */
  async summary(log: number, sequence: number, group: number, groupVersion: number): Promise<SegmentSummary> {
    const segment = { log, sequence, group, groupVersion };
    const known = this.#geometries.get(log, sequence);
    const touched = known === undefined ? await this.#touchSummary(segment) : { geometry: known, part: undefined };
    const { summaryOffset, payloadBytes } = touched.geometry;
    const bytes = joined(await this.#read({ ...segment, offset: summaryOffset, length: payloadBytes - summaryOffset }, touched));
    const now = this.#geometries.get(log, sequence);
    const found = now ?? { group, groupVersion };
    return { records: decodeSummary(bytes), payloadBytes, group: found.group, groupVersion: found.groupVersion };
  }

  /** Where in a segment's payload its summary begins. Rejects as `read`. */
  async summaryOffset(address: LogAddress): Promise<number> {
    return (this.#geometries.get(address.log, address.sequence) ?? (await this.#touchSummary(address)).geometry).summaryOffset;
  }

  /** All that one fragment of a segment holds under this version, with its stripe. `known` is the index of one that is held; where the fragment itself is not (`isHeld`), it is
   * computed from the others. Rejects as `read`. */
  async fragment(
    segment: {
      readonly log: number;
      readonly sequence: number;
      readonly group: number;
      readonly groupVersion: number;
      readonly known: number;
    },
    index: number,
    isHeld: boolean,
  ): Promise<{ readonly stripe: Stripe; readonly summaryOffset: number; readonly data: Buffer }> {
    try {
      const geometry = await this.#geometryUnder(segment);
      const { dataFragments, parityFragments, fragmentBytes, payloadBytes, summaryOffset } = geometry;
      const bytes = fragmentLength(geometry, index);
      const pieces = isHeld
        ? await this.#fragments.read(geometry, index, 0, bytes)
        : await this.#fragments.others(geometry, index, 0, bytes);
      return { stripe: { dataFragments, parityFragments, fragmentBytes, payloadBytes }, summaryOffset, data: joined(pieces) };
    } catch (error) {
      throw verdict(segment, failuresOf(error), true);
    }
  }

  async #geometryUnder({
    known,
    ...segment
  }: {
    readonly log: number;
    readonly sequence: number;
    readonly group: number;
    readonly groupVersion: number;
    readonly known: number;
  }): Promise<SegmentGeometry> {
    const { log, sequence, group, groupVersion } = segment;
    const cached = this.#geometries.get(log, sequence);
    if (cached?.group === group && cached.groupVersion === groupVersion) return cached;
    const row = findGroupVersion(this.#options.map.current, group, groupVersion);
    if (row === undefined) throw new DazzleError("fragmentMissing", `the map has no version ${groupVersion} of group ${group}`);
    const { member } = row.servers[placeOf(sequence, known, row.servers.length)] as { member: MemberId };
    const { reply } = await this.#fragments.ask(member, { ...segment, index: known, offset: 0, length: 0 });
    const geometry = geometryFrom(reply, segment, row);
    this.#geometries.set(geometry);
    return geometry;
  }

  async #touchSummary(segment: Omit<LogAddress, "offset" | "length">): Promise<FirstTouch> {
    const address = { ...segment, offset: SUMMARY, length: 0 };
    try {
      return await this.#firstTouch(address);
    } catch (error) {
      const failures = failuresOf(error);
      const { geometries, silent } = await locateSegment(this.#options, this.#fragments, address);
      const found = geometries[0];
      if (found === undefined) throw verdict(address, [...failures, ...silent]);
      this.#geometries.set(found);
      return { geometry: found, part: undefined };
    }
  }

  /** Asks the server that has the range if the segment is full, or the summary if it is not mirrored or short: it answers the geometry, and what it has of the range. */
  async #firstTouch(address: LogAddress, signal?: AbortSignal): Promise<FirstTouch> {
    const { group, groupVersion, offset } = address;
    const { map, limits } = this.#options;
    const isKnown = () => map.current.groups.some((row) => row.id === group && groupVersion <= currentVersion(row).version);
    if (!isKnown()) await map.refresh();
    if (!isKnown()) throw new DazzleError("fragmentMissing", `the map has no version ${groupVersion} of group ${group}`);
    // What was stored under a version that has left the map was written again.
    const row = findGroupVersion(map.current, group, groupVersion) ?? currentVersion(findGroup(map.current, group));
    const last = row.dataFragments - 1;
    if (offset !== SUMMARY) return this.#touch(address, row, Math.min(last, Math.floor(offset / limits.fragmentBytes)), signal);
    return this.#touch(address, row, last, signal).catch((error) => {
      if (last === 0 || !isDazzleError(error, "fragmentMissing")) throw error;
      return this.#touch(address, row, 0, signal);
    });
  }

  async #touch(address: LogAddress, row: GroupVersionRow, index: number, signal: AbortSignal | undefined): Promise<FirstTouch> {
    const { log, sequence, group, offset, length } = address;
    const { limits, ports } = this.#options;
    const { member } = row.servers[placeOf(sequence, index, row.servers.length)] as { member: MemberId };
    if (this.#fragments.isSlow(member)) throw new DazzleError("timedOut", "a slow server is asked last");
    const asked = this.#fragments.ask(member, { log, sequence, group, groupVersion: row.version, index: -1, offset, length }, signal);
    const { reply, tail } = await withDeadline(ports.clock, limits.readHedgeMs, "a first read", asked).catch((error) => {
      if (isDazzleError(error, "timedOut")) this.#fragments.wasSlow(member);
      throw error;
    });
    const geometry = geometryFrom(reply, address, row);
    this.#geometries.set(geometry);
    const { summaryOffset, payloadBytes } = geometry;
    const wanted = offset === SUMMARY ? { offset: summaryOffset, length: payloadBytes - summaryOffset } : { offset, length };
    return { geometry, part: this.#partOf(geometry, reply, tail, wanted) };
  }

  /** What of the range came with a first answer; nothing where it is not what its checksums say: it is read again then. */
  #partOf(
    geometry: SegmentGeometry,
    reply: Reply<"read">,
    tail: readonly Uint8Array[],
    { offset, length }: { readonly offset: number; readonly length: number },
  ): PayloadPart {
    const blocks = verifiedBlocks(tail, reply.length, geometry.checksumSeed);
    if (blocks === undefined) {
      this.#fragments.damaged(geometry, reply.index, serverOf(geometry, reply.index).member, "a first answer doesn't match its checksums");
      return { offset, pieces: [] };
    }
    const start = reply.offset + (geometry.dataFragments === 1 ? 0 : reply.index * geometry.fragmentBytes);
    const from = Math.max(offset, start);
    const to = Math.min(offset + length, start + reply.length);
    return from < to ? { offset: from, pieces: slicePieces(blocks, from - start, to - from) } : { offset, pieces: [] };
  }

  #range(
    geometry: SegmentGeometry,
    offset: number,
    length: number,
    part: PayloadPart | undefined,
    signal: AbortSignal | undefined,
  ): Promise<readonly Buffer[]> | readonly Buffer[] {
    if (offset + length > geometry.payloadBytes)
      throw new DazzleError("corrupt", `log ${geometry.log} segment ${geometry.sequence} has no bytes ${offset} + ${length}`);
    const partBytes = part === undefined ? 0 : totalBytes(part.pieces);
    if (part === undefined || partBytes === 0) return this.#stored(geometry, offset, length, signal);
    if (partBytes === length) return part.pieces;
    const end = part.offset + partBytes;
    return Promise.all([
      this.#stored(geometry, offset, part.offset - offset, signal),
      part.pieces,
      this.#stored(geometry, end, offset + length - end, signal),
    ]).then((ranges) => ranges.flat());
  }

  #stored(geometry: SegmentGeometry, offset: number, length: number, signal: AbortSignal | undefined): Promise<readonly Buffer[]> {
    if (length === 0) return Promise.resolve([]);
    const ranges = fragmentRanges(geometry, offset, length);
    const only = ranges[0];
    if (ranges.length === 1 && only !== undefined) return this.#fragments.read(geometry, only.index, only.offset, only.length, signal);
    const reads = ranges.map((range) => this.#fragments.read(geometry, range.index, range.offset, range.length, signal));
    return Promise.all(reads).then((pieces) => pieces.flat());
  }

  /** Reads under whichever version a server of the log's groups has the segment, but for the one that was tried. */
  async #anywhere(
    address: LogAddress,
    tried: SegmentGeometry | undefined,
    before: readonly DazzleError[],
    signal: AbortSignal | undefined,
  ): Promise<readonly Buffer[]> {
    this.#geometries.delete(address.log, address.sequence);
    const failures = [...before];
    const known = new Set(tried === undefined ? [] : [placementName(tried)]);
    let exists = false;
    for (let isThorough = false; ; ) {
      const { geometries, isThere, silent } = await locateSegment(
        this.#options,
        this.#fragments,
        address,
        signal,
        isThorough ? known : undefined,
      );
      exists ||= geometries.length > 0;
      const others = geometries.filter((geometry) => !known.has(placementName(geometry)));
      let wasMoved = false;
      for (const geometry of others) {
        known.add(placementName(geometry));
        try {
          const pieces = await this.#range(geometry, address.offset, address.length, undefined, signal);
          this.#geometries.set(geometry);
          return pieces;
        } catch (error) {
          if (isDazzleError(error, "cancelled", "corrupt")) throw error;
          const reasons = failuresOf(error);
          failures.push(...reasons);
          wasMoved ||= reasons.some(({ code }) => code === "fragmentMissing");
        }
      }
      // What was there a moment ago may lie under a newer version now, or be deleted.
      if (wasMoved) {
        exists = false;
        isThorough = false;
        continue;
      }
      failures.push(...silent);
      if (isThorough || !isThere) throw verdict(address, failures, exists);
      // An older version may be whole where a newer one was begun.
      isThorough = true;
    }
  }
}

/** Silence decides nothing; damage is a loss; a segment that nobody has is missing. */
export function verdict(address: Pick<LogAddress, "log" | "sequence">, failures: readonly DazzleError[], exists = false): DazzleError {
  const name = `log ${address.log} segment ${address.sequence}`;
  const reasons = [...new Set(failures.map(({ message }) => message))].join("; ");
  const silent = failures.some(({ code }) => !isAnswer(code));
  if (silent) return new DazzleError("unreachable", `${name}: ${reasons}`);
  if (exists || failures.some(({ code }) => code !== "fragmentMissing")) return new DazzleError("segmentLost", `${name}: ${reasons}`);
  return new DazzleError("fragmentMissing", `${name}: no server has it`);
}

/** Whether a failure says what a server has, rather than that it did not say. */
function isAnswer(code: DazzleError["code"]): boolean {
  return code === "fragmentMissing" || code === "fragmentDamaged" || code === "corrupt";
}
