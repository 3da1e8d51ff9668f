/** Parity a byte at a time, as in a textbook: what the fast one is held against. */
export function xorInto(target: Uint8Array, source: Uint8Array): void {
  for (let i = 0; i < source.byteLength; i++) target[i] = (target[i] as number) ^ (source[i] as number);
}

/** Of two bytes in GF(2^8), with the polynomial 0x11d. */
export function plainProduct(one: number, other: number): number {
  let sum = 0;
  for (let bit = 7; bit >= 0; bit--) {
    sum <<= 1;
    if (sum & 0x100) sum ^= 0x11d;
    if ((other >> bit) & 1) sum ^= one;
  }
  return sum;
}

/** P and Q of a payload's slices. */
export function plainParities(payload: Buffer, sliceBytes: number): [Buffer, Buffer] {
  const length = Math.min(sliceBytes, payload.length);
  const parities: [Buffer, Buffer] = [Buffer.alloc(length), Buffer.alloc(length)];
  let factor = 1;
  for (let at = 0; at < payload.length; at += sliceBytes) {
    const slice = payload.subarray(at, at + sliceBytes);
    xorInto(parities[0], slice);
    xorInto(
      parities[1],
      slice.map((byte) => plainProduct(factor, byte)),
    );
    factor = plainProduct(factor, 2);
  }
  return parities;
}

export function pattern(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let state = seed;
  for (let i = 0; i < length; i++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    bytes[i] = state >>> 16;
  }
  return bytes;
}
