import { assert, BLOCK_BYTES, type OrderedStore } from "@dazzle/core";
import { type Change, encodeCount, IndexKey, pageKeyBytes } from "./index-layout.ts";
import { RECORD_ALIGNMENT } from "./record-header.ts";

/** What filesystems give back: pages. */
const PAGE_BYTES = BLOCK_BYTES;
const SECTORS_A_PAGE = PAGE_BYTES / RECORD_ALIGNMENT;
assert(SECTORS_A_PAGE === 8, "the sectors of a page are the bits of a byte");
const ALL_SECTORS = 0xff;

/** Sectors of a volume that hold nothing live. */
export interface DeadRange {
  readonly volume: number;
  readonly offset: number;
  readonly bytes: number;
}

/** Whole dead pages. */
export interface Hole {
  readonly volume: number;
  readonly page: number;
  readonly pages: number;
}

/** Works out which pages become wholly dead with `ranges`. A page that two records share is given back when both are dead:
 * until then its dead sectors are a row of the index, so that nothing of this is in memory. The changes also record the holes,
 * so that those a crash left unpunched are punched at the next start. */
export function planHoles(index: OrderedStore, ranges: readonly DeadRange[]): { readonly changes: Change[]; readonly holes: Hole[] } {
  const pages = new DeadPages(index);
  for (const range of ranges) pages.add(range);
  return pages.plan();
}

export function holeKey(hole: Hole): Uint8Array {
  return pageKeyBytes(IndexKey.hole, hole.volume, hole.page);
}

export function holeBytes(hole: Hole): { readonly position: number; readonly length: number } {
  return { position: hole.page * PAGE_BYTES, length: hole.pages * PAGE_BYTES };
}

class DeadPages {
  readonly #index: OrderedStore;
  readonly #whole: Hole[] = [];
  /** By volume and page: the dead sectors now, and whether the index has a row. */
  readonly #partial = new Map<string, { readonly volume: number; readonly page: number; sectors: number; readonly hadRow: boolean }>();

  constructor(index: OrderedStore) {
    this.#index = index;
  }

  add({ volume, offset, bytes }: DeadRange): void {
    assert(offset % RECORD_ALIGNMENT === 0 && bytes % RECORD_ALIGNMENT === 0, "sectors die whole");
    const first = offset / RECORD_ALIGNMENT;
    const end = first + bytes / RECORD_ALIGNMENT;
    const wholeFirst = Math.ceil(first / SECTORS_A_PAGE);
    const wholeEnd = Math.floor(end / SECTORS_A_PAGE);
    if (wholeFirst > wholeEnd) {
      this.#kill(volume, wholeEnd, first, end);
      return;
    }
    if (wholeFirst < wholeEnd) this.#whole.push({ volume, page: wholeFirst, pages: wholeEnd - wholeFirst });
    this.#kill(volume, wholeFirst - 1, first, wholeFirst * SECTORS_A_PAGE);
    this.#kill(volume, wholeEnd, wholeEnd * SECTORS_A_PAGE, end);
  }

  #kill(volume: number, page: number, first: number, end: number): void {
    if (first >= end) return;
    const name = `${volume}/${page}`;
    let state = this.#partial.get(name);
    if (state === undefined) {
      const row = this.#index.get(pageKeyBytes(IndexKey.sectors, volume, page));
      state = { volume, page, sectors: row?.[0] ?? 0, hadRow: row !== undefined };
      this.#partial.set(name, state);
    }
    for (let sector = first; sector < end; sector++) state.sectors |= 1 << (sector - page * SECTORS_A_PAGE);
  }

  plan(): { readonly changes: Change[]; readonly holes: Hole[] } {
    const changes: Change[] = [];
    const holes = [...this.#whole];
    for (const { volume, page, sectors, hadRow } of this.#partial.values()) {
      const key = pageKeyBytes(IndexKey.sectors, volume, page);
      if (sectors !== ALL_SECTORS) changes.push([key, Buffer.of(sectors)]);
      else {
        holes.push({ volume, page, pages: 1 });
        if (hadRow) changes.push([key, undefined]);
      }
    }
    const merged = mergeHoles(holes);
    for (const hole of merged) changes.push([holeKey(hole), encodeCount(hole.pages)]);
    return { changes, holes: merged };
  }
}

function mergeHoles(holes: Hole[]): Hole[] {
  holes.sort((one, other) => one.volume - other.volume || one.page - other.page);
  const merged: Hole[] = [];
  for (const hole of holes) {
    const last = merged[merged.length - 1];
    if (last !== undefined && last.volume === hole.volume && last.page + last.pages === hole.page)
      merged[merged.length - 1] = { ...last, pages: last.pages + hole.pages };
    else merged.push(hole);
  }
  return merged;
}
