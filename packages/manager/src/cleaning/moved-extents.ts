import { areJoined, BLOCK_BYTES, blocksOf, type Extent, type LogAddress, type Move, sliceExtent } from "@dazzle/core";

/** Where blocks are moved to; a move says where in the segment. */
export type MoveTarget = Pick<LogAddress, "log" | "sequence" | "group" | "groupVersion">;

export interface MovedExtents {
  /** As they are then. */
  readonly extents: readonly Extent[];
  /** Bytes that moved. */
  readonly moved: number;
  /** Bytes that were at their new address before. */
  readonly there: number;
}

/** A region's extents with what of a move still is at its old address at the new one. A block moves whole: one of which the file names more bytes than were copied stays, and
 * of one that was cut meanwhile what is left moves. */
export function movedExtents(before: readonly Extent[], move: Move, target: MoveTarget): MovedExtents {
  const { fromLog: log, fromSequence: sequence, fromOffset: offset } = move;
  const extents: Extent[] = [];
  let moved = 0;
  let there = 0;
  for (const extent of before) {
    there += sliceAt(extent, move, target)?.length ?? 0;
    const part = sliceAt(extent, move, { log, sequence, offset });
    if (part === undefined) {
      extents.push(extent);
      continue;
    }
    const end = part.block + blocksOf(part.length);
    const head = sliceExtent(extent, extent.block, part.block);
    const tail = sliceExtent(extent, end, Number.MAX_SAFE_INTEGER);
    const { group, groupVersion } = target;
    const toOffset = move.offset + (part.block - move.block) * BLOCK_BYTES;
    if (head !== undefined) extents.push(head);
    extents.push({ ...part, log: target.log, sequence: target.sequence, offset: toOffset, group, groupVersion });
    if (tail !== undefined) extents.push(tail);
    moved += part.length;
  }
  return { extents: inOnePiece(extents), moved, there };
}

/** What came to lie together is one extent. */
function inOnePiece(extents: readonly Extent[]): Extent[] {
  const joined: Extent[] = [];
  for (const extent of extents) {
    const before = joined.at(-1);
    if (before !== undefined && areJoined(before, extent)) joined[joined.length - 1] = { ...before, length: before.length + extent.length };
    else joined.push(extent);
  }
  return joined;
}

/** What an extent has of `move`'s blocks at that address (of the move's first block; the move's own where no offset is given), without a last block of which the move has less. */
export function sliceAt(
  extent: Extent,
  { block, length, offset: ownOffset }: Pick<Move, "block" | "length" | "offset">,
  at: { readonly log: number; readonly sequence: number; readonly offset?: number },
): Extent | undefined {
  if (extent.log !== at.log || extent.sequence !== at.sequence) return undefined;
  if (extent.offset - extent.block * BLOCK_BYTES !== (at.offset ?? ownOffset) - block * BLOCK_BYTES) return undefined;
  const part = sliceExtent(extent, block, block + blocksOf(length));
  if (part === undefined || (part.block - block) * BLOCK_BYTES + part.length <= length) return part;
  return sliceExtent(part, block, block + blocksOf(length) - 1);
}
