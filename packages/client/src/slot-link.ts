import type { CallResult, MemberId, MessageName, Request } from "@dazzle/core";
import type { Managers } from "./managers.ts";
import type { SlotQueue } from "./slot-queue.ts";

/** A slot's manager, whoever that is: what is asked of it, and what this mount owes it. */
export class SlotLink {
  readonly slot: number;
  readonly #managers: Managers;
  readonly #queue: SlotQueue;

  constructor(managers: Managers, queue: SlotQueue) {
    this.slot = queue.slot;
    this.#managers = managers;
    this.#queue = queue;
  }

  /** The member that the map names. Throws `notReady` where there is none. */
  get member(): MemberId {
    return this.#managers.memberOf(this.slot);
  }

  /** A request to the slot's manager, tried again until the deadline where that one is away, starting, or not the manager any more.
   * A function is called for what is asked whenever it is sent. */
  call<Name extends MessageName>(message: Name, request: Request<Name> | (() => Request<Name>)): Promise<CallResult<Name>> {
    return this.#managers.call(this.slot, message, request);
  }

  /** As `call`, one attempt. */
  callOnce<Name extends MessageName>(message: Name, request: Request<Name>): Promise<CallResult<Name>> {
    return this.#managers.callOnce(this.slot, message, request);
  }

  /** The last sequence with anything for this slot. */
  get lastQueued(): number {
    return this.#queue.lastQueued;
  }

  /** Up to here the slot's manager has applied the log. */
  get applied(): number {
    return this.#queue.applied;
  }

  /** Resolves when the manager has applied everything up to `sequence` that concerns the slot. */
  whenApplied(sequence: number): Promise<void> {
    return this.#managers.whenApplied(this.slot, sequence);
  }
}

/** What is to be said of several index numbers, in one message to each manager. Throws `notReady` where there is none. */
export function byManager(
  inos: readonly number[],
  links: (ino: number) => SlotLink,
): Iterable<{ readonly link: SlotLink; readonly inos: number[] }> {
  const rows = new Map<MemberId, { readonly link: SlotLink; readonly inos: number[] }>();
  for (const ino of inos) {
    const link = links(ino);
    const row = rows.get(link.member);
    if (row === undefined) rows.set(link.member, { link, inos: [ino] });
    else row.inos.push(ino);
  }
  return rows.values();
}
