import { type LogAddress, totalBytes } from "@dazzle/core";
import { RunBlock } from "./run-block.ts";
import { type RunTable, TableFoot } from "./run-table.ts";

/** Reads bytes of a log. What it answers is the caller's. */
export type ReadAddress = (address: LogAddress) => Promise<readonly Buffer[]>;

interface Cached<Value> {
  readonly value: Value;
  readonly bytes: number;
  used: boolean;
}

const FOOT = 0xffff;
const PARTS = 0x10000;
/** What a cached part takes beside its bytes, about. */
const OVERHEAD = 300;

/** Feet and blocks of runs, read when first asked for, at most so many bytes of them; what was not asked for since the
 * last round goes first. */
export class RunCache {
  readonly #read: ReadAddress;
  readonly #capacityBytes: number;
  readonly #parts = new Map<number, Cached<RunBlock | TableFoot>>();
  readonly #loading = new Map<number, Promise<RunBlock | TableFoot>>();
  #bytes = 0;
  hits = 0;
  misses = 0;

  constructor(options: { read: ReadAddress; capacityBytes: number }) {
    this.#read = options.read;
    this.#capacityBytes = options.capacityBytes;
  }

  get bytes(): number {
    return this.#bytes;
  }

  footNow(table: RunTable): TableFoot | undefined {
    return this.#now(table.serial * PARTS + FOOT) as TableFoot | undefined;
  }

  blockNow(table: RunTable, block: number): RunBlock | undefined {
    return this.#now(table.serial * PARTS + block) as RunBlock | undefined;
  }

  async foot(table: RunTable): Promise<TableFoot> {
    return this.footNow(table) ?? (await this.#load(table.serial * PARTS + FOOT, table.foot, (bytes) => new TableFoot(bytes)));
  }

  async block(table: RunTable, foot: TableFoot, block: number): Promise<RunBlock> {
    return (
      this.blockNow(table, block) ?? (await this.#load(table.serial * PARTS + block, foot.address(block), (bytes) => new RunBlock(bytes)))
    );
  }

  #now(key: number): RunBlock | TableFoot | undefined {
    const cached = this.#parts.get(key);
    if (cached === undefined) return undefined;
    this.hits++;
    cached.used = true;
    return cached.value;
  }

  #load<Part extends RunBlock | TableFoot>(key: number, address: LogAddress, decode: (bytes: Buffer) => Part): Promise<Part> {
    let loading = this.#loading.get(key);
    if (loading === undefined) {
      this.misses++;
      loading = this.#read(address)
        .then((pieces) => {
          // A part of its own memory: a piece may be a small view of something large.
          const bytes = Buffer.allocUnsafeSlow(totalBytes(pieces));
          let at = 0;
          for (const piece of pieces) at += piece.copy(bytes, at);
          const part = decode(bytes);
          this.#keep(key, part, bytes.length + OVERHEAD);
          return part;
        })
        .finally(() => this.#loading.delete(key));
      this.#loading.set(key, loading);
    }
    return loading as Promise<Part>;
  }

  #keep(key: number, value: RunBlock | TableFoot, bytes: number): void {
    this.#parts.set(key, { value, bytes, used: true });
    this.#bytes += bytes;
    for (const [oldest, cached] of this.#parts) {
      if (this.#bytes <= this.#capacityBytes) break;
      this.#parts.delete(oldest);
      if (cached.used) {
        cached.used = false;
        this.#parts.set(oldest, cached);
      } else {
        this.#bytes -= cached.bytes;
      }
    }
  }

  /** Drops what is cached of a table that is not read any more. */
  forget(table: RunTable): void {
    for (const key of this.#parts.keys()) {
      if (Math.floor(key / PARTS) !== table.serial) continue;
      this.#bytes -= (this.#parts.get(key) as Cached<RunBlock | TableFoot>).bytes;
      this.#parts.delete(key);
    }
  }
}
