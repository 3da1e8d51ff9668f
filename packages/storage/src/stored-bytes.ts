import { type FragmentHeader, SegmentClass } from "@dazzle/core";

/** What a server has stored since it was started, in bytes. By who wrote it: of payloads, without parity; in all: with parity and headers. */
export interface StoredTally {
  readonly mounts: number;
  readonly cleaners: number;
  readonly managers: number;
  /** Moved into another version of a group, rebuilt, or made whole for a log that ended. */
  readonly restored: number;
  readonly all: number;
}

export class StoredBytes {
  #tally: StoredTally = { mounts: 0, cleaners: 0, managers: 0, restored: 0, all: 0 };

  get tally(): StoredTally {
    return this.#tally;
  }

  /** `bytes`: of the fragment, with its header. */
  add({ dataFragments, parityFragments, class: of }: FragmentHeader, how: { readonly bytes: number; readonly restored: boolean }): void {
    const writer = how.restored
      ? "restored"
      : of === SegmentClass.cleaner
        ? "cleaners"
        : of === SegmentClass.system
          ? "managers"
          : "mounts";
    const share = dataFragments / (dataFragments + parityFragments);
    const { [writer]: before, all } = this.#tally;
    this.#tally = { ...this.#tally, [writer]: before + how.bytes * share, all: all + how.bytes };
  }
}
