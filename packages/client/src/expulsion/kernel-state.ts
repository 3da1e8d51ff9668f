import { Handles } from "../handles.ts";

/** What the kernel has of a mount, whichever incarnation serves it: open handles, and how often it refers to an index number. */
export class KernelState {
  readonly handles = new Handles();
  /** A node may be evicted and come back while the kernel still names it. INVARIANT: each is greater than 0. */
  readonly references = new Map<number, number>();

  refer(ino: number): void {
    this.references.set(ino, (this.references.get(ino) ?? 0) + 1);
  }

  forget(ino: number, references: number): void {
    const left = (this.references.get(ino) ?? 0) - references;
    if (left > 0) this.references.set(ino, left);
    else this.references.delete(ino);
  }
}
