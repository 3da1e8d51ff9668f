import { assert, covers, NO_REGIONS, overlaps, type RegionRange, slotOf, WHOLE_FILE } from "@dazzle/core";
import { NumberLeases } from "./number-leases.ts";
import { Openers } from "./openers.ts";

/** Who must give a token back, or down to shared, before it can be granted. */
export interface Conflict {
  readonly mount: number;
  readonly keepShared: boolean;
  /** It may keep what lies beside these regions. */
  readonly wanted: RegionRange;
}

/** Mounts that write parts of one file, each alone in a range of it. While there are any, nobody has the inode's token. */
export type Split = ReadonlyMap<number, RegionRange>;

/** Which mounts hold a token on which index number (docs/manager.md). Nothing is awaited here: see `Grants`.
 *
 * An object that has no row is held by the mount that leased its number, if any. What mounts hold of a slot that came here they claim
 * before it opens. */
export class TokenTable {
  // INVARIANT: a number is the one mount that holds it exclusively; a set is of mounts that share it, a map of mounts that hold a range each, apart
  // from one another; neither is empty.
  readonly #rows = new Map<number, Row>();
  readonly #leases = new NumberLeases();
  readonly openers = new Openers();

  /** Rows, for people. */
  get size(): number {
    return this.#rows.size;
  }

  lease(mount: number, first: number, count: number): void {
    this.#leases.add(mount, first, count);
  }

  /** Empty where `grant` may follow at once; with some `wanted` regions of a file, `grantRange`. A mount that has a range gives it back before it gets
   * anything else of the file. */
  conflicts(mount: number, ino: number, exclusive: boolean, wanted: RegionRange = WHOLE_FILE): readonly Conflict[] {
    const row = this.#rows.get(ino);
    const keepShared = !exclusive;
    if (typeof row === "number") return row === mount ? NONE : [{ mount: row, keepShared, wanted }];
    if (row instanceof Map)
      return [...row]
        .filter(([other, range]) => other === mount || overlaps(range, wanted))
        .map(([other]) => ({ mount: other, keepShared: false, wanted: other === mount ? WHOLE_FILE : wanted }));
    if (row !== undefined)
      return exclusive
        ? [...row].filter((other) => other !== mount).map((other) => ({ mount: other, keepShared, wanted: WHOLE_FILE }))
        : NONE;
    const leaseHolder = this.#leases.holder(ino);
    return leaseHolder === mount || leaseHolder === 0 ? NONE : [{ mount: leaseHolder, keepShared, wanted }];
  }

  /** These gave back what `conflicts` named, all of it but what they kept. */
  revoked(ino: number, conflicts: readonly Conflict[], kept: readonly RegionRange[] = []): void {
    for (const [index, { mount, keepShared, wanted }] of conflicts.entries()) {
      const range = kept[index] ?? NO_REGIONS;
      assert(!overlaps(range, wanted), `mount ${mount} keeps what it gave back of ${ino}`);
      if (keepShared) this.#share(mount, ino);
      else if (range.from < range.to) this.#narrow(mount, ino, range);
      else this.release(mount, ino);
    }
    if (!this.#rows.has(ino)) this.#leases.forget(ino);
  }

  #narrow(mount: number, ino: number, range: RegionRange): void {
    const row = this.#rows.get(ino);
    if (row instanceof Map) {
      const had = row.get(mount);
      if (had === undefined) return;
      assert(covers(had, range), `mount ${mount} keeps no more of ${ino} than it had`);
      row.set(mount, range);
    } else if (row === mount || (row === undefined && this.#leases.holder(ino) === mount)) this.#set(ino, new Map([[mount, range]]));
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

  /** Answers a range around `wanted`, as wide as nobody else has any of: all of the file is the exclusive token. No conflict is left. */
  grantRange(mount: number, ino: number, wanted: RegionRange): RegionRange {
    const row = this.#rows.get(ino);
    if (!(row instanceof Map)) {
      this.grant(mount, ino, true);
      return WHOLE_FILE;
    }
    let { from, to } = WHOLE_FILE;
    for (const [other, range] of row) {
      assert(other !== mount && !overlaps(range, wanted), `a range of ${ino} is granted without a conflict`);
      if (range.to <= wanted.from) from = Math.max(from, range.to);
      else to = Math.min(to, range.from);
    }
    row.set(mount, { from, to });
    return { from, to };
  }

  /** A mount holds a range since the time of another manager. */
  claimRange(mount: number, ino: number, range: RegionRange): void {
    const row = this.#rows.get(ino) ?? new Map<number, RegionRange>();
    const agrees = row instanceof Map && ![...row].some(([other, had]) => other !== mount && overlaps(had, range));
    assert(agrees, `mount ${mount} claims a range of index number ${ino}, which another mount has`);
    this.#set(ino, row.set(mount, range));
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
  held(mount: number, ino: number): "shared" | "exclusive" | "range" | undefined {
    const row = this.#rows.get(ino);
    if (row === undefined) return this.#leases.holder(ino) === mount ? "exclusive" : undefined;
    if (typeof row === "number") return row === mount ? "exclusive" : undefined;
    if (!row.has(mount)) return undefined;
    return row instanceof Map ? "range" : "shared";
  }

  /** The mounts that write parts of the file: undefined where nobody has a part. It is the same object for as long as that lasts. */
  split(ino: number): Split | undefined {
    const row = this.#rows.get(ino);
    return row instanceof Map ? row : undefined;
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
    for (const mount of row.keys()) if (holders.push(mount) === limit) break;
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
    } else if (typeof row !== "number" && row.delete(mount) && row.size === 0) {
      this.#rows.delete(ino);
    }
  }

  #set(ino: number, row: Row): void {
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
      if (!(row instanceof Map)) continue;
      const ranges = [...row.values()].sort((one, other) => one.from - other.from);
      for (const [place, { from, to }] of ranges.entries())
        assert(from < to && from >= (ranges[place - 1]?.to ?? 0), `ranges of ${ino} are apart`);
    }
  }
}

type Row = number | Set<number> | Map<number, RegionRange>;

const NONE: readonly Conflict[] = [];
