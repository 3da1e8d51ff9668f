import type { FragmentKey, Logger } from "@dazzle/core";
import { keyOf, nameOf } from "./entry.ts";
import type { FoundDamaged } from "./recover.ts";

/** Damaged fragments counted apart; beyond that the count stands still. */
const DAMAGED_MAX = 10_000;

/** The stored fragments that are known to be damaged now. Each is told in the log once. */
export class Damages {
  readonly #logger: Logger;
  /** By name; null where a start found a record of which not even the key can be read. */
  readonly #found: Map<string, FragmentKey | null>;
  readonly #listeners: Array<(key: FragmentKey) => void> = [];

  /** `found`: what a start came across, and has told. */
  constructor(logger: Logger, found: FoundDamaged) {
    this.#logger = logger;
    this.#found = new Map(found);
  }

  get count(): number {
    return this.#found.size;
  }

  has(key: FragmentKey): boolean {
    return this.#found.has(nameOf(key));
  }

  /** Calls `listener` with each that is known, and with each that is found or suspected from now on. */
  onSuspect(listener: (key: FragmentKey) => void): void {
    this.#listeners.push(listener);
    for (const key of this.#found.values()) if (key !== null) listener(key);
  }

  add(key: FragmentKey, reason: string): void {
    const name = nameOf(key);
    if (this.#found.has(name) || this.#found.size >= DAMAGED_MAX) return;
    this.#found.set(name, keyOf(key));
    this.#logger("error", "a stored fragment is damaged", { fragment: name, reason });
    this.suspect(key);
  }

  /** It may be damaged: somebody should look. */
  suspect(key: FragmentKey): void {
    for (const listener of this.#listeners) listener(key);
  }

  /** It was deleted, or is whole again. */
  forget(key: FragmentKey): void {
    this.#found.delete(nameOf(key));
  }
}
