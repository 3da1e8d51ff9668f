import { assert, slotOf } from "@dazzle/core";
import { NumberLeases } from "./number-leases.ts";
import { Openers } from "./openers.ts";

/** Who must give a token back, or down to shared, before it can be granted. */
export interface Conflict {
  readonly mount: number;
  readonly keepShared: boolean;
}

/** Which mounts hold a token on which index number (DESIGN 6). Nothing is awaited here: see `Grants`.
 *
 * An object that has no row is held by the mount that leased its number, if any. What mounts hold of a slot that came here they claim
 * before it opens. */
export class TokenTable {
  // INVARIANT: a number is the one mount that holds it exclusively; a set is of mounts that share it, and not empty.
  readonly #rows = new Map<number, number | Set<number>>();
  readonly #leases = new NumberLeases();
  readonly openers = new Openers();

  /** Rows, for people. */
  get size(): number {
    return this.#rows.size;
  }

  lease(mount: number, first: number, count: number): void {
    this.#leases.add(mount, first, count);
  }

  /** Empty where `grant` may follow at once. */
  conflicts(mount: number, ino: number, exclusive: boolean): readonly Conflict[] {
    const row = this.#rows.get(ino);
    const keepShared = !exclusive;
    if (typeof row === "number") return row === mount ? NONE : [{ mount: row, keepShared }];
    if (row !== undefined)
      return exclusive ? [...row].filter((other) => other !== mount).map((other) => ({ mount: other, keepShared })) : NONE;
    const leaseHolder = this.#leases.holder(ino);
    return leaseHolder === mount || leaseHolder === 0 ? NONE : [{ mount: leaseHolder, keepShared }];
  }

  /** These gave back what `conflicts` named. */
  revoked(ino: number, conflicts: readonly Conflict[]): void {
    for (const { mount, keepShared } of conflicts) {
      if (keepShared) this.#share(mount, ino);
      else this.release(mount, ino);
    }
    if (!this.#rows.has(ino)) this.#leases.forget(ino);
  }

  #share(mount: number, ino: number): void {
    const row = this.#rows.get(ino);
    if (row instanceof Set) row.add(mount);
    else if (row === undefined || row === mount) this.#set(ino, new Set([mount]));
  }

  /** Answers whether it is exclusive: wide, so it is wherever nobody else holds anything. No conflict is left. */
  grant(mount: number, ino: number, exclusive: boolean): boolean {
    const row = this.#rows.get(ino);
    if (row === mount || (row === undefined && this.#leases.holder(ino) === mount)) return true;
    const alone = row === undefined || (row instanceof Set && (row.size === 0 || (row.size === 1 && row.has(mount))));
    if (alone) {
      this.#set(ino, mount);
      return true;
    }
    assert(row instanceof Set && !exclusive, `token ${ino} is granted without a conflict`);
    row.add(mount);
    return false;
  }

  /** A mount holds it since the time of another manager. */
  claim(mount: number, ino: number, exclusive: boolean): void {
    const row = this.#rows.get(ino);
    const agrees = row === undefined || row === mount || (!exclusive && row instanceof Set);
    assert(agrees, `mount ${mount} claims ${exclusive ? "alone" : "with others"} index number ${ino}, which another mount has`);
    if (row instanceof Set) row.add(mount);
    else this.#set(ino, exclusive ? mount : new Set([mount]));
  }

  /** What the mount claimed in the slot counts no more. */
  dropClaims(mount: number, slot: number): void {
    this.#leases.dropMount(mount, slot);
    this.openers.dropMount(mount, slot);
    for (const ino of this.#rows.keys()) if (slotOf(ino) === slot) this.release(mount, ino);
  }

  /** What the mount holds: undefined where there is nothing. */
  held(mount: number, ino: number): "shared" | "exclusive" | undefined {
    const row = this.#rows.get(ino);
    if (row === undefined) return this.#leases.holder(ino) === mount ? "exclusive" : undefined;
    if (row === mount) return "exclusive";
    return row instanceof Set && row.has(mount) ? "shared" : undefined;
  }

  /** The mount that holds it exclusively, as far as it is known. */
  holder(ino: number): number | undefined {
    const row = this.#rows.get(ino);
    if (typeof row === "number") return row;
    return row === undefined ? this.#leases.holder(ino) || undefined : undefined;
  }

  /** Mounts that hold it, the first `limit` of them. */
  holders(ino: number, limit: number): readonly number[] {
    const row = this.#rows.get(ino) ?? this.#leases.holder(ino);
    if (typeof row === "number") return row === 0 ? [] : [row];
    const holders: number[] = [];
    for (const mount of row) if (holders.push(mount) === limit) break;
    return holders;
  }

  /** Whether any mount holds it, or may. */
  isHeld(ino: number): boolean {
    return this.#rows.has(ino) || this.#leases.holder(ino) !== 0;
  }

  release(mount: number, ino: number): void {
    const row = this.#rows.get(ino);
    if (row === undefined) {
      if (this.#leases.holder(ino) === mount) this.#leases.forget(ino);
    } else if (row === mount) {
      this.#rows.delete(ino);
    } else if (row instanceof Set && row.delete(mount) && row.size === 0) {
      this.#rows.delete(ino);
    }
  }

  #set(ino: number, row: number | Set<number>): void {
    this.#rows.set(ino, row);
    this.#leases.forget(ino);
  }

  /** The mount is gone: it holds nothing any more. */
  dropMount(mount: number): void {
    this.#leases.dropMount(mount);
    for (const ino of this.#rows.keys()) this.release(mount, ino);
  }

  /** The slot is with another manager: what mounts hold there is that one's to know. */
  dropSlot(slot: number): void {
    this.#leases.dropSlot(slot);
    this.openers.dropSlot(slot);
    for (const ino of this.#rows.keys()) if (slotOf(ino) === slot) this.#rows.delete(ino);
  }

  checkInvariants(): void {
    for (const [ino, row] of this.#rows) {
      assert(typeof row === "number" ? row > 0 : row.size > 0, `token ${ino} has a holder`);
      assert(this.#leases.holder(ino) === 0, `token ${ino} is told of by its row alone`);
    }
  }
}

const NONE: readonly Conflict[] = [];
