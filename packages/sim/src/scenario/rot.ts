import { decodeFragmentHeader, type FragmentHeader } from "@dazzle/core";
import { comparePlaces, decodeRecordHeader, type Place, RECORD_ALIGNMENT, RECORD_HEADER } from "@dazzle/storage";
import { SECTOR_BYTES } from "../contents.ts";
import type { SimDrive } from "../drive.ts";
import type { SeededRandom } from "../random.ts";

const SECTORS_LOST_MAX = 8;

export interface StoredFragment {
  readonly path: string;
  readonly place: Place;
  readonly recordBytes: number;
  readonly durable: Place;
  readonly header: FragmentHeader;
}

/** Turns over a bit in a stored fragment, its header or its data. Answers which, undefined where there is none. */
export function rot(drive: SimDrive, directory: string, random: SeededRandom): FragmentHeader | undefined {
  const found = settledFragment(drive, directory, random);
  if (found === undefined) return undefined;
  const { path, place, recordBytes, header } = found;
  drive.flip(path, place.offset + RECORD_HEADER.end + random.below(recordBytes - RECORD_HEADER.end));
  return header;
}

/** Some sectors of a stored fragment were never written, though the disk said so. Answers which, undefined where there is none. */
export function loseWrite(drive: SimDrive, directory: string, random: SeededRandom): FragmentHeader | undefined {
  const found = settledFragment(drive, directory, random);
  if (found === undefined) return undefined;
  const { path, place, recordBytes, header } = found;
  const start = random.below(Math.ceil(recordBytes / SECTOR_BYTES)) * SECTOR_BYTES;
  drive.blank(path, place.offset + start, Math.min((1 + random.below(SECTORS_LOST_MAX)) * SECTOR_BYTES, recordBytes - start));
  return header;
}

/** One that is on disk for certain: what was never synced may be taken for torn, and dropped. */
function settledFragment(drive: SimDrive, directory: string, random: SeededRandom): StoredFragment | undefined {
  const fragments = fragmentsOf(drive, directory);
  const mark = latest(fragments, undefined);
  // The mark itself must survive a crash: it counts where it lies in a record that is on disk.
  const sure = mark === undefined ? undefined : latest(fragments, mark);
  const settled = fragments.filter(({ place }) => sure !== undefined && comparePlaces(place, sure) < 0);
  return settled.length === 0 ? undefined : random.pick(settled);
}

/** The highest durable mark in the records that lie before `before`. */
function latest(fragments: readonly StoredFragment[], before: Place | undefined): Place | undefined {
  let mark: Place | undefined;
  for (const { place, durable } of fragments) {
    if (before !== undefined && comparePlaces(place, before) >= 0) continue;
    if (mark === undefined || comparePlaces(durable, mark) > 0) mark = durable;
  }
  return mark;
}

/** Every fragment whose header is whole, whether it was deleted or not. */
export function fragmentsOf(drive: SimDrive, directory: string): StoredFragment[] {
  const found: StoredFragment[] = [];
  const volumes = `${directory}/volumes`;
  for (const name of drive.tree.list(volumes)) {
    const path = `${volumes}/${name}`;
    const contents = drive.tree.file(path);
    if (contents === undefined) continue;
    const bytes = Buffer.alloc(contents.size);
    contents.read(bytes, 0);
    for (let offset = 0; offset < bytes.length; offset += RECORD_ALIGNMENT) {
      const record = decodeRecordHeader(bytes.subarray(offset));
      if (record === undefined || record.place.volume !== Number(name) || record.place.offset !== offset) continue;
      if (offset + record.recordBytes > bytes.length) continue;
      const header = headerAt(bytes.subarray(offset + RECORD_HEADER.end));
      if (header !== undefined) found.push({ path, place: record.place, recordBytes: record.recordBytes, durable: record.durable, header });
    }
  }
  return found;
}

/** Undefined where it is damaged already. */
function headerAt(bytes: Buffer): FragmentHeader | undefined {
  try {
    return decodeFragmentHeader(bytes).header;
  } catch {
    return undefined;
  }
}
