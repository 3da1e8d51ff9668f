import type { GroupVersionRow } from "@dazzle/core";
import { memberName } from "./listing.ts";
import type { LogOptions } from "./options.ts";

interface SupersededSet {
  readonly group: number;
  readonly row: GroupVersionRow;
  readonly sequences: Set<number>;
}

/** Sets of fragments that were given up when their segments were written again under a newer group version, or in another group. They are deleted
 * once trimmed-to has passed them: above it, absence of a fragment must prove that it was never stable there (rule 1). What
 * a server misses here goes when the segment itself is deleted. */
export class SupersededSets {
  readonly #options: LogOptions;
  readonly #log: number;
  readonly #sets = new Map<string, SupersededSet>();

  constructor(options: LogOptions, log: number) {
    this.#options = options;
    this.#log = log;
  }

  add(sequence: number, group: number, row: GroupVersionRow): void {
    const key = `${group} ${row.version}`;
    let set = this.#sets.get(key);
    if (set === undefined) {
      set = { group, row, sequences: new Set() };
      this.#sets.set(key, set);
    }
    set.sequences.add(sequence);
  }

  /** What was given up there is where the segment lies in the end: it went to another group and came back. */
  kept(sequence: number, group: number, version: number): void {
    this.#sets.get(`${group} ${version}`)?.sequences.delete(sequence);
  }

  trimmed(trimmedTo: number): void {
    for (const [key, set] of this.#sets) {
      const { sequences } = set;
      const passed = [...sequences].filter((sequence) => sequence <= trimmedTo);
      for (const sequence of passed) sequences.delete(sequence);
      if (sequences.size === 0) this.#sets.delete(key);
      if (passed.length > 0) this.#delete(set, passed, trimmedTo);
    }
  }

  #delete({ group, row }: SupersededSet, sequences: readonly number[], trimmedTo: number): void {
    const { peers, limits, ports } = this.#options;
    const request = { log: this.#log, sequences, trimmedTo, group, groupVersion: row.version };
    for (const { member } of row.servers)
      peers.call(member, "delete", request, { deadlineMs: limits.requestDeadlineMs }).catch((error: Error) => {
        ports.logger("info", "superseded fragments stay until their segments are deleted", {
          log: this.#log,
          server: memberName(this.#options, member),
          reason: error.message,
        });
      });
  }
}
