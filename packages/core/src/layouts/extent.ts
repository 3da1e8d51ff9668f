import { asBuffer, readSafe, requireBytes, writeSafe } from "../bytes.ts";
import { BLOCK_BYTES } from "../limits.ts";

/** Where bytes lie in a log, and whom to ask first (the placement: a hint). */
export interface LogAddress {
  readonly log: number;
  readonly sequence: number;
  /** In the segment's payload, bytes. */
  readonly offset: number;
  readonly length: number;
  readonly group: number;
  readonly groupVersion: number;
}

/** A run of a file's blocks that lies together in a log. `length` is in bytes: only the last block of an extent may be
 * short; what it lacks reads as zeros. */
export interface Extent extends LogAddress {
  /** The first block of the file it holds. */
  readonly block: number;
}

/** Extent, 40 bytes, little-endian: 0 8 block   8 8 log   16 8 sequence   24 4 offset   28 4 length   32 4 group   36 4 group version */
export const EXTENT_BYTES = 40;

export function blocksOf(lengthBytes: number): number {
  return Math.ceil(lengthBytes / BLOCK_BYTES);
}

export function packExtents(extents: readonly Extent[]): Buffer {
  const bytes = Buffer.allocUnsafe(EXTENT_BYTES * extents.length);
  let at = 0;
  for (const extent of extents) {
    writeSafe(bytes, extent.block, at);
    writeSafe(bytes, extent.log, at + 8);
    writeSafe(bytes, extent.sequence, at + 16);
    bytes.writeUInt32LE(extent.offset, at + 24);
    bytes.writeUInt32LE(extent.length, at + 28);
    bytes.writeUInt32LE(extent.group, at + 32);
    bytes.writeUInt32LE(extent.groupVersion, at + 36);
    at += EXTENT_BYTES;
  }
  return bytes;
}

export function unpackExtents(source: Uint8Array): Extent[] {
  const bytes = asBuffer(source);
  const extents: Extent[] = [];
  for (let at = 0; at < bytes.length; at += EXTENT_BYTES) {
    requireBytes(bytes, at + EXTENT_BYTES, "an extent");
    extents.push({
      block: readSafe(bytes, at),
      log: readSafe(bytes, at + 8),
      sequence: readSafe(bytes, at + 16),
      offset: bytes.readUInt32LE(at + 24),
      length: bytes.readUInt32LE(at + 28),
      group: bytes.readUInt32LE(at + 32),
      groupVersion: bytes.readUInt32LE(at + 36),
    });
  }
  return extents;
}

/** The part of `extent` that holds file blocks `from <= block < to`; undefined where it holds none. */
export function sliceExtent(extent: Extent, from: number, to: number): Extent | undefined {
  const end = extent.block + blocksOf(extent.length);
  const first = Math.max(extent.block, from);
  const last = Math.min(end, to);
  if (first >= last) return undefined;
  const skip = (first - extent.block) * BLOCK_BYTES;
  const length = Math.min(extent.length - skip, (last - first) * BLOCK_BYTES);
  return { ...extent, block: first, offset: extent.offset + skip, length };
}

/** Whether the second extent goes on where the first ends, in the file and in its segment: together they are one. */
export function areJoined(first: Extent, second: Extent): boolean {
  return (
    first.log === second.log &&
    first.sequence === second.sequence &&
    first.length % BLOCK_BYTES === 0 &&
    first.offset + first.length === second.offset &&
    first.block + first.length / BLOCK_BYTES === second.block
  );
}

/** Puts `added` over `extents` (sorted by block, not overlapping). Answers the new list and what it replaced, whole or in part. */
export function overlayExtents(extents: readonly Extent[], added: Extent): { extents: Extent[]; replaced: Extent[] } {
  const { extents: kept, removed } = cutExtents(extents, added.block, added.block + blocksOf(added.length));
  let at = kept.findIndex((extent) => extent.block > added.block);
  if (at < 0) at = kept.length;
  kept.splice(at, 0, added);
  return { extents: kept, replaced: removed };
}

/** Takes blocks `from <= block < to` out of `extents`. */
export function cutExtents(extents: readonly Extent[], from: number, to: number): { extents: Extent[]; removed: Extent[] } {
  const kept: Extent[] = [];
  const removed: Extent[] = [];
  for (const extent of extents) {
    const cut = sliceExtent(extent, from, to);
    if (cut === undefined) {
      kept.push(extent);
      continue;
    }
    removed.push(cut);
    const before = sliceExtent(extent, 0, from);
    const after = sliceExtent(extent, to, Number.MAX_SAFE_INTEGER);
    if (before !== undefined) kept.push(before);
    if (after !== undefined) kept.push(after);
  }
  return { extents: kept, removed };
}
