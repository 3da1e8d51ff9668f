import {
  type DiskFile,
  FRAGMENT_HEADER,
  type FragmentHeader,
  fragmentHeaderBytes,
  peekFragmentHeaderBytes,
  type StoreId,
} from "@dazzle/core";
import type { DeadRange } from "./dead-pages.ts";
import { type Entry, makeEntry } from "./entry.ts";
import { comparePlaces, decodeRecordHeader, type Place, RECORD_ALIGNMENT, RECORD_HEADER, recordSpace } from "./record-header.ts";
import { decodedFragment, isWhole } from "./verify.ts";

const WINDOW_BYTES = 1024 * 1024;

/** Bytes in a volume that are no whole record: torn by a crash, or rotten. */
export interface Suspect {
  readonly range: DeadRange;
  /** Where the fragment's header is whole, and only the record's or the data is not. */
  readonly entry: Entry | null;
  readonly isZeros: boolean;
}

export interface ScannedVolume {
  readonly whole: ReadonlyArray<{ readonly entry: Entry; readonly header: FragmentHeader }>;
  readonly suspects: readonly Suspect[];
  /** The highest place before which a record says that everything was on disk. */
  readonly durable: Place;
  /** Where the next record may go. */
  readonly end: number;
}

/** Reads the records of a volume from `from` on and verifies every checksum in them. Whole ones are written again in place: a
 * sync that failed just before the last process died may have left them in memory alone, with nobody to tell. */
export async function scanVolume(file: DiskFile, storeId: StoreId, volume: number, from: number): Promise<ScannedVolume> {
  const size = await file.size();
  const window = new Window(file, size);
  const whole: Array<{ entry: Entry; header: FragmentHeader }> = [];
  const suspects: Suspect[] = [];
  let durable: Place = { volume: 0, offset: 0 };
  let offset = from;
  while (offset < size) {
    const record = await recordAt(window, storeId, volume, offset);
    if (record === undefined) {
      const gap = (await headlessAt(window, volume, offset)) ?? (await skipGap(window, storeId, volume, offset));
      suspects.push(gap);
      offset += gap.range.bytes;
      continue;
    }
    if (comparePlaces(record.durable, durable) > 0) durable = record.durable;
    const bytes = await window.at(offset, record.recordBytes);
    const decoded = decodedFragment(bytes.subarray(RECORD_HEADER.end));
    const space = recordSpace(record.recordBytes);
    if (decoded !== undefined && isWhole(bytes.subarray(RECORD_HEADER.end), decoded)) {
      await file.write([bytes], offset);
      whole.push({ entry: makeEntry(decoded, volume, offset), header: decoded.header });
    } else {
      const entry = decoded === undefined ? null : makeEntry(decoded, volume, offset);
      suspects.push({ range: { volume, offset, bytes: space }, entry, isZeros: false });
    }
    offset += space;
  }
  // A torn record may reach beyond the end of the file: its space is dead, and never used again.
  return { whole, suspects, durable, end: Math.max(offset, recordSpace(size)) };
}

async function recordAt(window: Window, storeId: StoreId, volume: number, offset: number) {
  const header = decodeRecordHeader(await window.at(offset, RECORD_HEADER.end));
  const isHere = header !== undefined && header.storeId === storeId && header.place.volume === volume && header.place.offset === offset;
  return isHere && header.recordBytes > RECORD_HEADER.end ? header : undefined;
}

/** A record of which but its own header has rotted. Only where one must begin, lest the data of some file be taken for it. */
async function headlessAt(window: Window, volume: number, offset: number): Promise<Suspect | undefined> {
  const first = await window.at(offset, RECORD_HEADER.end + FRAGMENT_HEADER.end);
  const headerBytes = peekFragmentHeaderBytes(first.subarray(RECORD_HEADER.end));
  // What has rotted may be of any length: no more than what is left of the volume could be a fragment's data.
  if (headerBytes === undefined || headerBytes > fragmentHeaderBytes(window.size - offset)) return undefined;
  const bytes = await window.at(offset, RECORD_HEADER.end + headerBytes);
  const decoded = decodedFragment(bytes.subarray(RECORD_HEADER.end));
  if (decoded === undefined) return undefined;
  const space = recordSpace(RECORD_HEADER.end + headerBytes + decoded.dataBytes);
  return { range: { volume, offset, bytes: space }, entry: makeEntry(decoded, volume, offset), isZeros: false };
}

/** Goes on by sectors until a record starts, or to the end. */
async function skipGap(window: Window, storeId: StoreId, volume: number, from: number): Promise<Suspect> {
  let isZeros = true;
  let offset = from;
  do {
    isZeros &&= (await window.at(offset, RECORD_ALIGNMENT)).every((byte) => byte === 0);
    offset += RECORD_ALIGNMENT;
  } while (offset < window.size && (await recordAt(window, storeId, volume, offset)) === undefined);
  return { range: { volume, offset: from, bytes: offset - from }, entry: null, isZeros };
}

/** A file read in long runs, forwards. */
class Window {
  readonly size: number;
  readonly #file: DiskFile;
  #bytes: Buffer = Buffer.alloc(0);
  #start = 0;

  constructor(file: DiskFile, size: number) {
    this.#file = file;
    this.size = size;
  }

  /** The bytes there, fewer at the end of the file. */
  async at(offset: number, length: number): Promise<Buffer> {
    const end = Math.min(offset + length, this.size);
    if (offset < this.#start || end > this.#start + this.#bytes.byteLength) {
      const buffer = Buffer.allocUnsafeSlow(Math.min(Math.max(end - offset, WINDOW_BYTES), this.size - offset));
      const count = await this.#file.read(buffer, offset);
      this.#bytes = buffer.subarray(0, count);
      this.#start = offset;
    }
    return this.#bytes.subarray(offset - this.#start, end - this.#start);
  }
}
