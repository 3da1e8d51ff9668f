import { findGroupVersion, isDazzleError, type Limits, type Logger, someAtOnce } from "@dazzle/core";
import { type HeldSegment, type LogListing, LogReader, listLog, restoreSegment } from "@dazzle/log";
import type { Reach } from "./managers.ts";
import type { Finding } from "./problems.ts";

const SEGMENTS_AT_ONCE = 4;

/** Makes good what parity can: segments with missing fragments are written again whole under the current version of their group, from fragments of which every byte
 * is verified; a server with a damaged fragment is told, and repairs it by itself. Nothing is deleted or written over. */
export class Repair {
  readonly #reach: Reach;
  readonly #limits: Limits;
  readonly #logger: Logger;
  readonly #reader: LogReader;

  constructor(reach: Reach, limits: Limits, logger: Logger) {
    this.#reach = reach;
    this.#limits = limits;
    this.#logger = logger;
    this.#reader = new LogReader(this.#options);
  }

  get #options() {
    const { map, peers, clock } = this.#reach;
    return { map, peers, limits: this.#limits, ports: { clock, logger: this.#logger } };
  }

  /** Tries it for each. What came of it a look tells: a segment that its writer still has to bring to its end is left to that. */
  async repair(damage: readonly Finding[], done: () => void): Promise<void> {
    for (const [log, ofLog] of grouped(damage, ({ subject }) => subject.log as number))
      await this.#repairLog(log, ofLog, done).catch(leaveIt);
  }

  async #repairLog(log: number, damage: readonly Finding[], done: () => void): Promise<void> {
    const bySequence = grouped(damage, ({ subject }) => subject.sequence as number);
    const listing = await listLog(this.#options, log, Math.min(...bySequence.keys()) - 1);
    const held = new Map(listing.sequences.map((segment) => [segment.sequence, segment]));
    await someAtOnce(SEGMENTS_AT_ONCE, [...bySequence], async ([sequence, ofSegment]) => {
      const segment = held.get(sequence);
      if (segment !== undefined) await this.#repairSegment(log, segment, ofSegment, listing).catch(leaveIt);
      done();
    });
  }

  async #repairSegment(log: number, segment: HeldSegment, damage: readonly Finding[], told: LogListing): Promise<void> {
    const { sequence, group, groupVersion, dataFragments, payloadBytes } = segment;
    const { map, peers } = this.#reach;
    for (const { problem, subject } of damage) {
      const member = map.current.members.find(({ name }) => name === subject.server)?.id;
      if (problem !== "fragmentDamaged" || member === undefined) continue;
      await peers.call(member, "verifyFragment", { log, sequence, group, groupVersion, index: subject.index as number });
    }
    if (!damage.some(({ problem }) => problem === "fragmentMissing")) return;
    const row = findGroupVersion(map.current, group, groupVersion);
    if (row === undefined) return;
    const version = { group, row, lastSequence: sequence };
    const readable = [{ version, dataFragments, payloadBytes, complete: false }];
    await restoreSegment({ ...this.#options, log, reader: this.#reader }, told, { sequence, readable, beyond: false });
  }
}

function leaveIt(error: unknown): void {
  if (!isDazzleError(error)) throw error;
}

function grouped(damage: readonly Finding[], by: (finding: Finding) => number): Map<number, Finding[]> {
  const groups = new Map<number, Finding[]>();
  for (const finding of damage) {
    const group = groups.get(by(finding));
    if (group === undefined) groups.set(by(finding), [finding]);
    else group.push(finding);
  }
  return groups;
}
