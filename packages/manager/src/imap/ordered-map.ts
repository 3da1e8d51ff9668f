/** A map that is also read in key order. Keys are sorted when an ordered read follows an insertion, which is cheap where
 * few are new. Strings compare by their characters' codes, which for latin1 names is the order of their bytes. */
export class OrderedMap<Key extends string | number, Value> {
  readonly #values = new Map<Key, Value>();
  #keys: Key[] = [];
  #sorted = true;

  get size(): number {
    return this.#values.size;
  }

  get(key: Key): Value | undefined {
    return this.#values.get(key);
  }

  set(key: Key, value: Value): void {
    if (!this.#values.has(key)) {
      this.#keys.push(key);
      this.#sorted = false;
    }
    this.#values.set(key, value);
  }

  /** Entries from `from` on (from the first where it is undefined), ascending. What is inserted behind the present one
   * meanwhile is seen. */
  *from(from: Key | undefined): Generator<readonly [Key, Value]> {
    this.#sort();
    let keys = this.#keys;
    for (let at = from === undefined ? 0 : this.#lowerBound(from); at < keys.length; at++) {
      const key = keys[at] as Key;
      yield [key, this.#values.get(key) as Value];
      if (this.#sorted && keys === this.#keys) continue;
      this.#sort();
      keys = this.#keys;
      at = this.#lowerBound(key);
    }
  }

  #sort(): void {
    if (this.#sorted) return;
    // A new array, so that whoever iterates sees that positions moved.
    const keys = this.#keys.slice();
    if (typeof keys[0] === "number") (keys as number[]).sort((a, b) => a - b);
    else keys.sort();
    this.#keys = keys;
    this.#sorted = true;
  }

  #lowerBound(key: Key): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.#keys[middle] as Key) < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
