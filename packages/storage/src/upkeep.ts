import {
  asBuffer,
  BLOCK_BYTES,
  type Clock,
  DazzleError,
  encodeFragmentHeader,
  type FragmentKey,
  isDazzleError,
  SegmentClass,
} from "@dazzle/core";
import type { Damages } from "./damages.ts";
import { type Entry, isHeaderOf, keyOf, nameOf, sameKey, spaceOf } from "./entry.ts";
import { type ArrivedFragment, arrivedFragment } from "./fragment.ts";
import type { FragmentIndex } from "./fragment-index.ts";
import type { Pending } from "./pending.ts";
import { comparePlaces, decodeRecordHeader, type Place, RECORD_HEADER } from "./record-header.ts";
import { readSteadily } from "./steady-read.ts";
import { type DataRange, damagedRanges, decodedFragment, isWhole } from "./verify.ts";
import { type Volumes, volumePath } from "./volumes.ts";

/** Index rows looked at in one step, so that nobody waits for a long run of young fragments. */
const ROWS_MAX = 1_024;

/** A stored fragment that is not what its writer sent. */
export interface DamagedFragment {
  readonly entry: Entry;
  /** As it was sent; null where it is damaged, too. */
  readonly header: Buffer | null;
  /** As it is stored. */
  readonly data: Buffer;
  /** What of the data is wrong or can't be read, by whole blocks; all of it where the header is damaged. Empty where only the record is. */
  readonly ranges: readonly DataRange[];
}

export interface UpkeepTarget {
  readonly key: FragmentKey;
  /** What it takes of the disk. */
  readonly bytes: number;
}

export interface UpkeepTargets {
  readonly targets: readonly UpkeepTarget[];
  readonly last: FragmentKey | null;
}

interface UpkeepParts {
  readonly clusterId: string;
  readonly clock: Clock;
  readonly volumes: Volumes;
  readonly index: FragmentIndex;
  readonly damages: Damages;
  readonly pending: Pending;
  /** Resolves when everything stored so far is in the index. */
  readonly settle: () => Promise<void>;
  /** Stores a fragment anew, where `replaces` is still there. Resolves when the index has it in the place of that, or has not because that was deleted meanwhile. */
  readonly replace: (fragment: ArrivedFragment, replaces: Entry) => Promise<void>;
}

/** Verifies what is stored against every checksum it was stored with, and puts right what is damaged. */
export class Upkeep {
  readonly damages: Damages;
  readonly #parts: UpkeepParts;

  constructor(parts: UpkeepParts) {
    this.#parts = parts;
    this.damages = parts.damages;
  }

  /** Where the next fragment will lie: what lies before it is stored by now. */
  get head(): Place {
    return this.#parts.volumes.head;
  }

  /** Some of the fragments that lie before `until`, behind `after` in the order of their keys (null: from the first on), without what does not get into the index since the disk
   * failed. `last`: where to go on; null at the end. Rejects `diskFailed` once the store is closed. */
  async targets(after: FragmentKey | null, until: Place): Promise<UpkeepTargets> {
    const { index, settle } = this.#parts;
    if (comparePlaces(index.position, until) < 0)
      await settle().catch((error) => {
        if (!isDazzleError(error, "diskFailed")) throw error;
      });
    const entries = index.behind(after, ROWS_MAX);
    const targets = entries
      .filter((entry) => comparePlaces(entry, until) < 0)
      .map((entry) => ({ key: keyOf(entry), bytes: spaceOf(entry) }));
    const last = entries.at(-1);
    return { targets, last: last === undefined ? null : keyOf(last) };
  }

  /** Reads a fragment from the disk, and verifies it. Null where it is whole, or not here (any more). What is damaged is told in the log,
   * and counted until it is repaired or deleted. Rejects `diskFailed` where it can't be read, unless that is to count as damage; and once the store is closed. */
  async examine(key: FragmentKey, unreadableIsDamaged: boolean): Promise<DamagedFragment | null> {
    const { index, damages, pending, settle } = this.#parts;
    if (pending.find(key) !== undefined) await settle();
    const entry = index.get(key);
    if (entry === undefined) {
      damages.forget(key);
      return null;
    }
    const { record, failure } = await this.#read(entry, unreadableIsDamaged);
    // What is deleted while it is read turns to zeros.
    if (!index.holds(entry)) return null;
    const fragment = record.subarray(RECORD_HEADER.end);
    const decoded = decodedFragment(fragment);
    const header = decoded !== undefined && isHeaderOf(decoded.header, entry) ? fragment.subarray(0, entry.headerBytes) : null;
    const data = fragment.subarray(entry.headerBytes);
    const ranges = header === null || decoded === undefined ? [{ offset: 0, length: entry.dataBytes }] : damagedRanges(fragment, decoded);
    const hasRecord = isRecordOf(record, entry);
    if (failure === null && ranges.length === 0 && hasRecord) {
      damages.forget(key);
      return null;
    }
    const damaged = { entry, header, data, ranges };
    damages.add(key, failure ?? `${whatIsWrong(damaged)}, in ${volumePath(entry.volume)} at ${entry.offset}`);
    return damaged;
  }

  /** Puts a fragment in the place of a damaged one; on disk and in the index when it resolves. `data` is verified against the checksums of the header where that is whole, and
   * gets a new header where it is not. Answers false where the fragment was deleted meanwhile. Rejects `fragmentDamaged` where the data is not what was stored, `noSpace`, `diskFailed`. */
  async repair({ entry, header }: DamagedFragment, data: Buffer): Promise<boolean> {
    const { index, damages, replace } = this.#parts;
    const bytes = Buffer.concat([header ?? this.#headerFor(entry, data), data]);
    const stored = arrivedFragment([bytes]);
    if (!isHeaderOf(stored.decoded.header, entry) || !isWhole(bytes, stored.decoded))
      throw new DazzleError("fragmentDamaged", `${nameOf(entry)}: what the others make of it is not what was stored here`);
    await replace(sameKey(stored.decoded.header, entry) ? stored : arrivedFragment([this.#headerFor(entry, data), data]), entry);
    damages.forget(entry);
    return index.get(entry) !== undefined;
  }

  /** As its writer made it, but for what others tell as well: the class, and how far the log was. */
  #headerFor(entry: Entry, data: Buffer): Buffer {
    const { clusterId, index } = this.#parts;
    return encodeFragmentHeader({ ...entry, ...index.logs.marks(entry.log), class: SegmentClass.system, clusterId }, data);
  }

  /** The whole record, zeros where it can't be read, with the reason. */
  async #read(entry: Entry, byBlocks: boolean): Promise<{ readonly record: Buffer; readonly failure: string | null }> {
    const record = Buffer.alloc(RECORD_HEADER.end + entry.headerBytes + entry.dataBytes);
    try {
      await readSteadily(this.#parts.clock, () => this.#fill(entry, record, 0));
      return { record, failure: null };
    } catch (error) {
      if (!isDazzleError(error, byBlocks ? "diskFailed" : "notFound", "notFound")) throw error;
      return { record, failure: await this.#fillByBlocks(entry, record, error.message) };
    }
  }

  /** So that of a disk with a bad sector all the rest is used. */
  async #fillByBlocks(entry: Entry, record: Buffer, reason: string): Promise<string> {
    record.fill(0);
    const dataAt = RECORD_HEADER.end + entry.headerBytes;
    const starts = [0];
    for (let at = dataAt; at < record.length; at += BLOCK_BYTES) starts.push(at);
    for (const [at, start] of starts.entries()) {
      try {
        await this.#fill(entry, record.subarray(start, starts[at + 1]), start);
      } catch (error) {
        if (!isDazzleError(error, "diskFailed", "notFound")) throw error;
      }
    }
    return reason;
  }

  async #fill(entry: Entry, target: Buffer, offset: number): Promise<void> {
    const count = await this.#parts.volumes.with(entry.volume, (file) => file.readStored(target, entry.offset + offset));
    asBuffer(target).fill(0, count);
  }
}

function whatIsWrong({ header, ranges }: DamagedFragment): string {
  if (header === null) return "the header is not what its checksum says";
  if (ranges.length === 0) return "the record's header is not what its checksum says";
  return `${ranges.reduce((sum, { length }) => sum + length, 0)} bytes are not what their checksums say`;
}

function isRecordOf(record: Buffer, entry: Entry): boolean {
  const header = decodeRecordHeader(record);
  return header !== undefined && header.recordBytes === record.length && comparePlaces(header.place, entry) === 0;
}
