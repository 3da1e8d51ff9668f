import { DazzleError } from "@dazzle/core";
import type { Child } from "./node.ts";

export interface ListedName {
  readonly name: string;
  readonly child: Child;
}

const O_ACCMODE = 3;
const O_RDONLY = 0;

/** An open file or directory. */
export interface Handle {
  /** Its node may be given back and come again while the handle is open. */
  readonly ino: number;
  /** Flags of open(2). */
  readonly flags: number;
  /** Where a sequential reader would go on. */
  nextRead: number;
  /** A directory's names as they were when it was read from the start: cookies are places in here. They don't depend on the token, which
   * may go between two reads. */
  names: readonly ListedName[] | null;
  /** What was written through it was lost: it answers nothing but errors until it is closed. */
  lost: boolean;
  /** Up to this place, missing index nodes were asked for. */
  nodesAsked: number;
}

/** Open handles by number. */
export class Handles {
  readonly #handles = new Map<number, Handle>();
  /** How many there are of an index number. */
  readonly #counts = new Map<number, number>();
  #next = 1;

  open(ino: number, flags: number): number {
    const number = this.#next++;
    this.#handles.set(number, { ino, flags, nextRead: 0, names: null, nodesAsked: 0, lost: false });
    this.#counts.set(ino, (this.#counts.get(ino) ?? 0) + 1);
    return number;
  }

  isOpen(ino: number): boolean {
    return this.#counts.has(ino);
  }

  /** Index numbers that are open. */
  inos(): Iterable<number> {
    return this.#counts.keys();
  }

  get(number: number): Handle {
    const handle = this.#handles.get(number);
    if (handle === undefined) throw new DazzleError("badHandle", `handle ${number}`);
    if (handle.lost) throw lostThrough(handle.ino);
    return handle;
  }

  /** Flags of open(2); 0 where it is closed already. */
  flagsOf(number: number): number {
    return this.#handles.get(number)?.flags ?? 0;
  }

  /** Changes of it are lost, and whoever could have made them is told so: handles that can write, and those of a directory. Answers how many. */
  lose(ino: number, isDirectory: boolean): number {
    let lost = 0;
    for (const handle of this.isOpen(ino) ? this.#handles.values() : []) {
      if (handle.ino !== ino || handle.lost || (!isDirectory && (handle.flags & O_ACCMODE) === O_RDONLY)) continue;
      handle.lost = true;
      lost++;
    }
    return lost;
  }

  /** Throws where something that was written of it is lost, and a handle of that time is still open. */
  checkLost(ino: number): void {
    if (this.isOpen(ino)) for (const handle of this.#handles.values()) if (handle.ino === ino && handle.lost) throw lostThrough(ino);
  }

  /** Undefined where it is closed already. */
  close(number: number): Handle | undefined {
    const handle = this.#handles.get(number);
    if (handle === undefined) return undefined;
    this.#handles.delete(number);
    const left = (this.#counts.get(handle.ino) ?? 0) - 1;
    if (left > 0) this.#counts.set(handle.ino, left);
    else this.#counts.delete(handle.ino);
    return handle;
  }
}

function lostThrough(ino: number): DazzleError {
  return new DazzleError("inputOutput", `index number ${ino}: what was written was lost when this mount was expelled`);
}
