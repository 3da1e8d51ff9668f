import { assert } from "./assert.ts";
import { roundUp } from "./bytes.ts";
import { PARITY_MAX } from "./erasure.ts";
import { PARITY_WASM } from "./parity-wasm.ts";

interface ParityFunctions {
  xor(target: number, first: number, second: number, length: number): void;
  parities(first: number, second: number, last: number, stride: number, slices: number, length: number): void;
  addMultiple(target: number, source: number, factor: number, length: number): void;
}

/** The part of WebAssembly used here: no type library of this workspace declares it. */
interface WasmPlatform {
  readonly Module: new (bytes: Uint8Array) => object;
  readonly Instance: new (module: object, imports: object) => { readonly exports: ParityFunctions };
  readonly Memory: new (descriptor: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
}

const wasm = (globalThis as unknown as { readonly WebAssembly: WasmPlatform }).WebAssembly;
const PAGE_BYTES = 64 * 1024;
const PAGES_MAX = 65_536;
/** What is counted in at once, but by XOR. */
const VECTOR_BYTES = 16;
const parityModule = new wasm.Module(Buffer.from(PARITY_WASM, "base64"));

/** One WASM memory, of a fixed size (growing it would cut off every view), in which parity is computed in place. Views
 * over `bytes` may go to files and sockets as they are. */
export class ParityMemory {
  readonly bytes: Buffer;
  readonly #functions: ParityFunctions;

  constructor(bytes: number) {
    const pages = Math.ceil(bytes / PAGE_BYTES);
    assert(pages > 0 && pages <= PAGES_MAX, "a WASM memory has at most 4 GiB");
    const memory = new wasm.Memory({ initial: pages, maximum: pages });
    this.#functions = new wasm.Instance(parityModule, { dazzle: { memory } }).exports;
    this.bytes = Buffer.from(memory.buffer);
  }

  /** `target[i] = first[i] ^ second[i]`; the three are offsets in the memory. `target` may be `first`. */
  xor(target: number, first: number, second: number, length: number): void {
    const end = this.bytes.length - length;
    assert(length >= 0 && target <= end && first <= end && second <= end, "XOR stays in the memory");
    this.#functions.xor(target, first, second, length);
  }

  /** `target[i] += factor * source[i]` in GF(2^8); `length` is a multiple of 16. */
  addMultiple(target: number, source: number, factor: number, length: number): void {
    const end = this.bytes.length - length;
    assert(length >= 0 && length % VECTOR_BYTES === 0 && target <= end && source <= end, "whole vectors of the memory are counted in");
    this.#functions.addMultiple(target, source, factor, length);
  }

  /** The parities, one after the other at `target`, of slices of `sliceBytes` that lie one after the other from `source` on, `payloadBytes` in all; the last may be
   * short and counts as if zeros followed. Two take slices of whole vectors, and zero what follows the payload up to the next. Answers the length of each: the first slice's. */
  parityOf(target: number, source: number, sliceBytes: number, payloadBytes: number, parities: number): number {
    assert(parities > 0 && parities <= PARITY_MAX && payloadBytes > 0, "one parity or two are computed of something");
    const length = Math.min(sliceBytes, payloadBytes);
    assert(Math.max(source + payloadBytes, target + parities * length) <= this.bytes.length, "parity stays in the memory");
    if (payloadBytes <= sliceBytes)
      for (let at = 0; at < parities; at++) this.bytes.copyWithin(target + at * length, source, source + length);
    else if (parities === 1) this.#xorOf(target, source, sliceBytes, payloadBytes);
    else this.#bothOf(target, source, sliceBytes, payloadBytes);
    return length;
  }

  #xorOf(target: number, source: number, sliceBytes: number, payloadBytes: number): void {
    let first = source;
    for (let slice = sliceBytes; slice < payloadBytes; slice += sliceBytes) {
      const bytes = Math.min(sliceBytes, payloadBytes - slice);
      this.xor(target, first, source + slice, bytes);
      if (first === source && bytes < sliceBytes) this.bytes.copyWithin(target + bytes, source + bytes, source + sliceBytes);
      first = target;
    }
  }

  #bothOf(target: number, source: number, sliceBytes: number, payloadBytes: number): void {
    assert(sliceBytes % VECTOR_BYTES === 0, "slices are of whole vectors");
    const slices = Math.ceil(payloadBytes / sliceBytes);
    const last = source + (slices - 1) * sliceBytes;
    const all = roundUp(source + payloadBytes - last, VECTOR_BYTES);
    assert(last + all <= this.bytes.length, "the last slice has room for whole vectors");
    this.bytes.fill(0, source + payloadBytes, last + all);
    const second = target + sliceBytes;
    this.#functions.parities(target, second, last, sliceBytes, slices, all);
    this.#functions.parities(target + all, second + all, last - sliceBytes + all, sliceBytes, slices - 1, sliceBytes - all);
  }
}

const CHUNK_BYTES = 32 * 1024;
let scratch: ParityMemory | undefined;

/** `target += factor * source` in GF(2^8) for bytes anywhere, through a small WASM memory; with the factor 1 it is XOR. `source` may be shorter. */
export function addMultiple(target: Uint8Array, source: Uint8Array, factor: number): void {
  assert(source.byteLength <= target.byteLength, "parity is as long as the longest slice");
  scratch ??= new ParityMemory(2 * CHUNK_BYTES);
  const { bytes } = scratch;
  for (let at = 0; at < source.byteLength; at += CHUNK_BYTES) {
    const length = Math.min(CHUNK_BYTES, source.byteLength - at);
    bytes.set(target.subarray(at, at + length), 0);
    bytes.set(source.subarray(at, at + length), CHUNK_BYTES);
    if (factor === 1) scratch.xor(0, 0, CHUNK_BYTES, length);
    else scratch.addMultiple(0, CHUNK_BYTES, factor, roundUp(length, VECTOR_BYTES));
    target.set(bytes.subarray(0, length), at);
  }
}
