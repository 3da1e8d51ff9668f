import { fragmentLength, type Stripe, xorBytes } from "@dazzle/core";

/** The slice of a payload that data fragment `index` holds; of a mirrored segment every fragment holds the whole. */
export function payloadSlice(payload: Buffer, stripe: Stripe, index: number): Buffer {
  const start = stripe.dataFragments === 1 ? 0 : index * stripe.fragmentBytes;
  return payload.subarray(start, start + fragmentLength(stripe, index));
}

/** All that fragment `index` holds. */
export function fragmentData(payload: Buffer, stripe: Stripe, index: number): Buffer {
  return isParity(stripe, index) ? parityCopy(payload, stripe.fragmentBytes) : payloadSlice(payload, stripe, index);
}

export function isParity(stripe: Stripe, index: number): boolean {
  return stripe.dataFragments > 1 && index >= stripe.dataFragments;
}

/** The XOR of a payload's slices, in memory of its own. */
export function parityCopy(payload: Buffer, sliceBytes: number): Buffer {
  const bytes = Buffer.from(payload.subarray(0, sliceBytes));
  for (let at = sliceBytes; at < payload.length; at += sliceBytes) xorBytes(bytes, payload.subarray(at, at + sliceBytes));
  return bytes;
}
