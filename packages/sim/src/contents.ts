import type { Counters } from "./counters.ts";
import type { SimProcess } from "./process.ts";
import type { CrashChoices, SeededRandom } from "./random.ts";

/** What a disk writes whole or not at all. */
export const SECTOR_BYTES = 512;
export const PAGE_BYTES = 4096;

/** A run of bytes with holes. */
class Pages {
  size = 0;
  readonly #pages = new Map<number, Buffer>();

  get allocatedBytes(): number {
    return this.#pages.size * PAGE_BYTES;
  }

  /** Bytes that a write there would newly take. */
  missingBytes(position: number, length: number): number {
    let missing = 0;
    for (let page = Math.floor(position / PAGE_BYTES); page * PAGE_BYTES < position + length; page++)
      if (!this.#pages.has(page)) missing += PAGE_BYTES;
    return missing;
  }

  read(buffer: Uint8Array, position: number): number {
    const length = Math.max(0, Math.min(buffer.byteLength, this.size - position));
    for (let done = 0; done < length; ) {
      const within = (position + done) % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - within, length - done);
      const page = this.#pages.get(Math.floor((position + done) / PAGE_BYTES));
      if (page === undefined) buffer.fill(0, done, done + count);
      else buffer.set(page.subarray(within, within + count), done);
      done += count;
    }
    return length;
  }

  write(bytes: Uint8Array, position: number): void {
    for (let done = 0; done < bytes.byteLength; ) {
      const within = (position + done) % PAGE_BYTES;
      const count = Math.min(PAGE_BYTES - within, bytes.byteLength - done);
      this.#page(Math.floor((position + done) / PAGE_BYTES)).set(bytes.subarray(done, done + count), within);
      done += count;
    }
    this.size = Math.max(this.size, position + bytes.byteLength);
  }

  truncate(size: number): void {
    if (size < this.size) this.punch(size, this.size - size);
    this.size = size;
  }

  punch(position: number, length: number): void {
    const end = position + length;
    if (length > this.#pages.size * PAGE_BYTES) {
      for (const page of [...this.#pages.keys()]) this.#clear(page, position, end);
      return;
    }
    for (let page = Math.floor(position / PAGE_BYTES); page * PAGE_BYTES < end; page++) this.#clear(page, position, end);
  }

  flip(position: number, bit: number): void {
    const page = this.#page(Math.floor(position / PAGE_BYTES));
    page[position % PAGE_BYTES] = (page[position % PAGE_BYTES] ?? 0) ^ (1 << bit);
  }

  clone(): Pages {
    const copy = new Pages();
    copy.size = this.size;
    for (const [number, page] of this.#pages) copy.#pages.set(number, Buffer.from(page));
    return copy;
  }

  #clear(number: number, position: number, end: number): void {
    const start = number * PAGE_BYTES;
    if (position <= start && (end >= start + PAGE_BYTES || end >= this.size)) this.#pages.delete(number);
    else
      this.#pages.get(number)?.fill(0, Math.max(0, Math.min(PAGE_BYTES, position - start)), Math.max(0, Math.min(PAGE_BYTES, end - start)));
  }

  #page(number: number): Buffer {
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = Buffer.alloc(PAGE_BYTES);
      this.#pages.set(number, page);
    }
    return page;
  }
}

export type Change =
  | { readonly kind: "write"; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: "truncate"; readonly size: number }
  | { readonly kind: "punch"; readonly position: number; readonly length: number };

function apply(pages: Pages, change: Change): void {
  if (change.kind === "write") pages.write(change.bytes, change.position);
  else if (change.kind === "truncate") pages.truncate(change.size);
  else pages.punch(change.position, change.length);
}

/** A file's bytes as processes see them (the page cache), and as the disk has them. */
export class FileContents {
  /** Whether a directory names it, and who has it open (once a handle): it takes space while either holds. */
  named = true;
  handles: SimProcess[] = [];
  #seen = new Pages();
  #durable = new Pages();
  // INVARIANT: `#seen` is `#durable` with these applied, but for sectors that a failed sync dropped.
  #unsynced: Change[] = [];
  #synced = 0;

  static durable(bytes: Uint8Array): FileContents {
    const contents = new FileContents();
    contents.change({ kind: "write", position: 0, bytes: Buffer.from(bytes) });
    contents.settle(contents.mark());
    return contents;
  }

  get size(): number {
    return this.#seen.size;
  }

  get allocatedBytes(): number {
    return this.#seen.allocatedBytes;
  }

  missingBytes(position: number, length: number): number {
    return this.#seen.missingBytes(position, length);
  }

  read(buffer: Uint8Array, position: number): number {
    return this.#seen.read(buffer, position);
  }

  /** Takes `change` as its own. */
  change(change: Change): void {
    apply(this.#seen, change);
    this.#unsynced.push(change);
  }

  /** Names the changes up to now. */
  mark(): number {
    return this.#synced + this.#unsynced.length;
  }

  /** Makes the changes up to `mark` durable. */
  settle(mark: number): void {
    const count = mark - this.#synced;
    if (count <= 0) return;
    for (const change of this.#unsynced.splice(0, count)) apply(this.#durable, change);
    this.#synced = mark;
  }

  /** A sync that failed: each sector is on disk or not, the system takes all of them for clean, and may have dropped them. */
  settlePartly(mark: number, random: SeededRandom, counters: Counters): void {
    const count = mark - this.#synced;
    if (count <= 0) return;
    for (const change of this.#unsynced.splice(0, count)) this.#keepPartly(change, 0.5, random, counters);
    this.#synced = mark;
    if (random.chance(0.5)) return;
    this.#seen = this.#durable.clone();
    for (const change of this.#unsynced) apply(this.#seen, change);
  }

  /** A write that was under way when its process ended. */
  tear(change: Extract<Change, { kind: "write" }>, random: CrashChoices, counters: Counters): void {
    counters.count("writeTorn");
    for (const piece of sectors(change)) if (random.chance(0.5)) this.change(piece);
  }

  crash(random: CrashChoices, counters: Counters): void {
    const keep = random.pick([0, 1, 0.5, 0.9]);
    const last = this.#unsynced.length - 1;
    this.#unsynced.forEach((change, index) => {
      this.#keepPartly(change, keep === 1 && index === last ? 0.5 : keep, random, counters);
    });
    this.#synced += this.#unsynced.length;
    this.#unsynced = [];
    this.#seen = this.#durable.clone();
  }

  flip(position: number, bit: number): void {
    this.#seen.flip(position, bit);
    this.#durable.flip(position, bit);
  }

  blank(position: number, length: number): void {
    this.#seen.write(Buffer.alloc(length), position);
    this.#durable.write(Buffer.alloc(length), position);
  }

  #keepPartly(change: Change, keep: number, random: CrashChoices, counters: Counters): void {
    if (change.kind !== "write") {
      if (random.chance(keep)) apply(this.#durable, change);
      else counters.count(change.kind === "truncate" ? "truncateLost" : "punchLost");
      return;
    }
    let kept = 0;
    const pieces = sectors(change);
    for (const piece of pieces) {
      if (!random.chance(keep)) continue;
      apply(this.#durable, piece);
      kept++;
    }
    if (kept > 0) counters.count("sectorKept", kept);
    if (kept < pieces.length) counters.count("sectorLost", pieces.length - kept);
    if (kept > 0 && kept < pieces.length) counters.count("writeTorn");
  }
}

function sectors(change: Extract<Change, { kind: "write" }>): Array<Extract<Change, { kind: "write" }>> {
  const pieces: Array<Extract<Change, { kind: "write" }>> = [];
  for (let done = 0; done < change.bytes.byteLength; ) {
    const position = change.position + done;
    const count = Math.min(SECTOR_BYTES - (position % SECTOR_BYTES), change.bytes.byteLength - done);
    pieces.push({ kind: "write", position, bytes: change.bytes.subarray(done, done + count) });
    done += count;
  }
  return pieces;
}
