import { slotOf } from "@dazzle/core";
import type { NamedEntry } from "../imap/imap.ts";

/** Changes kept in memory, of all directories together: some 100 bytes each. */
const CHANGES_MAX = 131_072;
const DIRECTORIES_MAX = 1_024;
/** Told at once: who has missed more asks for the names anew. */
const TOLD_MAX = 16_384;

/** A name as it was set, or, with child 0, removed. */
interface Change extends NamedEntry {
  /** The manager's count of revokes when it was applied. */
  readonly count: number;
}

interface Directory {
  /** Every change since the revoke of that count, or of a later one, is here. */
  from: number;
  // INVARIANT: by `count`, ascending.
  changes: Change[];
}

/** What changed of late in directories that pass from mount to mount, so that a mount which held one before need not ask for its names anew. A
 * mount knows all that was applied before it was asked to give the directory back; so the manager's count of that revoke says what it lacks. */
export class NameChanges {
  // By the time when they passed on last.
  readonly #directories = new Map<number, Directory>();
  readonly #limits: { readonly changes: number; readonly directories: number; readonly told: number };
  #total = 0;

  constructor(limits = { changes: CHANGES_MAX, directories: DIRECTORIES_MAX, told: TOLD_MAX }) {
    this.#limits = limits;
  }

  /** A mount is asked to give the object back, by the revoke of this count. */
  passes(ino: number, count: number): void {
    const directory = this.#directories.get(ino) ?? { from: count, changes: [] };
    this.#directories.delete(ino);
    this.#directories.set(ino, directory);
    if (this.#directories.size > this.#limits.directories) this.#drop(this.#oldest);
  }

  get #oldest(): number {
    return this.#directories.keys().next().value as number;
  }

  /** A transaction was applied that sets a name, or, with child 0, removes it. */
  changed(ino: number, count: number, { name, child, type }: NamedEntry): void {
    const directory = this.#directories.get(ino);
    if (directory === undefined) return;
    directory.changes.push({ name, child, type, count });
    if (++this.#total <= this.#limits.changes) return;
    if (this.#directories.size > 1) this.#drop(this.#oldest);
    else this.#halve(directory);
  }

  #halve(directory: Directory): void {
    const dropped = directory.changes.splice(0, Math.ceil(directory.changes.length / 2));
    this.#total -= dropped.length;
    directory.from = (dropped.at(-1) as Change).count + 1;
  }

  #drop(ino: number): void {
    this.#total -= this.#directories.get(ino)?.changes.length ?? 0;
    this.#directories.delete(ino);
  }

  /** The last change of each name that was applied since the revoke of count `since`, `now` being the present one. Undefined where that is not known. */
  since(ino: number, since: number, now: number): readonly NamedEntry[] | undefined {
    const directory = this.#directories.get(ino);
    // Another manager may count higher.
    if (directory === undefined || since < directory.from || since > now) return undefined;
    const last = new Map<string, NamedEntry>();
    const { changes } = directory;
    for (let place = changes.length - 1; place >= 0; place--) {
      const change = changes[place] as Change;
      if (change.count < since) break;
      if (last.has(change.name)) continue;
      if (last.size === this.#limits.told) return undefined;
      last.set(change.name, change);
    }
    return [...last.values()];
  }

  /** The slot is with another manager: what changes there is not seen here any more. */
  dropSlot(slot: number): void {
    for (const ino of this.#directories.keys()) if (slotOf(ino) === slot) this.#drop(ino);
  }
}
