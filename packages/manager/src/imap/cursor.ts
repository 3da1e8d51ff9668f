/** Entries of one source in key order. `key` is undefined at the end. A value of null is a tombstone. */
export interface Cursor {
  readonly key: Buffer | undefined;
  readonly value: Buffer | null;
  /** Moves on; answers a promise where something has to be read first. */
  advance(): Promise<void> | undefined;
}

export type KeyValue = readonly [Buffer, Buffer | null];

/** What is in memory. Stands at the first entry. */
export class IteratorCursor implements Cursor {
  readonly #iterator: Iterator<KeyValue>;
  key: Buffer | undefined;
  value: Buffer | null = null;

  constructor(entries: Iterator<KeyValue>) {
    this.#iterator = entries;
    this.advance();
  }

  advance(): undefined {
    const { value, done } = this.#iterator.next();
    if (done) {
      this.key = undefined;
      this.value = null;
      return;
    }
    this.key = value[0];
    this.value = value[1];
  }
}

/** Several sources as one, the newest first: of entries with one key the newest is seen, tombstones included. */
export class MergedCursor implements Cursor {
  readonly #sources: readonly Cursor[];
  #at = -1;

  constructor(sources: readonly Cursor[]) {
    this.#sources = sources;
    this.#choose();
  }

  get key(): Buffer | undefined {
    return this.#sources[this.#at]?.key;
  }

  get value(): Buffer | null {
    return this.#sources[this.#at]?.value ?? null;
  }

  advance(): Promise<void> | undefined {
    const { key } = this;
    if (key === undefined) return undefined;
    let waits: Promise<void>[] | undefined;
    for (const source of this.#sources) {
      if (source.key === undefined || !source.key.equals(key)) continue;
      const wait = source.advance();
      if (wait !== undefined) {
        waits ??= [];
        waits.push(wait);
      }
    }
    if (waits === undefined) {
      this.#choose();
      return undefined;
    }
    return Promise.all(waits).then(() => this.#choose());
  }

  #choose(): void {
    this.#at = -1;
    let least: Buffer | undefined;
    for (let index = 0; index < this.#sources.length; index++) {
      const { key } = this.#sources[index] as Cursor;
      if (key === undefined || (least !== undefined && key.compare(least) >= 0)) continue;
      least = key;
      this.#at = index;
    }
  }
}
