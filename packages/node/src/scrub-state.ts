import { type Disk, type FragmentKey, isDazzleError } from "@dazzle/core";
import type { Upkeep } from "@dazzle/storage";

const FILE = "scrub";
const FORMAT = 1;

/** What was verified from one start on. Times in milliseconds since 1970. */
export interface Pass {
  readonly startedMs: number;
  fragments: number;
  bytes: number;
  /** Damaged ones that were found in it. */
  damaged: number;
}

export interface PassUnderWay extends Pass {
  /** What lies before it is verified; what is stored later, in the next pass. */
  readonly until: Upkeep["head"];
  /** Everything up to it is done; null at the start. */
  after: FragmentKey | null;
  /** As somebody asked for it: not held back as much. */
  readonly fast: boolean;
}

export interface FinishedPass extends Pass {
  readonly endedMs: number;
}

/** What a server remembers over its restarts. */
export interface ScrubState {
  readonly format: typeof FORMAT;
  /** How many passes were begun. */
  passes: number;
  pass: PassUnderWay | null;
  last: FinishedPass | null;
  /** Since the store was made. */
  damaged: number;
  repaired: number;
  /** What is damaged now, as far as it is known. */
  known: FragmentKey[];
}

/** Reads the file `scrub`. What is not readable is begun anew: it only tells what was verified. */
export async function readScrubState(disk: Disk): Promise<ScrubState> {
  try {
    const bytes = await disk.readWhole(FILE);
    const state = bytes === undefined ? undefined : (JSON.parse(Buffer.from(bytes).toString()) as ScrubState);
    if (state?.format === FORMAT) return state;
  } catch (error) {
    if (!(error instanceof SyntaxError) && !isDazzleError(error)) throw error;
  }
  return { format: FORMAT, passes: 0, pass: null, last: null, damaged: 0, repaired: 0, known: [] };
}

export function writeScrubState(disk: Disk, state: ScrubState): Promise<void> {
  return disk.replace(FILE, Buffer.from(JSON.stringify(state)));
}
