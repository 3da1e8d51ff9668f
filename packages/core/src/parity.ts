import { assert } from "./assert.ts";

/** Plain XOR: `target ^= source`, the reference that the WASM version is checked against. */
export function xorInto(target: Uint8Array, source: Uint8Array): void {
  assert(source.byteLength <= target.byteLength, "parity is as long as the longest slice");
  for (let i = 0; i < source.byteLength; i++) target[i] = (target[i] as number) ^ (source[i] as number);
}
