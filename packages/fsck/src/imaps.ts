import { type Clock, DazzleError, isDazzleError, joined, type MapCache, type Peers, sleep } from "@dazzle/core";
import { behindPrefix, type EntryKind, RunBlock } from "@dazzle/manager";

export type ImapEntry = readonly [key: Buffer, value: Buffer];

/** What the slots' imaps hold. */
export interface Imaps {
  /** The entries of a slot behind the key `after` and before `to`, in key order. What changes meanwhile is seen as it was at some time of the reading. */
  entries(slot: number, after: Buffer, to: Buffer): AsyncIterable<ImapEntry>;
  /** The first entry of them. */
  first(slot: number, after: Buffer, to: Buffer): Promise<ImapEntry | undefined>;
}

/** All entries of a kind. */
export function entriesOf(imaps: Imaps, slot: number, kind: EntryKind): AsyncIterable<ImapEntry> {
  const prefix = Buffer.of(kind);
  return imaps.entries(slot, prefix, behindPrefix(prefix));
}

/** More than any page holds. */
const WHOLE_PAGE = 2 ** 31;
const DEADLINE_MS = 40_000;
const RETRY_MS = 500;
/** How long nobody need answer for a slot. */
const PATIENCE_MS = 60_000;

interface Page {
  readonly block: RunBlock;
  readonly more: boolean;
}

/** As the managers serve them: pages, the next one asked for while one is looked at. A slot that changes hands is read on at its next manager. */
export class ManagerImaps implements Imaps {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;

  constructor(options: { map: MapCache; peers: Peers; clock: Clock }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
  }

  async *entries(slot: number, after: Buffer, to: Buffer): AsyncGenerator<ImapEntry> {
    let next = this.#page(slot, after, to, WHOLE_PAGE);
    for (;;) {
      const { block, more } = await next;
      if (more) {
        next = this.#page(slot, block.key(block.count - 1), to, WHOLE_PAGE);
        // Where nobody comes for it.
        next.catch(() => {});
      }
      for (let index = 0; index < block.count; index++) yield [block.key(index), block.value(index) as Buffer];
      if (!more) return;
    }
  }

  async first(slot: number, after: Buffer, to: Buffer): Promise<ImapEntry | undefined> {
    const { block } = await this.#page(slot, after, to, 1);
    return block.count === 0 ? undefined : [block.key(0), block.value(0) as Buffer];
  }

  async #page(slot: number, after: Buffer, to: Buffer, limit: number): Promise<Page> {
    const request = { slot, after: after.toString("latin1"), to: to.toString("latin1"), limit };
    for (const beganMs = this.#clock.nowMs(); ; ) {
      try {
        const manager = this.#map.current.slots[slot]?.manager ?? null;
        if (manager === null) throw new DazzleError("notReady", `slot ${slot} has no manager yet`);
        const { reply, tail } = await this.#peers.call(manager, "imapPage", request, { deadlineMs: DEADLINE_MS });
        return { block: new RunBlock(joined(tail)), more: reply.more };
      } catch (error) {
        if (!isDazzleError(error, "staleMap", "notReady", "unreachable", "timedOut")) throw error;
        if (this.#clock.nowMs() - beganMs > PATIENCE_MS)
          throw new DazzleError("unreachable", `slot ${slot} can't be read: ${error.message}`);
        await sleep(this.#clock, RETRY_MS);
        await this.#map.refresh().catch((failure: unknown) => {
          if (!isDazzleError(failure)) throw failure;
        });
      }
    }
  }
}
