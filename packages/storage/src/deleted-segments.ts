import type { FragmentKey } from "@dazzle/core";

/** More than movers and recoveries have on their way. */
const REMEMBERED_MAX = 16_384;

/** Segments that were deleted under every version, the latest: nobody needs them ever again, and who had read one before to write it elsewhere comes too late. */
export class DeletedSegments {
  // INVARIANT: the latest comes last.
  readonly #names = new Set<string>();

  add(log: number, sequences: readonly number[]): void {
    for (const sequence of sequences) {
      const name = nameOf(log, sequence);
      this.#names.delete(name);
      this.#names.add(name);
    }
    for (const name of this.#names) {
      if (this.#names.size <= REMEMBERED_MAX) break;
      this.#names.delete(name);
    }
  }

  has({ log, sequence }: Pick<FragmentKey, "log" | "sequence">): boolean {
    return this.#names.has(nameOf(log, sequence));
  }
}

function nameOf(log: number, sequence: number): string {
  return `${log}/${sequence}`;
}
