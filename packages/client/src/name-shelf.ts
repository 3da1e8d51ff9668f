import type { Child } from "./node.ts";

const DIRECTORIES_MAX = 256;
/** Of all directories together: some 100 bytes each. */
const NAMES_MAX = 250_000;

/** What was known of a directory's names when its token was given back. */
export interface ShelvedNames {
  readonly names: Map<string, Child>;
  /** As a directory's state has it. */
  readonly knownTo: string;
  /** The manager's count of the revoke that took the token: what was applied before it is in here. */
  readonly since: number;
}

/** Names of directories whose tokens other mounts took: kept, as far as there is room, until the token is here again and the manager tells what
 * changed meanwhile. */
export class NameShelf {
  // Least recently given back first.
  readonly #directories = new Map<number, ShelvedNames>();
  readonly #limits: { readonly directories: number; readonly names: number };
  #names = 0;

  constructor(limits = { directories: DIRECTORIES_MAX, names: NAMES_MAX }) {
    this.#limits = limits;
  }

  put(ino: number, shelved: ShelvedNames): void {
    this.take(ino);
    if (shelved.names.size > this.#limits.names) return;
    this.#directories.set(ino, shelved);
    this.#names += shelved.names.size;
    while (this.#names > this.#limits.names || this.#directories.size > this.#limits.directories)
      this.take(this.#directories.keys().next().value as number);
  }

  /** Whoever takes it may change it. */
  take(ino: number): ShelvedNames | null {
    const shelved = this.#directories.get(ino);
    if (shelved === undefined) return null;
    this.#directories.delete(ino);
    this.#names -= shelved.names.size;
    return shelved;
  }
}
