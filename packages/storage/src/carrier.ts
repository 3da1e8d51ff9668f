import type { Request } from "@dazzle/core";
import { type Entry, sameKey } from "./entry.ts";
import type { FencedFragment } from "./fence.ts";
import type { FragmentIndex } from "./fragment-index.ts";
import type { Pending } from "./pending.ts";

/** Sequences carried over in one commit, so that none holds up the others for long. */
const CARRY_SEQUENCES = 256;

interface CarrierParts {
  readonly clusterId: string;
  readonly index: FragmentIndex;
  readonly pending: Pending;
  /** Resolves when everything stored so far is in the index. */
  readonly settle: () => Promise<void>;
}

/** Gives fragments another key beside the one they have: the record stays where it is, and is dead once it has no key any more. */
export class Carrier {
  readonly #parts: CarrierParts;
  #carrying: Promise<unknown> | null = null;

  constructor(parts: CarrierParts) {
    this.#parts = parts;
  }

  /** Resolves in the step in which nothing is carried over: what is stored in it is not carried over at the same time. */
  async idle(): Promise<void> {
    while (this.#carrying !== null) await this.#carrying;
  }

  /** As the message `carry` has it. Throws what `check` throws of any fragment. */
  async carry(request: Request<"carry">, check: (fragment: FencedFragment) => void): Promise<number[]> {
    const { index, settle } = this.#parts;
    await settle();
    const carried: number[] = [];
    for (let at = 0; at < request.sequences.length; at += CARRY_SEQUENCES) {
      const sequences = new Set(request.sequences.slice(at, at + CARRY_SEQUENCES));
      await index.exclusive(async () => {
        const added: Entry[] = [];
        for (const sequence of sequences) if (this.#find(request, sequence, check, added)) carried.push(sequence);
        index.logs.raise(request.log, request.stableSequence, request.trimmedTo);
        const committing = index.commit({ added });
        this.#carrying = committing
          .catch(() => {})
          .finally(() => {
            this.#carrying = null;
          });
        await committing;
      });
    }
    return carried;
  }

  /** Whether the segment has something under the version to which it is carried, with what is `added` now. */
  #find(
    { log, group, from, to, trimmedTo }: Request<"carry">,
    sequence: number,
    check: (fragment: FencedFragment) => void,
    added: Entry[],
  ): boolean {
    const { clusterId, index, pending } = this.#parts;
    const held = index.segment(log, sequence).filter((entry) => entry.group === group);
    let isThere = false;
    for (const entry of held) {
      if (entry.groupVersion !== from) continue;
      const carried: Entry = { ...entry, groupVersion: to };
      check({ ...carried, trimmedTo, clusterId });
      isThere = true;
      if (!held.some((other) => sameKey(other, carried)) && pending.find(carried) === undefined) added.push(carried);
    }
    return isThere || held.some(({ groupVersion }) => groupVersion === to);
  }
}
