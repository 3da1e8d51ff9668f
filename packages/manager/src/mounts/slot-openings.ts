import { type Clock, isDazzleError, type MapCache, type RpcPeer, sleep } from "@dazzle/core";
import type { MountSession } from "./mount-session.ts";
import type { SlotClaims } from "./slot-claims.ts";

const RETRY_MS = 200;

/** Tells mounts that are here which slots wait for what they hold in them, at this manager or at another. */
export class SlotOpenings {
  readonly #map: MapCache;
  readonly #clock: Clock;
  readonly #claims: SlotClaims;
  #stopped = false;

  constructor(options: { map: MapCache; clock: Clock; claims: SlotClaims }) {
    this.#map = options.map;
    this.#clock = options.clock;
    this.#claims = options.claims;
  }

  /** Of the slots that are opened here. */
  tell(session: MountSession): void {
    if (session.state !== "open" || session.peer === undefined) return;
    for (const { slot, term } of this.#claims.awaitedOf(session.log)) void this.#untilClaimed(session, session.peer, slot, term);
  }

  async #untilClaimed(session: MountSession, peer: RpcPeer, slot: number, term: number): Promise<void> {
    while (!this.#stopped && session.peer === peer && !peer.closed && this.#claims.awaits(session.log, slot, term)) {
      try {
        await peer.call("slotOpening", { slot, term });
        return;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        await sleep(this.#clock, RETRY_MS);
      }
    }
  }

  /** Slots went from here to other managers, which wait for what the mounts hold in them: those that are here need not find out. */
  tellMoved(sessions: Iterable<MountSession>, slots: readonly number[]): void {
    for (const { state, peer } of sessions) {
      if (state !== "open" || peer === undefined) continue;
      for (const slot of slots)
        peer.call("slotOpening", { slot, term: this.#map.current.slots[slot]?.term ?? 0 }).catch((error: unknown) => {
          // It learns of it from the map.
          if (!isDazzleError(error)) throw error;
        });
    }
  }

  stop(): void {
    this.#stopped = true;
  }
}
