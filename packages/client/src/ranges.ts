import { NO_REGIONS, type RegionRange, WHOLE_FILE } from "@dazzle/core";
import type { Node } from "./node.ts";

/** What another mount wants: a look, or these regions. */
export interface Asked {
  readonly keepShared: boolean;
  readonly wanted: RegionRange;
  /** Of the manager's revoke: see `Asks`. 0: nobody asked. */
  readonly count: number;
}

export const UNASKED: Asked = { keepShared: false, wanted: WHOLE_FILE, count: 0 };

/** Whoever wrote to a file so lately is taken to go on. */
const WRITING_MS = 1_000;

/** What a mount keeps of a file that it has alone, as a whole or in part, when another one wants to write `wanted`. Writers go upwards: one below keeps what
 * lies before the other, one above what lies from its place on. A mount that writes where the other wants to, or not at all, keeps nothing. */
export function keptBeside({ token, range, written }: Node, wanted: RegionRange, nowMs: number): RegionRange {
  if (token === "shared" || written === null || nowMs - written.atMs > WRITING_MS) return NO_REGIONS;
  const { region } = written;
  if (region < range.from || region >= range.to) return NO_REGIONS;
  if (region < wanted.from) return { from: range.from, to: Math.min(range.to, wanted.from) };
  if (region >= wanted.to) return { from: region, to: range.to };
  return NO_REGIONS;
}
