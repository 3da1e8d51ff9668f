import { type Clock, decodeSections, type Logger, NO_SLOTS, type RpcPeer, SLOTS, type SlotMask, sleep, withSlot } from "@dazzle/core";
import { type QueuedSection, type Shipment, SlotQueue } from "./slot-queue.ts";

export const RETRY_MS = 100;
/** Shipments on the wire to one manager at once: more than a round trip's worth gains nothing. */
const SHIPMENTS_IN_FLIGHT = 8;

export interface ShippingEvents {
  /** `applied` or `stable` of a slot grew. */
  progressed(): void;
  /** A slot has something to ship, and its manager is not known to serve it. */
  unattached(slot: SlotQueue): void;
  /** A manager refused a shipment, or did not answer: what was sent on this connection is sent again once its slots are attached anew. */
  refused(peer: RpcPeer, error: Error): void;
}

/** Ships the transactions of stable segments: to each manager one message a segment, with the sections of the slots that it serves. */
export class Shipping {
  readonly #mount: number;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #trimmedTo: () => number;
  readonly #events: ShippingEvents;
  readonly slots: readonly SlotQueue[] = Array.from({ length: SLOTS }, (_, slot) => new SlotQueue(slot));
  readonly #inFlight = new WeakMap<RpcPeer, number>();
  #closed = false;
  /** Shipments sent. */
  sent = 0;

  constructor(options: { mount: number; clock: Clock; logger: Logger; trimmedTo: () => number; events: ShippingEvents }) {
    this.#mount = options.mount;
    this.#clock = options.clock;
    this.#logger = options.logger;
    this.#trimmedTo = options.trimmedTo;
    this.#events = options.events;
  }

  /** Queues a stable segment's transaction, in log order. It must not be changed any more. */
  ship(sequence: number, group: number, groupVersion: number, transaction: Buffer): void {
    let touched: SlotMask = NO_SLOTS;
    const found: Array<{ queue: SlotQueue; start: number; end: number }> = [];
    let start = 0;
    for (const { slot, whole } of decodeSections(transaction)) {
      touched = withSlot(touched, slot);
      found.push({ queue: this.slots[slot] as SlotQueue, start, end: start + whole.length });
      start += whole.length;
    }
    const shipment: Shipment = { sequence, group, groupVersion, touched, transaction };
    const peers = new Set<RpcPeer>();
    for (const { queue, start: from, end } of found) {
      queue.push(shipment, from, end);
      if (queue.peer === null || queue.peer.closed) this.#events.unattached(queue);
      else peers.add(queue.peer);
    }
    for (const peer of peers) this.pump(peer);
  }

  /** Sends what may be sent on a connection. */
  pump(peer: RpcPeer): void {
    if (this.#closed || peer.closed) return;
    for (let inFlight = this.#inFlight.get(peer) ?? 0; inFlight < SHIPMENTS_IN_FLIGHT; inFlight++) {
      const queues = this.#next(peer);
      if (queues.length === 0) return;
      this.#inFlight.set(peer, inFlight + 1);
      void this.#send(
        peer,
        queues,
        queues.map((queue) => queue.take()),
      );
    }
  }

  /** The slots that are due with the oldest shipment that was not sent. */
  #next(peer: RpcPeer): SlotQueue[] {
    let queues: SlotQueue[] = [];
    let oldest = Number.POSITIVE_INFINITY;
    for (const queue of this.slots) {
      if (queue.peer !== peer) continue;
      const sequence = queue.next?.shipment.sequence ?? Number.POSITIVE_INFINITY;
      if (sequence > oldest || sequence === Number.POSITIVE_INFINITY) continue;
      if (sequence < oldest) queues = [];
      oldest = sequence;
      queues.push(queue);
    }
    return queues;
  }

  async #send(peer: RpcPeer, queues: readonly SlotQueue[], sections: readonly QueuedSection[]): Promise<void> {
    const { shipment } = sections[0] as QueuedSection;
    const { sequence, group, groupVersion, touched } = shipment;
    const request = {
      mount: this.#mount,
      sequence,
      slots: queues.map(({ slot }) => slot),
      previous: sections.map(({ previous }) => previous),
      touchedLow: touched.low,
      touchedHigh: touched.high,
      group,
      groupVersion,
      trimmedTo: this.#trimmedTo(),
    };
    const terms = queues.map(({ term }) => term);
    this.sent++;
    try {
      const { reply } = await peer.call("ship", request, { tail: piecesOf(sections) });
      this.#landed(peer);
      for (const [index, queue] of queues.entries()) {
        // Another manager, or incarnation, may have taken the slot over meanwhile.
        if (queue.peer === peer && queue.term === terms[index]) queue.learn(reply.applied[index] ?? 0, reply.stable[index] ?? 0);
      }
      this.#events.progressed();
    } catch (error) {
      this.#landed(peer);
      if (this.#closed) return;
      if (queues.some((queue) => queue.peer === peer)) {
        const reason = (error as Error).message;
        this.#logger("warning", "a transaction is shipped again", { log: this.#mount, sequence, reason });
        this.detach(peer);
        await sleep(this.#clock, RETRY_MS);
        this.#events.refused(peer, error as Error);
      }
    }
    this.pump(peer);
  }

  #landed(peer: RpcPeer): void {
    this.#inFlight.set(peer, (this.#inFlight.get(peer) ?? 1) - 1);
  }

  /** A connection ended, or what was sent on it was refused: all that was not answered is sent again, in order. */
  detach(peer: RpcPeer): void {
    for (const queue of this.slots) if (queue.peer === peer) queue.detach();
  }

  /** Everything of the log up to here is stable at every manager concerned (rule 24), where all before `stableSequence` was shipped. */
  trimmable(stableSequence: number): number {
    let trimmed = stableSequence;
    for (const queue of this.slots) trimmed = Math.min(trimmed, queue.firstUnstable - 1);
    return trimmed;
  }

  close(reason: Error): void {
    this.#closed = true;
    for (const queue of this.slots) queue.close(reason);
  }
}

/** The sections' bytes, by reference: those that lie one behind the other in one piece. */
function piecesOf(sections: readonly QueuedSection[]): Buffer[] {
  const { transaction } = (sections[0] as QueuedSection).shipment;
  const pieces: Buffer[] = [];
  for (let first = 0; first < sections.length; ) {
    let last = first;
    while (sections[last + 1]?.start === sections[last]?.end) last++;
    pieces.push(transaction.subarray(sections[first]?.start, sections[last]?.end));
    first = last + 1;
  }
  return pieces;
}
