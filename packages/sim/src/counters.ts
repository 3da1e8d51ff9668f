/** Everything bad that a simulation can do, so that a test can prove that each happened. */
export const FAULTS = [
  "kill",
  "powerCut",
  "freeze",
  "wallClockJump",
  "connectRefused",
  "connectHung",
  "connectionCut",
  "connectionReset",
  "closeUnheard",
  "frameLost",
  "framesHeld",
  "tailRecut",
  "tailReused",
  "readError",
  "writeError",
  "syncError",
  "commitError",
  "noSpace",
  "bitFlip",
  "writeMissed",
  "writeTorn",
  "sectorLost",
  "sectorKept",
  "truncateLost",
  "punchLost",
  "entryLost",
  "entryKept",
  "replaceInterrupted",
  "commitLost",
  "commitKept",
  "readNowMissed",
] as const;

export type Fault = (typeof FAULTS)[number];

/** How often each fault happened. */
export class Counters {
  readonly #counts = new Map<Fault, number>();

  count(fault: Fault, times = 1): void {
    this.#counts.set(fault, this.of(fault) + times);
  }

  of(fault: Fault): number {
    return this.#counts.get(fault) ?? 0;
  }

  all(): Readonly<Partial<Record<Fault, number>>> {
    return Object.fromEntries([...this.#counts].sort());
  }
}
