import {
  BLOCK_BYTES,
  type Clock,
  DazzleError,
  decodeFragmentHeader,
  FRAGMENT_HEADER,
  type FragmentKey,
  isDazzleError,
  type Reply,
  type Request,
} from "@dazzle/core";
import { ChecksumCache } from "./checksum-cache.ts";
import type { Damages } from "./damages.ts";
import { type Entry, fragmentMissing, isHeaderOf, nameOf, sameKey, samePlace } from "./entry.ts";
import type { FragmentIndex } from "./fragment-index.ts";
import type { Pending } from "./pending.ts";
import { bestFor, rangeOf } from "./read-range.ts";
import { RECORD_HEADER } from "./record-header.ts";
import { readSteadily } from "./steady-read.ts";
import type { Volumes } from "./volumes.ts";

const NO_TAIL: readonly Uint8Array[] = [];

export interface ReadAnswer {
  readonly reply: Reply<"read">;
  readonly tail: readonly Uint8Array[];
}

interface ReaderParts {
  readonly volumes: Volumes;
  readonly index: FragmentIndex;
  readonly pending: Pending;
  readonly clock: Clock;
  readonly damages: Damages;
}

/** Answers reads. The server verifies a fragment's header, once, because the block checksums it sends stand in it; the blocks it
 * does not: the reader verifies them after the network and must, so that a second pass here would only cost. */
export class FragmentReader {
  readonly #parts: ReaderParts;
  readonly #cache = new ChecksumCache();

  constructor(parts: ReaderParts) {
    this.#parts = parts;
  }

  forget(key: FragmentKey): void {
    this.#cache.forget(key);
  }

  forgetAll(): void {
    this.#cache.clear();
  }

  async read(request: Request<"read">): Promise<ReadAnswer> {
    const entry = this.#find(request);
    if (entry === undefined) throw fragmentMissing(request);
    try {
      return await this.#answer(entry, request);
    } catch (error) {
      const now = this.#held(entry);
      if (now === undefined || samePlace(now, entry)) throw error;
      // It was repaired meanwhile.
      return this.#answer(now, request);
    }
  }

  async #answer(entry: Entry, request: Request<"read">): Promise<ReadAnswer> {
    const { offset, length } = rangeOf(entry, request);
    const reply: Reply<"read"> = {
      index: entry.index,
      offset,
      length,
      groupVersion: entry.groupVersion,
      dataFragments: entry.dataFragments,
      parityFragments: entry.parityFragments,
      fragmentBytes: entry.fragmentBytes,
      payloadBytes: entry.payloadBytes,
      summaryOffset: entry.summaryOffset,
    };
    if (length === 0) return { reply, tail: NO_TAIL };
    const checksums = this.#cache.find(entry)?.checksums ?? (await this.#readChecksums(entry));
    const data = Buffer.allocUnsafe(length);
    await this.#fill(entry, data, entry.headerBytes + offset);
    const firstBlock = offset / BLOCK_BYTES;
    return { reply, tail: [checksums.subarray(4 * firstBlock, 4 * (firstBlock + Math.ceil(length / BLOCK_BYTES))), data] };
  }

  #find(request: Request<"read">): Entry | undefined {
    const { log, sequence } = request;
    const isExact = request.index >= 0 && request.groupVersion >= 0;
    if (isExact) {
      const cached = this.#cache.find(request);
      if (cached !== undefined) return cached.entry;
    }
    const held: Entry[] = [];
    for (const { entry, writing } of this.#parts.pending.segment(log, sequence)) if (writing === null) held.push(entry);
    if (isExact) return held.find((entry) => sameKey(entry, request)) ?? this.#parts.index.get(request);
    held.push(...this.#parts.index.segment(log, sequence));
    const matching = held.filter(
      (entry) =>
        entry.group === request.group &&
        (request.groupVersion < 0 || entry.groupVersion === request.groupVersion) &&
        (request.index < 0 || entry.index === request.index),
    );
    return bestFor(request, matching);
  }

  async #readChecksums(entry: Entry): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(entry.headerBytes);
    await this.#fill(entry, bytes, 0);
    let isWhole = false;
    try {
      isWhole = isHeaderOf(decodeFragmentHeader(bytes).header, entry);
    } catch (error) {
      throw this.#missingOrDamaged(entry, error);
    }
    if (!isWhole) throw this.#missingOrDamaged(entry, new Error("another fragment's header is in its place"));
    const checksums = bytes.subarray(FRAGMENT_HEADER.end);
    if (this.#isHeld(entry)) this.#cache.add(entry, checksums);
    return checksums;
  }

  /** Fills `buffer` from `offset` of the fragment as it was sent. */
  async #fill(entry: Entry, buffer: Buffer, offset: number): Promise<void> {
    const { clock, volumes } = this.#parts;
    try {
      const read = () => volumes.read(entry.volume, buffer, entry.offset + RECORD_HEADER.end + offset);
      const reading = read();
      const count = typeof reading === "number" ? reading : await readSteadily(clock, read, reading);
      if (count === buffer.byteLength && (typeof reading === "number" || this.#isHeld(entry))) return;
    } catch (error) {
      throw this.#missingOrDamaged(entry, error);
    }
    throw this.#missingOrDamaged(entry, new Error("its volume is too short"));
  }

  /** What is deleted while it is read turns to zeros, or its volume is gone: that is no damage. */
  #isHeld(entry: Entry): boolean {
    const now = this.#held(entry);
    return now !== undefined && samePlace(now, entry);
  }

  #held(key: FragmentKey): Entry | undefined {
    return this.#parts.pending.find(key)?.entry ?? this.#parts.index.get(key);
  }

  #missingOrDamaged(entry: Entry, cause: unknown): DazzleError {
    if (!this.#isHeld(entry)) return fragmentMissing(entry);
    const { message } = cause as Error;
    if (isDazzleError(cause, "diskFailed")) {
      // The disk may do better later: that decides nothing about what is there.
      this.#parts.damages.suspect(entry);
      return new DazzleError("diskFailed", `${nameOf(entry)}: ${message}`);
    }
    this.#parts.damages.add(entry, message);
    return new DazzleError("fragmentDamaged", `${nameOf(entry)}: ${message}`);
  }
}
