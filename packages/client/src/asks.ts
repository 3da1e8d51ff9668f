import { slotOf } from "@dazzle/core";

/** A question that may bring tokens, and what was revoked while its answer was on its way. */
export interface Ask {
  /** Slots whose manager changed meanwhile: what the manager before granted there is not known to the one after. */
  readonly moved: Set<number>;
  /** By index number: the manager's count of the revoke. */
  readonly revoked: Map<number, number>;
}

/** Questions under way. A manager may take a token back before its answer that granted it has arrived: the grant is void then. */
export class Asks {
  readonly #underWay = new Set<Ask>();

  async ask<T>(question: (ask: Ask) => Promise<T>): Promise<T> {
    const ask: Ask = { moved: new Set(), revoked: new Map() };
    this.#underWay.add(ask);
    try {
      return await question(ask);
    } finally {
      this.#underWay.delete(ask);
    }
  }

  revoked(ino: number, count: number): void {
    for (const { revoked } of this.#underWay) revoked.set(ino, count);
  }

  /** Another manager has the slots, and is told what is held there now. */
  moved(slots: Iterable<number>): void {
    for (const slot of slots) for (const ask of this.#underWay) ask.moved.add(slot);
  }

  /** Whether a token that was granted under this count was taken back since. */
  static isVoid(ask: Ask, ino: number, grant: number): boolean {
    return ask.moved.has(slotOf(ino)) || (ask.revoked.get(ino) ?? 0) > grant;
  }
}
