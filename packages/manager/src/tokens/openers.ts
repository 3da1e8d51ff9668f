import { slotOf } from "@dazzle/core";

/** Which mounts have a file open without a token on it, as far as they were asked for one: a file that has lost its last name goes
 * when the last of them has closed it (rule 17). A mount that holds a token is asked together with the token. */
export class Openers {
  // INVARIANT: no set is empty.
  readonly #byIno = new Map<number, Set<number>>();

  add(mount: number, ino: number): void {
    const mounts = this.#byIno.get(ino);
    if (mounts === undefined) this.#byIno.set(ino, new Set([mount]));
    else mounts.add(mount);
  }

  remove(mount: number, ino: number): void {
    const mounts = this.#byIno.get(ino);
    if (mounts?.delete(mount) && mounts.size === 0) this.#byIno.delete(ino);
  }

  has(ino: number): boolean {
    return this.#byIno.has(ino);
  }

  /** Whether another mount than this one has it open. */
  others(mount: number, ino: number): boolean {
    const mounts = this.#byIno.get(ino);
    return mounts !== undefined && mounts.size > (mounts.has(mount) ? 1 : 0);
  }

  /** The mount is gone, or what it said of one slot counts no more. Answers what it had open. */
  dropMount(mount: number, slot?: number): number[] {
    const inos: number[] = [];
    for (const [ino, mounts] of this.#byIno) if (mounts.has(mount) && (slot === undefined || slotOf(ino) === slot)) inos.push(ino);
    for (const ino of inos) this.remove(mount, ino);
    return inos;
  }

  /** The slot has another manager from now on. */
  dropSlot(slot: number): void {
    for (const ino of this.#byIno.keys()) if (slotOf(ino) === slot) this.#byIno.delete(ino);
  }
}
