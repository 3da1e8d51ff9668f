import { slotOf } from "@dazzle/core";
import type { Node } from "./node.ts";

/** Nodes of removed objects, until their managers have applied that they are removed. */
export class Removals {
  // INVARIANT: by slot, in the order of removal, in which the log tells of them; no set is empty.
  readonly #bySlot = new Map<number, Set<Node>>();

  add(node: Node): void {
    const slot = slotOf(node.ino);
    const nodes = this.#bySlot.get(slot);
    if (nodes === undefined) this.#bySlot.set(slot, new Set([node]));
    else nodes.add(node);
  }

  /** Takes those out, in each slot, that come before the first that is not due. */
  *takeWhile(isDue: (node: Node) => boolean): Iterable<Node> {
    for (const [slot, nodes] of this.#bySlot) {
      for (const node of nodes) {
        if (!isDue(node)) break;
        nodes.delete(node);
        yield node;
      }
      if (nodes.size === 0) this.#bySlot.delete(slot);
    }
  }
}
