import { type Answer, assert, type LogAddress } from "@dazzle/core";
import { FilterBuilder } from "./filter.ts";
import { EntryKind, filterLength, KEY } from "./keys.ts";
import { RunBlockBuilder } from "./run-block.ts";
import { type BlockRow, encodeFoot, footBytes, type Run, type RunTable, type SegmentBytes, tableSerial } from "./run-table.ts";

/** Where a run's records go: the manager's log. */
export interface RunSink {
  /** Makes room for a `run` record of the slot, and calls `fill` with it. */
  place(slot: number, length: number, fill: (bytes: Buffer) => void): Answer<LogAddress>;
  /** The record is of no use (any more). */
  discard(segments: readonly SegmentBytes[]): void;
}

/** Bytes of a table's blocks at which its foot is written. */
const TABLE_BYTES = 4 * 1024 * 1024;

/** Writes one sorted run. */
export class RunBuilder {
  readonly #slot: number;
  readonly #sink: RunSink;
  readonly #blockBytes: number;
  readonly #block: RunBlockBuilder;
  #filter = new FilterBuilder();
  #rows: BlockRow[] = [];
  #tables: RunTable[] = [];
  #segments = new Map<number, number>();
  #log = 0;
  #tableBytes = 0;
  #entries = 0;
  #firstOfBlock: Buffer | null = null;
  #firstOfTable: Buffer | null = null;
  #last: Buffer | null = null;
  #abandoned = false;

  constructor(options: { slot: number; sink: RunSink; blockBytes: number }) {
    this.#slot = options.slot;
    this.#sink = options.sink;
    this.#blockBytes = options.blockBytes;
    this.#block = new RunBlockBuilder(options.blockBytes);
  }

  /** Keys ascend. Answers a promise where the log must be waited for. */
  add(key: Buffer, value: Buffer | null): Promise<void> | undefined {
    assert(this.#last === null || this.#last.compare(key) < 0, "a run's keys ascend");
    this.#addToFilter(key);
    this.#firstOfBlock ??= key;
    this.#firstOfTable ??= key;
    this.#last = key;
    this.#block.add(key, value);
    this.#entries++;
    return this.#block.length < this.#blockBytes ? undefined : this.#finishBlock();
  }

  /** A file's keys go by their id, and stand together; a directory's id is held beside its names. */
  #addToFilter(key: Buffer): void {
    const length = filterLength(key);
    const sameId = this.#firstOfTable !== null && this.#last?.compare(key, 0, KEY.rest, 0, KEY.rest) === 0;
    if (length > KEY.rest || !sameId) this.#filter.add(key, length);
    if (!sameId && key[KEY.kind] === EntryKind.entry) this.#filter.add(key, KEY.rest);
  }

  async #finishBlock(): Promise<void> {
    const length = this.#block.length;
    const address = await this.#sink.place(this.#slot, length, (bytes) => this.#block.finish(bytes));
    this.#count(address);
    this.#rows.push({ address, firstKey: this.#firstOfBlock as Buffer });
    this.#firstOfBlock = null;
    this.#tableBytes += length;
    if (this.#tableBytes >= TABLE_BYTES) await this.#finishTable();
  }

  async #finishTable(): Promise<void> {
    const filter = this.#filter.finish();
    const rows = this.#rows;
    const address = await this.#sink.place(this.#slot, footBytes(rows, filter), (bytes) => encodeFoot(rows, filter, bytes));
    this.#count(address);
    this.#tables.push({
      serial: tableSerial(),
      foot: address,
      entries: this.#entries,
      firstKey: Buffer.from(this.#firstOfTable as Buffer),
      lastKey: Buffer.from(this.#last as Buffer),
      segments: this.#takeSegments(),
    });
    this.#rows = [];
    this.#tableBytes = 0;
    this.#entries = 0;
    this.#firstOfTable = null;
  }

  #count(address: LogAddress): void {
    this.#log = address.log;
    this.#segments.set(address.sequence, (this.#segments.get(address.sequence) ?? 0) + address.length);
    // The run was given up while its last piece waited for room.
    if (this.#abandoned) this.#sink.discard(this.#takeSegments());
  }

  #takeSegments(): SegmentBytes[] {
    const segments = [...this.#segments].map(([sequence, bytes]) => ({ log: this.#log, sequence, bytes }));
    this.#segments = new Map();
    return segments;
  }

  async finish(): Promise<Run> {
    if (this.#block.entries > 0) await this.#finishBlock();
    if (this.#rows.length > 0) await this.#finishTable();
    return { tables: this.#tables };
  }

  /** Gives up what was written. */
  abandon(): void {
    this.#abandoned = true;
    this.#sink.discard(this.#takeSegments());
    for (const table of this.#tables) this.#sink.discard(table.segments);
    this.#tables = [];
  }
}
