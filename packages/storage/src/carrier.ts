import type { FragmentKey, Request } from "@dazzle/core";
import type { Damages } from "./damages.ts";
import { type Entry, nameOf, sameKey } from "./entry.ts";
import type { FencedFragment } from "./fence.ts";
import type { FragmentIndex } from "./fragment-index.ts";
import type { Pending } from "./pending.ts";

/** Sequences carried over in one commit, so that none holds up the others for long. */
const CARRY_SEQUENCES = 256;

interface CarrierParts {
  readonly clusterId: string;
  readonly index: FragmentIndex;
  readonly pending: Pending;
  readonly damages: Damages;
  /** Resolves when everything stored so far is in the index. */
  readonly settle: () => Promise<void>;
}

/** Gives fragments another key beside the one they have: the record stays where it is, and is dead once it has no key any more. */
export class Carrier {
  readonly #parts: CarrierParts;
  /** What is committed now, by name. */
  #carrying: { readonly names: ReadonlySet<string>; readonly committed: Promise<unknown> } | null = null;

  constructor(parts: CarrierParts) {
    this.#parts = parts;
  }

  /** Whether a fragment gets this key at the moment: what is stored under it meanwhile would have it twice. */
  isCarrying(key: FragmentKey): boolean {
    return this.#carrying?.names.has(nameOf(key)) ?? false;
  }

  /** Resolves when what is carried over at the moment is in the index. */
  async carried(): Promise<void> {
    await this.#carrying?.committed;
  }

  /** As the message `carry` has it. Throws what `check` throws of any fragment. */
  async carry(request: Request<"carry">, check: (fragment: FencedFragment) => void): Promise<number[]> {
    const { index, pending, settle } = this.#parts;
    if (request.sequences.some((sequence) => pending.segment(request.log, sequence).length > 0)) await settle();
    const carried: number[] = [];
    for (let at = 0; at < request.sequences.length; at += CARRY_SEQUENCES) {
      const sequences = new Set(request.sequences.slice(at, at + CARRY_SEQUENCES));
      await index.exclusive(async () => {
        const added: Entry[] = [];
        for (const sequence of sequences) if (this.#find(request, sequence, check, added)) carried.push(sequence);
        index.logs.raise(request.log, request.stableSequence, request.trimmedTo);
        const committing = index.commit({ added });
        const committed = committing
          .catch(() => {})
          .finally(() => {
            this.#carrying = null;
          });
        this.#carrying = { names: new Set(added.map(nameOf)), committed };
        await committing;
      });
    }
    return carried;
  }

  /** Whether the segment has something under the version to which it is carried, on disk, with what is `added` now. What is known to be damaged is not
   * carried over: it is to be written anew there. */
  #find(
    { log, group, from, to, trimmedTo }: Request<"carry">,
    sequence: number,
    check: (fragment: FencedFragment) => void,
    added: Entry[],
  ): boolean {
    const { clusterId, index, pending, damages } = this.#parts;
    const held = index.segment(log, sequence).filter((entry) => entry.group === group);
    const carried = held.filter(({ groupVersion }) => groupVersion === from).map((entry): Entry => ({ ...entry, groupVersion: to }));
    for (const entry of carried) check({ ...entry, trimmedTo, clusterId });
    const missing = carried.filter((entry) => !held.some((other) => sameKey(other, entry)));
    // What is being stored under that key is not on disk yet.
    if (missing.some((entry) => pending.find(entry) !== undefined || damages.has({ ...entry, groupVersion: from }))) return false;
    added.push(...missing);
    return carried.length > 0 || held.some(({ groupVersion }) => groupVersion === to);
  }
}
