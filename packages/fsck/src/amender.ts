import { type Clock, DazzleError, isDazzleError, type MapCache, type Peers, sleep, slotOf } from "@dazzle/core";

const DEADLINE_MS = 40_000;
const RETRY_MS = 500;
/** How long nobody need answer for a slot. */
const PATIENCE_MS = 60_000;

/** An entry of an imap: what is there, and what is to be; null is none. */
export interface Change {
  readonly key: Buffer;
  readonly seen: Buffer | null;
  readonly put: Buffer | null;
}

/** Has managers change what their slots' imaps hold. */
export class Amender {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;

  constructor(options: { map: MapCache; peers: Peers; clock: Clock }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
  }

  /** Of entries of an index number, when no mount has a part in it. Answers whether all of it was as it was seen: else nothing is changed. */
  ofNumber(ino: number, changes: readonly Change[]): Promise<boolean> {
    return this.#amend(slotOf(ino), ino, changes);
  }

  /** Of entries of a slot that no mount has a part in. */
  ofSlot(slot: number, changes: readonly Change[]): Promise<boolean> {
    return this.#amend(slot, 0, changes);
  }

  async #amend(slot: number, ino: number, changes: readonly Change[]): Promise<boolean> {
    const lengths = (of: "seen" | "put") => changes.map((change) => change[of]?.length ?? -1);
    const values = (of: "seen" | "put") => changes.flatMap((change) => change[of] ?? []);
    const request = { ino, slot, keys: changes.map(({ key }) => key.toString("latin1")), seen: lengths("seen"), put: lengths("put") };
    for (const beganMs = this.#clock.nowMs(); ; ) {
      try {
        const manager = this.#map.current.slots[slot]?.manager ?? null;
        if (manager === null) throw new DazzleError("notReady", `slot ${slot} has no manager yet`);
        const tail = [...values("seen"), ...values("put")];
        return (await this.#peers.call(manager, "amend", request, { deadlineMs: DEADLINE_MS, tail })).reply.done;
      } catch (error) {
        if (!isDazzleError(error, "staleMap", "notReady", "unreachable", "timedOut")) throw error;
        if (this.#clock.nowMs() - beganMs > PATIENCE_MS)
          throw new DazzleError("unreachable", `slot ${slot} can't be repaired: ${error.message}`);
        await sleep(this.#clock, RETRY_MS);
        await this.#map.refresh().catch((failure: unknown) => {
          if (!isDazzleError(failure)) throw failure;
        });
      }
    }
  }
}
