import type { OrderedStore } from "@dazzle/core";
import { type Change, decodePair, encodePair, logKeyBytes } from "./index-layout.ts";

/** Logs in memory beyond those that are to be committed. */
const LOGS_CACHED_MAX = 1_024;

/** The highest that any header or delete of the log told. */
export interface LogMarks {
  readonly stableSequence: number;
  readonly trimmedTo: number;
}

/** The marks of every log that anything was stored of: a row of the index each, the latest in memory. */
export class LogTable {
  readonly #index: OrderedStore;
  readonly #marks = new Map<number, LogMarks>();
  readonly #dirty = new Set<number>();

  constructor(index: OrderedStore) {
    this.#index = index;
  }

  marks(log: number): LogMarks {
    let marks = this.#marks.get(log);
    if (marks === undefined) {
      const row = this.#index.get(logKeyBytes(log));
      const [stableSequence, trimmedTo] = row === undefined ? [0, 0] : decodePair(row);
      marks = { stableSequence, trimmedTo };
      this.#marks.set(log, marks);
    }
    return marks;
  }

  raise(log: number, stableSequence: number, trimmedTo: number): void {
    const known = this.marks(log);
    if (stableSequence <= known.stableSequence && trimmedTo <= known.trimmedTo) return;
    this.#marks.set(log, {
      stableSequence: Math.max(stableSequence, known.stableSequence),
      trimmedTo: Math.max(trimmedTo, known.trimmedTo),
    });
    this.#dirty.add(log);
  }

  /** Whether the index lacks something. */
  get isDirty(): boolean {
    return this.#dirty.size > 0;
  }

  /** The rows that the index does not have yet. What is raised from now on is of the next call. */
  takeChanges(): Change[] {
    const changes = [...this.#dirty].map((log): Change => {
      const { stableSequence, trimmedTo } = this.marks(log);
      return [logKeyBytes(log), encodePair(stableSequence, trimmedTo)];
    });
    this.#dirty.clear();
    return changes;
  }

  /** After a commit: what was taken is in the index. */
  shrink(): void {
    if (this.#marks.size <= LOGS_CACHED_MAX) return;
    for (const log of this.#marks.keys()) if (!this.#dirty.has(log)) this.#marks.delete(log);
  }
}
