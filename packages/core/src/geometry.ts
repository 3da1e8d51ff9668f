import { assert } from "./assert.ts";
import { roundUp } from "./bytes.ts";
import { BLOCK_BYTES } from "./limits.ts";

/** How a segment's payload is cut: `d` data fragments of `fragmentBytes` (the last may be shorter), `m` parity fragments. */
export interface Stripe {
  readonly dataFragments: number;
  readonly parityFragments: number;
  readonly fragmentBytes: number;
  readonly payloadBytes: number;
}

/** The narrowest stripe for a payload in a group version of `d + m`: mirrored (d = 1) up to `mirrorBytes`, else as many
 * data fragments as the payload fills, each of whole blocks. */
export function stripeFor(payloadBytes: number, groupData: number, parityFragments: number, mirrorBytes: number): Stripe {
  assert(payloadBytes > 0 && groupData >= 1, "a segment has a payload and a group has a data fragment");
  const wide = payloadBytes <= mirrorBytes ? 1 : groupData;
  const fragmentBytes = roundUp(Math.ceil(payloadBytes / wide), BLOCK_BYTES);
  const dataFragments = Math.max(1, Math.ceil(payloadBytes / fragmentBytes));
  return { dataFragments, parityFragments, fragmentBytes, payloadBytes };
}

/** Bytes that fragment `index` holds: a data fragment its slice; a parity fragment as much as the longest slice, which is the first. */
export function fragmentLength(stripe: Stripe, index: number): number {
  const longest = Math.min(stripe.fragmentBytes, stripe.payloadBytes);
  if (index >= stripe.dataFragments) return longest;
  return Math.min(stripe.fragmentBytes, stripe.payloadBytes - index * stripe.fragmentBytes);
}

/** The place (0 … n − 1) of fragment `index` of a segment in a group version of `servers`, so that parity rotates. */
export function placeOf(sequence: number, index: number, servers: number): number {
  return (sequence + index) % servers;
}

export interface FragmentRange {
  readonly index: number;
  /** Offset in the fragment's data. */
  readonly offset: number;
  readonly length: number;
}

/** The ranges of data fragments that hold payload bytes `offset … offset + length`. */
export function fragmentRanges(stripe: Stripe, offset: number, length: number): FragmentRange[] {
  assert(offset >= 0 && offset + length <= stripe.payloadBytes, "a range lies in the payload");
  const ranges: FragmentRange[] = [];
  let at = offset;
  while (at < offset + length) {
    const index = Math.floor(at / stripe.fragmentBytes);
    const within = at - index * stripe.fragmentBytes;
    const take = Math.min(offset + length - at, stripe.fragmentBytes - within);
    ranges.push({ index, offset: within, length: take });
    at += take;
  }
  return ranges;
}
