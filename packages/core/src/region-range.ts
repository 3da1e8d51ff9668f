import { BLOCK_BYTES, REGION_BLOCKS } from "./limits.ts";

const REGION_BYTES = REGION_BLOCKS * BLOCK_BYTES;

/** Regions `from <= region < to` of a file, REGION_BLOCKS blocks each: what a token of a part of it covers. */
export interface RegionRange {
  readonly from: number;
  readonly to: number;
}

export const WHOLE_FILE: RegionRange = { from: 0, to: Number.MAX_SAFE_INTEGER };
export const NO_REGIONS: RegionRange = { from: 0, to: 0 };

/** The regions that bytes `offset … offset + length` lie in. */
export function regionsOf(offset: number, length: number): RegionRange {
  return { from: Math.floor(offset / REGION_BYTES), to: Math.ceil((offset + length) / REGION_BYTES) };
}

export function covers(range: RegionRange, wanted: RegionRange): boolean {
  return range.from <= wanted.from && wanted.to <= range.to;
}

export function overlaps(one: RegionRange, other: RegionRange): boolean {
  return Math.max(one.from, other.from) < Math.min(one.to, other.to);
}
