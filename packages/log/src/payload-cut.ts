import { addMultiple, fragmentLength, parityFactor, type Stripe } from "@dazzle/core";

/** The slice of a payload that data fragment `index` holds; of a mirrored segment every fragment holds the whole. */
export function payloadSlice(payload: Buffer, stripe: Stripe, index: number): Buffer {
  const start = stripe.dataFragments === 1 ? 0 : index * stripe.fragmentBytes;
  return payload.subarray(start, start + fragmentLength(stripe, index));
}

/** All that fragment `index` holds. */
export function fragmentData(payload: Buffer, stripe: Stripe, index: number): Buffer {
  return isParity(stripe, index)
    ? parityCopy(payload, stripe.fragmentBytes, index - stripe.dataFragments)
    : payloadSlice(payload, stripe, index);
}

export function isParity(stripe: Stripe, index: number): boolean {
  return stripe.dataFragments > 1 && index >= stripe.dataFragments;
}

/** One of the parities of a payload's slices, in memory of its own. */
export function parityCopy(payload: Buffer, sliceBytes: number, parity: number): Buffer {
  const bytes = Buffer.from(payload.subarray(0, sliceBytes));
  for (let slice = 1, at = sliceBytes; at < payload.length; slice++, at += sliceBytes)
    addMultiple(bytes, payload.subarray(at, at + sliceBytes), parityFactor(parity, slice));
  return bytes;
}
