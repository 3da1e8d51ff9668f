import { assert, DazzleError, type FragmentKey, type OrderedStore } from "@dazzle/core";
import { type DeadRange, type Hole, planHoles } from "./dead-pages.ts";
import { type Entry, rangeOfRecord, sameKey, samePlace, spaceOf } from "./entry.ts";
import {
  behindKind,
  type Change,
  decodeCount,
  decodeFragmentRow,
  decodePair,
  decodePosition,
  encodeCount,
  encodeFragmentRow,
  encodePair,
  encodePosition,
  fragmentKeyBytes,
  IndexKey,
  logKeyBytes,
  logOfKey,
  POSITION_KEY,
  pageKeyBytes,
  pageOfKey,
  segmentKeyBytes,
  UNNAMED_KEY,
  volumeKeyBytes,
  volumeOfKey,
} from "./index-layout.ts";
import { LogTable } from "./log-table.ts";
import { comparePlaces, type Place } from "./record-header.ts";

const SEQUENCE_MAX = Number.MAX_SAFE_INTEGER;

/** What lives in a volume. */
interface VolumeCount {
  readonly liveBytes: number;
  readonly fragments: number;
}

const EMPTY: VolumeCount = { liveBytes: 0, fragments: 0 };

/** A fragment that was stored anew because it was damaged where it lay. */
export interface Repaired {
  readonly entry: Entry;
  readonly replaces: Entry;
}

export interface IndexBatch {
  readonly added?: readonly Entry[];
  /** Where the replaced one is not held any more, the new one is dead at once: what was deleted stays deleted. */
  readonly repaired?: readonly Repaired[];
  readonly removed?: readonly Entry[];
  /** Of `removed`, those whose records live on, or are dead once by another of them. */
  readonly shared?: ReadonlySet<Entry>;
  /** Sectors that held nothing live before. */
  readonly dead?: readonly DeadRange[];
  /** Every record before it is in the index with this batch, or is dead. */
  readonly position?: Place;
  /** Something was lost of which nobody can tell what it was: no log behind this one had stored anything yet. */
  readonly unnamedUpTo?: number;
  readonly forgotten?: readonly Uint8Array[];
}

/** The durable index of what is stored, and how far it goes. */
export class FragmentIndex {
  readonly logs: LogTable;
  readonly #rows: OrderedStore;
  #closed = false;
  #position: Place;
  // INVARIANT: a row for every volume with something live, as the index has them.
  readonly #volumes = new Map<number, VolumeCount>();
  #tail: Promise<unknown> = Promise.resolve();
  #failure: unknown = null;

  /** Reads the position and a row for every volume: nothing that grows with the number of fragments. */
  constructor(store: OrderedStore) {
    this.#rows = store;
    this.logs = new LogTable(store);
    const position = store.get(POSITION_KEY);
    this.#position = position === undefined ? { volume: 1, offset: 0 } : decodePosition(position);
    for (const [key, value] of store.range(Buffer.of(IndexKey.volume), behindKind(IndexKey.volume))) {
      const [liveBytes, fragments] = decodePair(value);
      this.#volumes.set(volumeOfKey(key), { liveBytes, fragments });
    }
  }

  get #store(): OrderedStore {
    if (this.#closed) throw new DazzleError("diskFailed", "the store is closed");
    return this.#rows;
  }

  /** Every record before it is in the index, or is dead. */
  get position(): Place {
    return this.#position;
  }

  /** Whether everything that was stored of a log, and not deleted, has its row. */
  hasAllOf(log: number): boolean {
    const unnamed = this.#store.get(UNNAMED_KEY);
    return unnamed === undefined || log > decodeCount(unnamed);
  }

  /** Why nothing can be committed any more; null while it can. */
  get failure(): unknown {
    return this.#failure;
  }

  get liveBytes(): number {
    let sum = 0;
    for (const { liveBytes } of this.#volumes.values()) sum += liveBytes;
    return sum;
  }

  get fragments(): number {
    let sum = 0;
    for (const { fragments } of this.#volumes.values()) sum += fragments;
    return sum;
  }

  /** Those of which the index has a row: with something live, or forgotten with the next commit, or left from before a crash. */
  get volumes(): Iterable<number> {
    return this.#volumes.keys();
  }

  isEmpty(volume: number): boolean {
    return (this.#volumes.get(volume) ?? EMPTY).fragments === 0;
  }

  get(key: FragmentKey): Entry | undefined {
    const bytes = fragmentKeyBytes(key);
    const row = this.#store.get(bytes);
    return row === undefined ? undefined : decodeFragmentRow(bytes, row);
  }

  /** Whether a fragment is where it was. */
  holds(entry: Entry): boolean {
    const held = this.get(entry);
    return held !== undefined && samePlace(held, entry);
  }

  /** Every fragment of a segment, by group, version, index. */
  segment(log: number, sequence: number): Entry[] {
    const to = sequence === SEQUENCE_MAX ? segmentKeyBytes(log + 1, 0) : segmentKeyBytes(log, sequence + 1);
    const entries: Entry[] = [];
    for (const [key, row] of this.#store.range(segmentKeyBytes(log, sequence), to)) entries.push(decodeFragmentRow(key, row));
    return entries;
  }

  /** Fragments of at most `limit` sequences above `after`, ascending. */
  list(log: number, after: number, limit: number): { readonly entries: Entry[]; readonly more: boolean } {
    const entries: Entry[] = [];
    let sequences = 0;
    let last = -1;
    for (const [key, row] of this.#store.range(segmentKeyBytes(log, after + 1), segmentKeyBytes(log + 1, 0))) {
      const entry = decodeFragmentRow(key, row);
      if (entry.sequence !== last) {
        if (sequences === limit) return { entries, more: true };
        sequences++;
        last = entry.sequence;
      }
      entries.push(entry);
    }
    return { entries, more: false };
  }

  /** At most `limit` fragments behind a key in the order of keys; from the first on where it is null. */
  behind(key: FragmentKey | null, limit: number): Entry[] {
    // The key itself comes first where it is still there.
    const from = key === null ? Buffer.of(IndexKey.fragment) : fragmentKeyBytes(key);
    const entries: Entry[] = [];
    for (const [bytes, row] of this.#store.range(from, behindKind(IndexKey.fragment))) {
      if (entries.length === limit) break;
      if (key === null || from.compare(bytes) !== 0) entries.push(decodeFragmentRow(bytes, row));
    }
    return entries;
  }

  /** The logs that have a fragment here: one step for each log, not for each fragment. */
  logsHeld(): number[] {
    const logs: number[] = [];
    for (let next = 0; ; ) {
      const log = this.#firstLog(next);
      if (log === undefined) return logs;
      logs.push(log);
      next = log + 1;
    }
  }

  #firstLog(from: number): number | undefined {
    for (const [key] of this.#store.range(segmentKeyBytes(from, 0), behindKind(IndexKey.fragment))) return logOfKey(key);
    return undefined;
  }

  /** Keys of the marks of logs for which `isGone` holds and of which nothing is stored. */
  staleMarks(isGone: (log: number) => boolean): Uint8Array[] {
    const stale: Uint8Array[] = [];
    for (const [key] of this.#store.range(Buffer.of(IndexKey.log), behindKind(IndexKey.log))) {
      const log = logOfKey(key);
      if (isGone(log) && this.#firstLog(log) !== log) stale.push(logKeyBytes(log));
    }
    return stale;
  }

  /** Holes that were committed and not known to be punched. */
  holes(): Hole[] {
    const holes: Hole[] = [];
    for (const [key, value] of this.#store.range(Buffer.of(IndexKey.hole), behindKind(IndexKey.hole)))
      holes.push({ volume: volumeOfKey(key), page: pageOfKey(key), pages: decodeCount(value) });
    return holes;
  }

  /** Keys of everything the index has of a volume's space. */
  volumeKeys(volume: number): Uint8Array[] {
    const keys: Uint8Array[] = [];
    if (this.#volumes.has(volume)) keys.push(volumeKeyBytes(volume));
    for (const kind of [IndexKey.sectors, IndexKey.hole])
      for (const [key] of this.#store.range(pageKeyBytes(kind, volume, -1), pageKeyBytes(kind, volume + 1, -1)))
        keys.push(Buffer.from(key));
    return keys;
  }

  /** Runs `action` when no other is running: what it reads stays true until it has committed. Rejects without once a commit has failed: what that was to make durable is not. */
  exclusive<T>(action: () => Promise<T>): Promise<T> {
    const turn = this.#tail.then(() => {
      if (this.#failure !== null) throw this.#failure;
      return action();
    });
    this.#tail = turn.catch(() => {});
    return turn;
  }

  /** Durable when it resolves, with the marks of logs raised so far. Answers the holes it made. Within `exclusive` only.
   * After it rejects, nothing can be committed until the index is opened anew. */
  async commit(batch: IndexBatch): Promise<readonly Hole[]> {
    const counts = new Map<number, VolumeCount>();
    const dead = [...(batch.dead ?? [])];
    const replaced = (batch.repaired ?? []).map(({ replaces: { volume, offset } }) => `${volume} ${offset}`);
    assert(
      new Set(replaced).size === replaced.length,
      "of two fragments that share a record one is repaired at a time: it is dead with the second",
    );
    const changes: Change[] = this.logs.takeChanges();
    for (const entry of batch.added ?? []) {
      changes.push([fragmentKeyBytes(entry), encodeFragmentRow(entry)]);
      this.#count(counts, entry, 1);
    }
    for (const entry of batch.removed ?? []) {
      changes.push([fragmentKeyBytes(entry), undefined]);
      this.#count(counts, entry, -1);
      if (!batch.shared?.has(entry)) dead.push(rangeOfRecord(entry));
    }
    for (const { entry, replaces } of batch.repaired ?? []) {
      const isHeld = this.holds(replaces);
      if (!isHeld || !this.#isShared(replaces)) dead.push(rangeOfRecord(isHeld ? replaces : entry));
      if (!isHeld) continue;
      changes.push([fragmentKeyBytes(entry), encodeFragmentRow(entry)]);
      this.#count(counts, entry, 1);
      this.#count(counts, replaces, -1);
    }
    for (const [volume, { liveBytes, fragments }] of counts) changes.push([volumeKeyBytes(volume), encodePair(liveBytes, fragments)]);
    for (const key of batch.forgotten ?? []) changes.push([key, undefined]);
    if (batch.position !== undefined) {
      assert(comparePlaces(batch.position, this.#position) >= 0, "the position never goes back");
      changes.push([POSITION_KEY, encodePosition(batch.position)]);
    }
    if (batch.unnamedUpTo !== undefined && this.hasAllOf(batch.unnamedUpTo)) changes.push([UNNAMED_KEY, encodeCount(batch.unnamedUpTo)]);
    const { changes: holeChanges, holes } = planHoles(this.#store, dead);
    changes.push(...holeChanges);
    await this.#apply(changes);
    for (const [volume, count] of counts) this.#volumes.set(volume, count);
    for (const key of batch.forgotten ?? []) if (key[0] === IndexKey.volume) this.#volumes.delete(volumeOfKey(key));
    if (batch.position !== undefined) this.#position = batch.position;
    this.logs.shrink();
    return holes;
  }

  /** Whether the record is another fragment's, too. */
  #isShared(entry: Entry): boolean {
    return this.segment(entry.log, entry.sequence).some((other) => samePlace(other, entry) && !sameKey(other, entry));
  }

  async #apply(changes: readonly Change[]): Promise<void> {
    try {
      await this.#store.commit(changes);
    } catch (error) {
      this.#failure = error;
      throw error;
    }
  }

  #count(counts: Map<number, VolumeCount>, entry: Entry, sign: 1 | -1): void {
    const count = counts.get(entry.volume) ?? this.#volumes.get(entry.volume) ?? EMPTY;
    const liveBytes = count.liveBytes + sign * spaceOf(entry);
    const fragments = count.fragments + sign;
    assert(liveBytes >= 0 && fragments >= 0, "no more lives in a volume than was stored there");
    counts.set(entry.volume, { liveBytes, fragments });
  }

  async close(): Promise<void> {
    await this.#tail;
    this.#closed = true;
    await this.#rows.close();
  }
}
