import { AssertionError, addMultiple, DATA_FRAGMENTS_MAX, product, reconstruction } from "@dazzle/core";
import test from "ava";
import { pattern, plainParities, plainProduct } from "./support/plain-parity.ts";

const SLICE_BYTES = 48;

/** Every choice of `count` of the numbers. */
function choices(numbers: readonly number[], count: number): number[][] {
  if (count === 0) return [[]];
  return numbers.flatMap((first, at) => choices(numbers.slice(at + 1), count - 1).map((rest) => [first, ...rest]));
}

function reconstructed(fragments: readonly Buffer[], dataFragments: number, wanted: number, available: readonly number[]): Buffer {
  const target = Buffer.alloc(SLICE_BYTES);
  for (const { index, factor } of reconstruction(dataFragments, wanted, available)) addMultiple(target, fragments[index] as Buffer, factor);
  return target.subarray(0, (fragments[wanted] as Buffer).length);
}

test("products are those of GF(2^8)", (t) => {
  for (let one = 0; one < 256; one++) for (let other = 0; other < 256; other++) t.is(product(one, other), plainProduct(one, other));
});

for (let data = 1; data <= 8; data++)
  test(`every fragment of ${data}+2 is computed from any ${data} others, whatever the last slice's length`, (t) => {
    let patterns = 0;
    for (const last of [1, 16, 31, SLICE_BYTES]) {
      const payload = pattern((data - 1) * SLICE_BYTES + last, 17 * data + last);
      const slices = Array.from({ length: data }, (_, slice) => payload.subarray(slice * SLICE_BYTES, (slice + 1) * SLICE_BYTES));
      const fragments = [...slices, ...plainParities(payload, SLICE_BYTES)];
      const indices = fragments.map((_, index) => index);
      for (const wanted of indices)
        for (const available of choices(
          indices.filter((index) => index !== wanted),
          data,
        )) {
          t.deepEqual(reconstructed(fragments, data, wanted, available.reverse()), Buffer.from(fragments[wanted] as Buffer));
          patterns++;
        }
    }
    t.is(patterns, 4 * (data + 2) * (data + 1));
  });

test("the widest stripe there is", (t) => {
  const payload = pattern(DATA_FRAGMENTS_MAX * SLICE_BYTES, 1);
  const slices = Array.from({ length: DATA_FRAGMENTS_MAX }, (_, slice) => payload.subarray(slice * SLICE_BYTES, (slice + 1) * SLICE_BYTES));
  const fragments = [...slices, ...plainParities(payload, SLICE_BYTES)];
  for (const [wanted, gone] of [
    [0, DATA_FRAGMENTS_MAX - 1],
    [DATA_FRAGMENTS_MAX - 1, 0],
    [100, DATA_FRAGMENTS_MAX],
    [DATA_FRAGMENTS_MAX + 1, 7],
  ] as const) {
    const available = fragments.map((_, index) => index).filter((index) => index !== wanted && index !== gone);
    t.deepEqual(reconstructed(fragments, DATA_FRAGMENTS_MAX, wanted, available), Buffer.from(fragments[wanted] as Buffer));
  }
});

test("too few fragments, or the wanted one itself, are an assertion", (t) => {
  for (const available of [
    [0, 2],
    [0, 1, 2],
    [0, 2, 3, 4],
    [0, 0, 2],
  ])
    t.throws(() => reconstruction(3, 1, available), { instanceOf: AssertionError });
});
