import { closeSync, openSync, readdirSync, readFileSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";

/** A place in a storage server's files. */
export interface Place {
  readonly file: string;
  readonly offset: number;
}

/** Every place below `directory` where `text` is stored. */
export function findStored(directory: string, text: string): Place[] {
  const wanted = Buffer.from(text, "latin1");
  const places: Place[] = [];
  for (const entry of readdirSync(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = join(entry.parentPath, entry.name);
    const bytes = readFileSync(file);
    for (let at = bytes.indexOf(wanted); at >= 0; at = bytes.indexOf(wanted, at + 1)) places.push({ file, offset: at });
  }
  return places;
}

/** Turns `length` bytes over, as a bad disk might. */
export function flip(place: Place, length: number): void {
  const file = openSync(place.file, "r+");
  try {
    const bytes = Buffer.alloc(length);
    readSync(file, bytes, 0, length, place.offset);
    writeSync(
      file,
      bytes.map((byte) => byte ^ 0xff),
      0,
      length,
      place.offset,
    );
  } finally {
    closeSync(file);
  }
}
