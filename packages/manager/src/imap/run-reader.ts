import type { Cursor } from "./cursor.ts";
import { type KeyHash, keyHash } from "./filter.ts";
import { filterLength, KEY } from "./keys.ts";
import type { RunBlock } from "./run-block.ts";
import type { RunCache } from "./run-cache.ts";
import type { Run, RunTable, TableFoot } from "./run-table.ts";

/** What is said of a key whose place has to be read first. */
export const UNREAD = Symbol("unread");

/** The table of a run that holds `key` if any does. */
function tableOf(run: Run, key: Buffer): RunTable | undefined {
  const table = run.tables[tableIndex(run, key)];
  return table === undefined || table.firstKey.compare(key) > 0 ? undefined : table;
}

/** The first table whose last key is not below `key`. */
function tableIndex(run: Run, key: Buffer): number {
  let low = 0;
  let high = run.tables.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((run.tables[middle] as RunTable).lastKey.compare(key) < 0) low = middle + 1;
    else high = middle;
  }
  return low;
}

function valueIn(block: RunBlock, key: Buffer): Buffer | null | undefined {
  const index = block.find(key);
  return index === undefined ? undefined : block.value(index);
}

/** The newest value of `key` in `runs` (newest first), null for a tombstone, undefined where no run has it, UNREAD where a part is not cached.
 * Aliases a cached block. */
export function findNow(runs: readonly Run[], cache: RunCache, key: Buffer): Buffer | null | undefined | typeof UNREAD {
  let hash: KeyHash | undefined;
  for (const run of runs) {
    const table = tableOf(run, key);
    if (table === undefined) continue;
    const foot = cache.footNow(table);
    if (foot === undefined) return UNREAD;
    hash ??= keyHash(key, filterLength(key));
    if (!foot.mayHold(hash)) continue;
    const block = cache.blockNow(table, foot.blockOf(key));
    if (block === undefined) return UNREAD;
    const value = valueIn(block, key);
    if (value !== undefined) return value;
  }
  return undefined;
}

/** As `findNow`, and reads what it needs. */
export async function find(runs: readonly Run[], cache: RunCache, key: Buffer): Promise<Buffer | null | undefined> {
  for (const run of runs) {
    const table = tableOf(run, key);
    if (table === undefined) continue;
    const foot = await cache.foot(table);
    if (!foot.mayHold(keyHash(key, filterLength(key)))) continue;
    const value = valueIn(await cache.block(table, foot, foot.blockOf(key)), key);
    if (value !== undefined) return value;
  }
  return undefined;
}

/** Whether a run may hold keys that start with `prefix`, a kind and an id that filters know of. */
export async function mayHoldId(run: Run, cache: RunCache, prefix: Buffer, behind: Buffer): Promise<boolean> {
  for (let index = tableIndex(run, prefix); index < run.tables.length; index++) {
    const table = run.tables[index] as RunTable;
    if (table.firstKey.compare(behind) >= 0) return false;
    // An id whose keys go over the end of a table is in the filters of both.
    if ((await cache.foot(table)).mayHold(keyHash(prefix, KEY.rest))) return true;
  }
  return false;
}

/** A run's entries with `from <= key < to`. */
export class RunCursor implements Cursor {
  readonly #run: Run;
  readonly #cache: RunCache;
  readonly #to: Buffer | undefined;
  #table = 0;
  #foot: TableFoot | undefined;
  #blockIndex = 0;
  #block: RunBlock | undefined;
  #index = 0;
  key: Buffer | undefined;

  private constructor(run: Run, cache: RunCache, to: Buffer | undefined) {
    this.#run = run;
    this.#cache = cache;
    this.#to = to;
  }

  /** Stands at the first entry when it resolves. `to` undefined: to the run's end. */
  static async open(run: Run, cache: RunCache, from: Buffer, to: Buffer | undefined): Promise<RunCursor> {
    const cursor = new RunCursor(run, cache, to);
    cursor.#table = tableIndex(run, from);
    const table = run.tables[cursor.#table];
    if (table === undefined || (to !== undefined && table.firstKey.compare(to) >= 0)) return cursor;
    cursor.#foot = await cache.foot(table);
    cursor.#blockIndex = cursor.#foot.blockOf(from);
    cursor.#block = await cache.block(table, cursor.#foot, cursor.#blockIndex);
    cursor.#index = cursor.#block.lowerBound(from);
    await cursor.#settle();
    return cursor;
  }

  get value(): Buffer | null {
    return this.key === undefined ? null : (this.#block as RunBlock).value(this.#index);
  }

  advance(): Promise<void> | undefined {
    if (this.key === undefined) return undefined;
    this.#index++;
    return this.#settle();
  }

  /** Moves to the next block where the present one has no entry left. */
  #settle(): Promise<void> | undefined {
    const block = this.#block as RunBlock;
    if (this.#index >= block.count) return this.#nextBlock();
    const key = block.key(this.#index);
    this.key = this.#to !== undefined && key.compare(this.#to) >= 0 ? undefined : key;
    return undefined;
  }

  async #nextBlock(): Promise<void> {
    this.key = undefined;
    this.#index = 0;
    if (++this.#blockIndex >= (this.#foot as TableFoot).blocks) {
      const next = this.#run.tables[++this.#table];
      if (next === undefined || (this.#to !== undefined && next.firstKey.compare(this.#to) >= 0)) return;
      this.#foot = await this.#cache.foot(next);
      this.#blockIndex = 0;
    }
    this.#block = await this.#cache.block(this.#run.tables[this.#table] as RunTable, this.#foot as TableFoot, this.#blockIndex);
    await this.#settle();
  }
}
