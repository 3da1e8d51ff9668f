import {
  AssertionError,
  BLOCK_BYTES,
  dataServers,
  fragmentLength,
  fragmentRanges,
  type GroupVersionRow,
  placeOf,
  type Stripe,
  shapeOver,
  stripeFor,
} from "@dazzle/core";
import test from "ava";
import { seeds } from "./support/seeded.ts";

const MIRROR_BYTES = 4 * BLOCK_BYTES;
const PAYLOADS = [1, 4_095, 4_096, 4_097, 16_383, 16_384, 16_385, 24_576, 40_960, 65_536, 65_537, 100_000];

function stripes(): Stripe[] {
  const all: Stripe[] = [];
  for (const payloadBytes of PAYLOADS)
    for (let data = 1; data <= 8; data++)
      for (let parity = 0; parity <= 2; parity++) all.push(stripeFor(payloadBytes, data, parity, MIRROR_BYTES));
  return all;
}

test("data fragments of whole blocks cover the payload once, none of them empty", (t) => {
  for (const stripe of stripes()) {
    const at = JSON.stringify(stripe);
    let covered = 0;
    for (let index = 0; index < stripe.dataFragments; index++) {
      const length = fragmentLength(stripe, index);
      t.true(length > 0 && length <= stripe.fragmentBytes, at);
      t.true(index === stripe.dataFragments - 1 || length === stripe.fragmentBytes, at);
      covered += length;
    }
    t.is(covered, stripe.payloadBytes, at);
    t.is(stripe.fragmentBytes % BLOCK_BYTES, 0, at);
  }
});

test("a parity fragment is as long as the longest slice", (t) => {
  for (const stripe of stripes()) {
    let longest = 0;
    for (let index = 0; index < stripe.dataFragments; index++) longest = Math.max(longest, fragmentLength(stripe, index));
    for (let index = stripe.dataFragments; index < stripe.dataFragments + stripe.parityFragments; index++)
      t.is(fragmentLength(stripe, index), longest, JSON.stringify(stripe));
  }
});

test("a small payload is mirrored, a large one is as wide as its group", (t) => {
  t.is(stripeFor(MIRROR_BYTES, 4, 1, MIRROR_BYTES).dataFragments, 1);
  t.is(stripeFor(MIRROR_BYTES + 1, 4, 1, MIRROR_BYTES).dataFragments, 3);
  t.is(stripeFor(4 * MIRROR_BYTES, 4, 1, MIRROR_BYTES).dataFragments, 4);
  t.is(stripeFor(100 * MIRROR_BYTES, 4, 1, MIRROR_BYTES).dataFragments, 4);
});

test("every byte of a range is found where a byte by byte map has it", (t) => {
  for (const random of seeds(40)) {
    const stripe = stripeFor(random.between(1, 60_000), random.between(1, 5), random.below(3), MIRROR_BYTES);
    for (let round = 0; round < 20; round++) {
      const offset = random.below(stripe.payloadBytes);
      const length = random.below(stripe.payloadBytes - offset + 1);
      const found: string[] = [];
      for (const range of fragmentRanges(stripe, offset, length))
        for (let at = 0; at < range.length; at += 1) found.push(`${range.index}:${range.offset + at}`);
      const expected: string[] = [];
      for (let at = offset; at < offset + length; at++)
        expected.push(`${Math.floor(at / stripe.fragmentBytes)}:${at % stripe.fragmentBytes}`);
      t.is(found.join(), expected.join(), `seed=${random.seed} round=${round} ${JSON.stringify(stripe)}`);
    }
  }
});

test("a range outside the payload is a mistake", (t) => {
  const stripe = stripeFor(10_000, 2, 1, 0);
  t.deepEqual(fragmentRanges(stripe, 10_000, 0), []);
  t.throws(() => fragmentRanges(stripe, 9_999, 2), { instanceOf: AssertionError });
  t.throws(() => fragmentRanges(stripe, -1, 2), { instanceOf: AssertionError });
});

test("a segment's fragments lie on different servers, and parity visits all of them", (t) => {
  for (let servers = 1; servers <= 7; servers++) {
    const parityPlaces = new Set<number>();
    for (let sequence = 1; sequence <= servers; sequence++) {
      const places = new Set(Array.from({ length: servers }, (_, index) => placeOf(sequence, index, servers)));
      t.is(places.size, servers);
      parityPlaces.add(placeOf(sequence, servers - 1, servers));
    }
    t.is(parityPlaces.size, servers);
  }
});

function row(servers: number, parity: number, dataMax?: number): GroupVersionRow {
  const shape = shapeOver(servers, parity, dataMax === undefined ? {} : { dataMax });
  return { ...shape, servers: Array.from({ length: servers }, () => ({})) } as unknown as GroupVersionRow;
}

test("a group's stripes are as wide as it is, or as its bound has it where there are servers for that", (t) => {
  for (let servers = 1; servers <= 12; servers++)
    for (let parity = 0; parity <= Math.min(2, servers - 1); parity++) {
      const widest = servers - parity;
      t.is(row(servers, parity).dataFragments, widest);
      t.is(dataServers(row(servers, parity)), widest);
      for (let dataMax = 1; dataMax <= 14; dataMax++) {
        const bounded = row(servers, parity, dataMax);
        t.is(bounded.dataFragments, Math.min(widest, dataMax));
        t.is(bounded.parityFragments, parity);
        // As many places as there are servers share what a stripe takes.
        const share = dataServers(bounded) * (bounded.dataFragments + parity);
        t.true(Math.abs(share - servers * bounded.dataFragments) < 1e-9);
      }
    }
});

test("stripes that are narrower than their group go round over all its servers", (t) => {
  const held = new Map<number, number>();
  for (let sequence = 1; sequence <= 6 * 10; sequence++)
    for (let index = 0; index < 5; index++) {
      const place = placeOf(sequence, index, 6);
      held.set(place, (held.get(place) ?? 0) + 1);
    }
  t.deepEqual([...held.values()], Array(6).fill(50));
});
