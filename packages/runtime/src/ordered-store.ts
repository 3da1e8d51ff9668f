import { asBuffer, assert, type DazzleError, type Deferred, deferred, type OrderedStore } from "@dazzle/core";
import { open, type RootDatabase } from "lmdb";
import { diskError } from "./disk-error.ts";

/** Address space, not memory and not disk: the map grows by itself beyond it, which costs a pause. */
const MAP_BYTES = 4 * 1024 ** 3;
const KEY_BYTES_MAX = 256;

type Changes = ReadonlyArray<readonly [Uint8Array, Uint8Array | undefined]>;

/** Commits on their way to the disk together. Keys are latin1, which sorts as their bytes do. */
interface Batch {
  readonly changes: Map<string, Buffer | undefined>;
  readonly done: Deferred<void>;
}

/** An lmdb file. The commits called while one is being synced go into the next transaction together, on lmdb's own
 * thread; until they are durable, reads find them in memory. */
export async function openOrderedStore(path: string): Promise<OrderedStore> {
  // Without overlappingSync a transaction is resolved once it is synced, not before.
  const database = open<Buffer, Buffer>({
    path,
    noSubdir: true,
    keyEncoding: "binary",
    encoding: "binary",
    overlappingSync: false,
    mapSize: MAP_BYTES,
  });
  return new LmdbStore(database, path);
}

class LmdbStore implements OrderedStore {
  readonly #database: RootDatabase<Buffer, Buffer>;
  readonly #path: string;
  // INVARIANT: `#next` holds the commits called since `#writing` was handed to lmdb.
  #writing: Batch | null = null;
  #next: Batch | null = null;
  #failure: DazzleError | null = null;
  #closed = false;

  constructor(database: RootDatabase<Buffer, Buffer>, path: string) {
    this.#database = database;
    this.#path = path;
  }

  get(key: Uint8Array): Uint8Array | undefined {
    const name = nameOf(key);
    for (const batch of [this.#next, this.#writing]) if (batch?.changes.has(name)) return batch.changes.get(name);
    return this.#database.getBinary(asBuffer(key));
  }

  *range(from: Uint8Array, to: Uint8Array): Iterable<readonly [Uint8Array, Uint8Array]> {
    const pending = this.#pendingBetween(nameOf(from), nameOf(to));
    let next = 0;
    for (const { key, value } of this.#database.getRange({ start: asBuffer(from), end: asBuffer(to) })) {
      const name = nameOf(key);
      for (; next < pending.length && (pending[next] as PendingEntry)[0] < name; next++) yield* present(pending[next] as PendingEntry);
      if (pending[next]?.[0] === name) yield* present(pending[next++] as PendingEntry);
      else yield [key, value];
    }
    for (; next < pending.length; next++) yield* present(pending[next] as PendingEntry);
  }

  #pendingBetween(from: string, to: string): PendingEntry[] {
    const found = new Map<string, Uint8Array | undefined>();
    for (const batch of [this.#writing, this.#next])
      for (const [name, value] of batch?.changes ?? []) if (name >= from && name < to) found.set(name, value);
    return [...found].sort(([left], [right]) => (left < right ? -1 : 1));
  }

  commit(changes: Changes): Promise<void> {
    assert(!this.#closed, `the index ${this.#path} is open`);
    if (this.#failure !== null) return Promise.reject(this.#failure);
    this.#next ??= { changes: new Map(), done: deferred() };
    for (const [key, value] of changes) {
      assert(key.byteLength > 0 && key.byteLength <= KEY_BYTES_MAX, `a key of an index has 1 to ${KEY_BYTES_MAX} bytes`);
      // Copied: lmdb's thread reads them later, and so do `get` and `range`.
      this.#next.changes.set(nameOf(key), value === undefined ? undefined : Buffer.from(value));
    }
    const { promise } = this.#next.done;
    if (this.#writing === null) void this.#write();
    return promise;
  }

  /** Commits batch after batch until none is left. After a failure nothing is known of what was written: all that follow fail. */
  async #write(): Promise<void> {
    while (this.#next !== null) {
      const batch: Batch = this.#next;
      this.#writing = batch;
      this.#next = null;
      try {
        if (this.#failure !== null) throw this.#failure;
        if (batch.changes.size > 0) await this.#transaction(batch.changes);
        this.#writing = null;
        batch.done.resolve();
      } catch (error) {
        this.#failure ??= diskError("commit to", this.#path, await causeOf(error));
        batch.done.reject(this.#failure);
      }
    }
    if (this.#failure !== null) return;
    this.#writing = null;
  }

  async #transaction(changes: Batch["changes"]): Promise<void> {
    await this.#database.batch(() => {
      for (const [name, value] of changes) {
        const key = Buffer.from(name, "latin1");
        if (value === undefined) void this.#database.remove(key);
        else void this.#database.put(key, value);
      }
    });
    // A read of this turn of the event loop may have begun a read transaction before the commit; drop it.
    this.#database.resetReadTxn();
  }

  async close(): Promise<void> {
    this.#closed = true;
    await (this.#next ?? this.#writing)?.done.promise.catch(() => {});
    await this.#database.close();
  }
}

/** lmdb rejects a commit with an error that only refers to a promise of the true one. */
async function causeOf(error: unknown): Promise<unknown> {
  const { commitError } = error as { commitError?: Promise<never> };
  if (commitError === undefined) return error;
  const later = new Promise<unknown>((resolve) => setImmediate(resolve, error));
  return Promise.race([commitError.catch((cause: unknown) => cause), later]);
}

function nameOf(key: Uint8Array): string {
  return asBuffer(key).toString("latin1");
}

type PendingEntry = readonly [name: string, value: Uint8Array | undefined];

function* present([name, value]: PendingEntry): Iterable<readonly [Uint8Array, Uint8Array]> {
  if (value !== undefined) yield [Buffer.from(name, "latin1"), value];
}
