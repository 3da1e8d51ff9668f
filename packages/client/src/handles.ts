import { DazzleError } from "@dazzle/core";
import type { Node } from "./node.ts";

/** An open file or directory. */
export interface Handle {
  readonly node: Node;
  /** Flags of open(2). */
  readonly flags: number;
  /** Where a sequential reader would go on. */
  nextRead: number;
  /** A directory's names as they were when it was read from the start: cookies are places in here. */
  names: readonly string[] | null;
  /** Up to this place, missing index nodes were asked for. */
  nodesAsked: number;
}

/** Open handles by number. */
export class Handles {
  readonly #handles = new Map<number, Handle>();
  #next = 1;

  open(node: Node, flags: number): number {
    const number = this.#next++;
    this.#handles.set(number, { node, flags, nextRead: 0, names: null, nodesAsked: 0 });
    node.opens++;
    return number;
  }

  get(number: number): Handle {
    const handle = this.#handles.get(number);
    if (handle === undefined) throw new DazzleError("badHandle", `handle ${number}`);
    return handle;
  }

  /** Undefined where it is closed already. */
  close(number: number): Handle | undefined {
    const handle = this.#handles.get(number);
    if (handle === undefined) return undefined;
    this.#handles.delete(number);
    handle.node.opens--;
    return handle;
  }

  get size(): number {
    return this.#handles.size;
  }
}
