import { assert } from "./assert.ts";
import { PARITY_WASM } from "./parity-wasm.ts";

/** Plain XOR: `target ^= source`, the reference that the WASM version is checked against. */
export function xorInto(target: Uint8Array, source: Uint8Array): void {
  assert(source.byteLength <= target.byteLength, "parity is as long as the longest slice");
  for (let i = 0; i < source.byteLength; i++) target[i] = (target[i] as number) ^ (source[i] as number);
}

type XorFunction = (target: number, first: number, second: number, length: number) => void;

/** The part of WebAssembly used here: no type library of this workspace declares it. */
interface WasmPlatform {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: { readonly xor: XorFunction } };
  readonly Memory: new (descriptor: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
}

const wasm = (globalThis as unknown as { readonly WebAssembly: WasmPlatform }).WebAssembly;
const PAGE_BYTES = 64 * 1024;
const PAGES_MAX = 65_536;
const parityModule = new wasm.Module(Buffer.from(PARITY_WASM, "base64"));

/** One WASM memory, of a fixed size (growing it would cut off every view), in which parity is computed in place. Views
 * over `bytes` may go to files and sockets as they are. */
export class ParityMemory {
  readonly bytes: Buffer;
  readonly #xor: XorFunction;

  constructor(bytes: number) {
    const pages = Math.ceil(bytes / PAGE_BYTES);
    assert(pages > 0 && pages <= PAGES_MAX, "a WASM memory has at most 4 GiB");
    const memory = new wasm.Memory({ initial: pages, maximum: pages });
    this.#xor = new wasm.Instance(parityModule, { dazzle: { memory } }).exports.xor;
    this.bytes = Buffer.from(memory.buffer);
  }

  /** `target[i] = first[i] ^ second[i]`; the three are offsets in the memory. `target` may be `first`. */
  xor(target: number, first: number, second: number, length: number): void {
    const end = this.bytes.length - length;
    assert(length >= 0 && target <= end && first <= end && second <= end, "XOR stays in the memory");
    this.#xor(target, first, second, length);
  }

  /** The parity, at `target`, of slices of `sliceBytes` that lie one after the other from `source` on, `payloadBytes` in
   * all; the last may be short and counts as if zeros followed. Answers its length: the first slice's. */
  parityOf(target: number, source: number, sliceBytes: number, payloadBytes: number): number {
    const length = Math.min(sliceBytes, payloadBytes);
    let first = source;
    for (let slice = sliceBytes; slice < payloadBytes; slice += sliceBytes) {
      const bytes = Math.min(sliceBytes, payloadBytes - slice);
      this.xor(target, first, source + slice, bytes);
      if (first === source && bytes < length) this.bytes.copyWithin(target + bytes, source + bytes, source + length);
      first = target;
    }
    if (first === source) this.bytes.copyWithin(target, source, source + length);
    return length;
  }
}

const CHUNK_BYTES = 32 * 1024;
let scratch: ParityMemory | undefined;

/** `target ^= source` for bytes anywhere, through a small WASM memory. `source` may be shorter. */
export function xorBytes(target: Uint8Array, source: Uint8Array): void {
  assert(source.byteLength <= target.byteLength, "parity is as long as the longest slice");
  scratch ??= new ParityMemory(2 * CHUNK_BYTES);
  const { bytes } = scratch;
  for (let at = 0; at < source.byteLength; at += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, source.byteLength - at);
    bytes.set(target.subarray(at, at + length), 0);
    bytes.set(source.subarray(at, at + length), CHUNK_BYTES);
    scratch.xor(0, 0, CHUNK_BYTES, length);
    target.set(bytes.subarray(0, length), at);
  }
}
