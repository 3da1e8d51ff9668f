import { asBuffer, assert, DazzleError, type OrderedStore } from "@dazzle/core";
import type { SimProcess } from "./process.ts";
import type { CrashChoices } from "./random.ts";

type Changes = ReadonlyArray<readonly [string, Uint8Array | undefined]>;

const KEY_BYTES_MAX = 256;

const textOf = (key: Uint8Array) => asBuffer(key).toString("latin1");

/** What a process does with an index goes through its drive: delays, faults, and who is still alive. */
export interface IndexHost {
  operate<T>(process: SimProcess, what: string, action: () => T): Promise<T>;
  /** Throws where the next commit is to fail. */
  beforeCommit(path: string): void;
  commitsLost(count: number): void;
  commitsKept(count: number): void;
}

/** An index as the disk has it. */
export class IndexContents {
  readonly path: string;
  readonly #host: IndexHost;
  readonly #durable = new Map<string, Uint8Array>();
  // INVARIANT: `#seen` is `#durable` with `#pending` applied in order; `#keys` are its keys, sorted.
  #seen = new Map<string, Uint8Array>();
  #keys: string[] = [];
  #pending: Changes[] = [];
  #committed = 0;
  broken = false;
  /** Who opened it last: its role's process. */
  process: SimProcess | undefined;

  constructor(path: string, host: IndexHost) {
    this.path = path;
    this.#host = host;
  }

  get size(): number {
    return this.#keys.length;
  }

  get(key: string): Uint8Array | undefined {
    return this.#seen.get(key);
  }

  keyAt(index: number): string | undefined {
    return this.#keys[index];
  }

  /** Where the first key that is not below `key` stands. */
  find(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#keys[middle] as string) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  commit(process: SimProcess, changes: Changes): Promise<void> {
    if (!process.alive) return new Promise(() => {});
    this.#see(changes);
    this.#pending.push(changes);
    const mark = this.#committed + this.#pending.length;
    return this.#host.operate(process, `commit ${this.path}`, () => {
      if (this.broken) throw new DazzleError("diskFailed", `${this.path}: an earlier commit failed`);
      try {
        this.#host.beforeCommit(this.path);
      } catch (error) {
        this.broken = true;
        throw error;
      }
      this.#settle(mark);
    });
  }

  /** What had not resolved survives as a prefix. A process that ends leaves that in the page cache, a crash on disk. */
  interrupt(random: CrashChoices, crash: boolean): void {
    const kept = random.below(this.#pending.length + 1);
    this.#host.commitsLost(this.#pending.length - kept);
    this.#host.commitsKept(kept);
    this.#pending.length = kept;
    this.broken = false;
    if (crash) this.#settle(this.#committed + kept);
    this.#seen = new Map(this.#durable);
    this.#keys = [...this.#seen.keys()].sort();
    for (const changes of this.#pending) this.#see(changes);
  }

  #settle(mark: number): void {
    for (const changes of this.#pending.splice(0, Math.max(0, mark - this.#committed))) {
      for (const [key, value] of changes) {
        if (value === undefined) this.#durable.delete(key);
        else this.#durable.set(key, value);
      }
    }
    this.#committed = Math.max(this.#committed, mark);
  }

  #see(changes: Changes): void {
    for (const [key, value] of changes) {
      const known = this.#seen.has(key);
      if (value !== undefined) {
        this.#seen.set(key, value);
        if (!known) this.#keys.splice(this.find(key), 0, key);
      } else if (known) {
        this.#seen.delete(key);
        this.#keys.splice(this.find(key), 1);
      }
    }
  }
}

/** An index, opened by one process. */
export class SimOrderedStore implements OrderedStore {
  readonly #contents: IndexContents;
  readonly #process: SimProcess;
  #closed = false;

  constructor(contents: IndexContents, process: SimProcess) {
    this.#contents = contents;
    this.#process = process;
    contents.process = process;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    this.#checkOpen();
    const value = this.#contents.get(textOf(key));
    return value === undefined ? undefined : Buffer.from(value);
  }

  *range(from: Uint8Array, to: Uint8Array): Iterable<readonly [Uint8Array, Uint8Array]> {
    this.#checkOpen();
    const end = textOf(to);
    for (let index = this.#contents.find(textOf(from)); ; index++) {
      const key = this.#contents.keyAt(index);
      if (key === undefined || key >= end) return;
      yield [Buffer.from(key, "latin1"), Buffer.from(this.#contents.get(key) as Uint8Array)];
    }
  }

  commit(changes: ReadonlyArray<readonly [Uint8Array, Uint8Array | undefined]>): Promise<void> {
    this.#checkOpen();
    const copies = changes.map(([key, value]) => {
      assert(key.byteLength > 0 && key.byteLength <= KEY_BYTES_MAX, `a key of an index has 1 to ${KEY_BYTES_MAX} bytes`);
      return [textOf(key), value === undefined ? undefined : Buffer.from(value)] as const;
    });
    return this.#contents.commit(this.#process, copies);
  }

  async close(): Promise<void> {
    this.#closed = true;
  }

  #checkOpen(): void {
    assert(!this.#closed, `${this.#contents.path} is used after it was closed`);
  }
}
