import { assert } from "@dazzle/core";
import type { SegmentBytes } from "./imap/run-table.ts";

/** How many bytes of sorted runs lie in the segments of managers' logs: those segments are live (rule 25). */
export class RunSegments {
  readonly #bytes = new Map<number, Map<number, number>>();
  readonly #onEmptied: (log: number, sequence: number) => void;

  constructor(onEmptied: (log: number, sequence: number) => void) {
    this.#onEmptied = onEmptied;
  }

  has(log: number, sequence: number): boolean {
    return this.#bytes.get(log)?.has(sequence) ?? false;
  }

  /** The sequences of a log that hold run bytes. */
  ofLog(log: number): Iterable<number> {
    return this.#bytes.get(log)?.keys() ?? [];
  }

  *all(): Generator<readonly [log: number, sequence: number]> {
    for (const log of [...this.#bytes.keys()].sort((one, other) => one - other))
      for (const sequence of [...this.ofLog(log)].sort((one, other) => one - other)) yield [log, sequence];
  }

  add({ log, sequence, bytes }: SegmentBytes): void {
    let segments = this.#bytes.get(log);
    if (segments === undefined) {
      segments = new Map();
      this.#bytes.set(log, segments);
    }
    segments.set(sequence, (segments.get(sequence) ?? 0) + bytes);
  }

  remove({ log, sequence, bytes }: SegmentBytes): void {
    const segments = this.#bytes.get(log);
    const left = (segments?.get(sequence) ?? 0) - bytes;
    assert(segments !== undefined && left >= 0, `segment ${log}/${sequence} has the run bytes that go`);
    if (left > 0) {
      segments.set(sequence, left);
      return;
    }
    segments.delete(sequence);
    if (segments.size === 0) this.#bytes.delete(log);
    this.#onEmptied(log, sequence);
  }
}
