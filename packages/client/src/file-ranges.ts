import { BLOCK_BYTES, DazzleError } from "@dazzle/core";
import type { FileData, Obstacle } from "./file-data.ts";
import type { Charge } from "./namespace.ts";
import type { Node } from "./node.ts";

const SEEK_DATA = 3;
const KEEP_SIZE = 1;
const PUNCH_HOLE = 2;
const ZERO_RANGE = 16;

interface Allocation {
  readonly mode: number;
  readonly offset: number;
  readonly length: number;
}

/** Throws where a mode of fallocate is not supported. */
export function checkAllocation(mode: number): void {
  if ((mode & ~(KEEP_SIZE | PUNCH_HOLE | ZERO_RANGE)) !== 0) throw new DazzleError("operationNotSupported", `fallocate mode ${mode}`);
}

/** Room for a range, or holes in it. Answers what is in the way; nothing has changed then but what was zeroed. */
export function allocate(data: FileData, node: Node, { mode, offset, length }: Allocation, charge: Charge): Obstacle | null {
  const end = offset + length;
  if ((mode & (PUNCH_HOLE | ZERO_RANGE)) === 0) {
    // A log has no place to keep for later: credits are what can be promised.
    charge.take(length);
  } else {
    const obstacle = zero(data, node, offset, Math.min(end, node.inode.size));
    if (obstacle !== null) return obstacle;
  }
  if ((mode & KEEP_SIZE) === 0 && end > node.inode.size) data.truncate(node, end);
  return null;
}

/** Zeros a range: whole blocks become holes, the edges are written. */
function zero(data: FileData, node: Node, from: number, to: number): Obstacle | null {
  if (from >= to) return null;
  const firstWhole = Math.ceil(from / BLOCK_BYTES);
  const lastWhole = to === node.inode.size ? Math.ceil(to / BLOCK_BYTES) : Math.floor(to / BLOCK_BYTES);
  const edges =
    firstWhole > lastWhole
      ? [[from, to]]
      : [
          [from, Math.min(firstWhole * BLOCK_BYTES, to)],
          [lastWhole * BLOCK_BYTES, to],
        ];
  for (const [start, end] of edges as [number, number][]) {
    if (start >= end) continue;
    const { written, obstacle } = data.write(node, start, Buffer.alloc(end - start));
    if (obstacle !== null) return obstacle;
    if (written < end - start) throw new DazzleError("inputOutput", "a range was zeroed in part");
  }
  data.punch(node, firstWhole, lastWhole);
  return null;
}

/** Where data (SEEK_DATA) or a hole begins, from `offset` on; or what is in the way. Throws `noSuchOffset` where none does. */
export function seek(data: FileData, node: Node, offset: number, whence: number): number | Obstacle {
  const { size } = node.inode;
  if (offset < 0 || offset >= size) throw new DazzleError("noSuchOffset", `offset ${offset}`);
  const found = data.seek(node, offset, whence === SEEK_DATA);
  if (typeof found !== "number") return found;
  if (found < 0) throw new DazzleError("noSuchOffset", `no data after ${offset}`);
  return Math.min(found, size);
}
