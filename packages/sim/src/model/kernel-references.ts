import { assert, type Caller, type FileSystem } from "@dazzle/core";
import type { SeededRandom } from "../random.ts";
import type { Checks } from "./checks.ts";
import type { History } from "./history.ts";
import { entriesOf, MODEL_ROOT, type NodeId } from "./state.ts";

/** The references that a kernel holds: it names nothing by index number that it has not looked up. */
export class KernelReferences {
  readonly #fileSystem: FileSystem;
  readonly #history: History;
  readonly #checks: Checks;
  readonly #caller: Caller;
  readonly #counts = new Map<NodeId, number>();

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
    this.#counts.set(id, (this.#counts.get(id) ?? 0) + 1);
  }

  /** The index number of a node of the tree, looked up from the root on where no reference is held. */
  async use(id: NodeId): Promise<number> {
    if (id !== MODEL_ROOT && !this.#counts.has(id)) {
      const entry = [...entriesOf(this.#history.current)].find(([, , child]) => child === id);
      assert(entry !== undefined, `node ${id} is in the tree, or referenced`);
      const [parent, name] = entry;
      const parentIno = await this.use(parent);
      const { attributes } = await this.#checks.look([parent], `a lookup of ${name}`, () =>
        this.#fileSystem.lookup(this.#caller, parentIno, name),
      );
      this.took(id, attributes.ino);
    }
    return this.#history.numbers.get(id) as number;
  }

  /** Gives back all references of a random node that nothing below it and no handle needs. */
  forgetSome(random: SeededRandom, inUse: ReadonlySet<NodeId>): boolean {
    const free = [...this.#counts.keys()].filter((id) => !inUse.has(id) && !this.#holdsUsed(id));
    if (free.length === 0) return false;
    this.#forget(random.pick(free));
    return true;
  }

  forgetAll(): void {
    for (const id of [...this.#counts.keys()]) this.#forget(id);
  }

  #forget(id: NodeId): void {
    this.#fileSystem.forget(this.#history.numbers.get(id) as number, this.#counts.get(id) as number);
    this.#counts.delete(id);
  }

  #holdsUsed(id: NodeId): boolean {
    const node = this.#history.current.get(id);
    if (node?.kind !== "directory") return false;
    for (const child of node.entries.values()) if (this.#counts.has(child)) return true;
    return false;
  }
}
