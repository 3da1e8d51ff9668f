import type { Packr } from "msgpackr";

/** Maps that are recognised. Members are at most a few versions apart. */
const KNOWN_MAX = 4;
const ARRAY_OF_ONE = 0x91;
const ARRAY_OF_15 = 0x9f;

interface KnownMap {
  readonly map: object;
  readonly packed: Buffer;
}

/** Frame headers that end with the cluster map, which is most of what is packed, and the same to many and from many: each map is packed once, and
 * unpacked once. */
export class PackedMaps {
  readonly #packr: Packr;
  readonly #packed = new WeakMap<object, Buffer>();
  /** The last one met first. */
  #known: KnownMap[] = [];

  constructor(packr: Packr) {
    this.#packr = packr;
  }

  /** The array of `fields`, at most 14, with `map` behind them. */
  pack(fields: readonly unknown[], map: object): Uint8Array {
    const start = this.#packr.pack(fields);
    start[0] = (start[0] as number) + 1;
    return Buffer.concat([start, this.know(map)]);
  }

  /** What `pack` packed, where it is whole and ends with a known map: nothing else unpacks without its end as an array of one field less. */
  unpack(bytes: Buffer): unknown[] | undefined {
    const marker = bytes[0] as number;
    if (marker < ARRAY_OF_ONE || marker > ARRAY_OF_15) return undefined;
    const known = this.#known.find(({ packed }) => bytes.length > packed.length && bytes.subarray(-packed.length).equals(packed));
    if (known === undefined) return undefined;
    const start = Buffer.from(bytes.subarray(0, bytes.length - known.packed.length));
    start[0] = marker - 1;
    try {
      return [...this.#packr.unpack(start), known.map];
    } catch {
      return undefined;
    }
  }

  /** Recognises this map from now on. Answers it packed. */
  know(map: object): Buffer {
    let packed = this.#packed.get(map);
    if (packed === undefined) {
      packed = Buffer.from(this.#packr.pack(map));
      this.#packed.set(map, packed);
    }
    if (this.#known[0]?.map !== map)
      this.#known = [{ map, packed }, ...this.#known.filter((known) => known.map !== map)].slice(0, KNOWN_MAX);
    return packed;
  }
}
