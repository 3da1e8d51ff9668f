import { assert, type Caller, type FileSystem } from "@dazzle/core";
import type { SeededRandom } from "../random.ts";
import type { Checks } from "./checks.ts";
import type { History } from "./history.ts";
import { entriesOf, MODEL_ROOT, type NodeId, whole } from "./state.ts";

/** The references that a kernel holds: it names nothing by index number that it has not looked up. */
export class KernelReferences {
  readonly #fileSystem: FileSystem;
  readonly #history: History;
  readonly #checks: Checks;
  readonly #caller: Caller;
  readonly #held = new Map<NodeId, { readonly ino: number; count: number }>();

  constructor(fileSystem: FileSystem, history: History, checks: Checks, caller: Caller) {
    this.#fileSystem = fileSystem;
    this.#history = history;
    this.#checks = checks;
    this.#caller = caller;
  }

  /** Notes a reference that the filesystem gave. */
  took(id: NodeId, ino: number): void {
    const known = this.#history.numbers.get(id);
    if (known !== undefined && known !== ino) throw this.#checks.mismatch(`an entry of node ${id}`, `is ${ino}, not ${known}`);
    this.#history.numbers.set(id, ino);
    const held = this.#held.get(id);
    if (held === undefined) this.#held.set(id, { ino, count: 1 });
    else held.count++;
  }

  /** The index number of a node of the tree, looked up from the root on where no reference is held. */
  async use(id: NodeId): Promise<number> {
    if (id !== MODEL_ROOT && !this.#held.has(id)) {
      const entry = [...entriesOf(this.#history.current)].find(([, , child]) => child === id);
      assert(entry !== undefined, `node ${id} is in the tree, or referenced`);
      const [parent, name] = entry;
      const parentIno = await this.use(parent);
      const { attributes } = await this.#checks.look(whole(parent), `a lookup of ${name}`, () =>
        this.#fileSystem.lookup(this.#caller, parentIno, name),
      );
      this.took(id, attributes.ino);
    }
    return this.#history.numbers.get(id) as number;
  }

  /** Gives back all references of a random node that nothing below it and no handle needs. */
  forgetSome(random: SeededRandom, inUse: ReadonlySet<NodeId>): boolean {
    const free = [...this.#held.keys()].filter((id) => !inUse.has(id) && !this.#holdsUsed(id));
    if (free.length === 0) return false;
    this.#forget(random.pick(free));
    return true;
  }

  forgetAll(): void {
    for (const id of [...this.#held.keys()]) this.#forget(id);
  }

  #forget(id: NodeId): void {
    const held = this.#held.get(id);
    if (held !== undefined) this.#fileSystem.forget(held.ino, held.count);
    this.#held.delete(id);
  }

  #holdsUsed(id: NodeId): boolean {
    const node = this.#history.current.get(id);
    if (node?.kind !== "directory") return false;
    for (const child of node.entries.values()) if (this.#held.has(child)) return true;
    return false;
  }
}
