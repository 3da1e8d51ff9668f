import { assert } from "./assert.ts";

/** Parity fragments of a stripe, at most. */
export const PARITY_MAX = 2;
/** GF(2^8) has so many powers of two: each slice of a stripe has its own. */
const POWERS = 255;
export const DATA_FRAGMENTS_MAX = POWERS - PARITY_MAX;
/** x^8 + x^4 + x^3 + x^2 + 1. */
const POLYNOMIAL = 0x11d;

const power = new Uint8Array(2 * POWERS);
const logarithm = new Uint8Array(POWERS + 1);
for (let exponent = 0, value = 1; exponent < POWERS; exponent++) {
  power[exponent] = value;
  power[exponent + POWERS] = value;
  logarithm[value] = exponent;
  value <<= 1;
  if (value > POWERS) value ^= POLYNOMIAL;
}

/** The product of two bytes in GF(2^8); their sum is XOR. */
export function product(one: number, other: number): number {
  return one === 0 || other === 0 ? 0 : (power[(logarithm[one] as number) + (logarithm[other] as number)] as number);
}

function quotient(dividend: number, divisor: number): number {
  assert(divisor !== 0, "nothing is divided by zero");
  return dividend === 0 ? 0 : (power[(logarithm[dividend] as number) + POWERS - (logarithm[divisor] as number)] as number);
}

/** What slice `slice` counts for in parity `parity`: in the first, which is XOR, all the same; in the second as 2 to the power of its number. (H. P. Anvin,
 * The mathematics of RAID-6.) With one slice, both are copies of it. */
export function parityFactor(parity: number, slice: number): number {
  assert(parity >= 0 && parity < PARITY_MAX, "there are two parities");
  return parity === 0 ? 1 : (power[slice] as number);
}

/** A fragment that others are computed from, and what it counts for. */
export interface Term {
  readonly index: number;
  readonly factor: number;
}

/** Fragment `wanted` of a stripe of `dataFragments` and parities, as a sum of the others: of `available`, as many different ones as there are slices, without it. */
export function reconstruction(dataFragments: number, wanted: number, available: readonly number[]): Term[] {
  assert(dataFragments <= DATA_FRAGMENTS_MAX && available.length === dataFragments, "as many fragments are taken as there are slices");
  const slices = Array.from({ length: dataFragments }, (_, slice) => slice);
  const missing = slices.filter((slice) => !available.includes(slice));
  const parities = available.filter((index) => index >= dataFragments).map((index) => index - dataFragments);
  assert(parities.length === missing.length && !available.includes(wanted), "the fragments differ, and are others than the wanted one");
  const given = slices.filter((slice) => available.includes(slice));
  const terms = (sliceFactor: (slice: number) => number, parityFactors: readonly number[]) => [
    ...given.map((slice) => ({ index: slice, factor: sliceFactor(slice) })),
    ...parityFactors.map((factor, at) => ({ index: dataFragments + (parities[at] as number), factor })),
  ];
  const [first, second] = missing;
  if (first === undefined) return terms((slice) => parityFactor(wanted - dataFragments, slice), []);
  if (second === undefined) {
    const parity = parities[0] as number;
    // The missing slice from the parity, and times what it counts for where the other parity is wanted.
    const lone = parityFactor(parity, first);
    const isSlice = wanted === first;
    const share = quotient(isSlice ? 1 : parityFactor(wanted - dataFragments, first), lone);
    const own = (slice: number) => (isSlice ? 0 : parityFactor(wanted - dataFragments, slice));
    return terms((slice) => own(slice) ^ product(share, parityFactor(parity, slice)), [share]);
  }
  // P and Q less what is given are x + y and 2^x x + 2^y y: the one times 2^y, and the other, have no y in their sum.
  const other = wanted === first ? second : first;
  const otherFactor = parityFactor(1, other);
  const divisor = otherFactor ^ parityFactor(1, wanted);
  const share = [quotient(otherFactor, divisor), quotient(1, divisor)] as const;
  return terms(
    (slice) => quotient(otherFactor ^ parityFactor(1, slice), divisor),
    parities.map((parity) => share[parity] as number),
  );
}
