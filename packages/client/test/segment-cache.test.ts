import { SeededRandom } from "@dazzle/sim";
import test from "ava";
import { SegmentCache } from "../src/segment-cache.ts";

const SEGMENT_BYTES = 256 * 1024;

/** The byte at an offset of a segment. */
function byteAt(sequence: number, offset: number): number {
  return (sequence * 31 + offset * 7 + (offset >> 8)) & 0xff;
}

function bytesOf(sequence: number, offset: number, length: number): Buffer {
  return Buffer.from({ length }, (_, index) => byteAt(sequence, offset + index));
}

for (const seed of [1, 2, 3]) {
  test(`what is gathered is what was put, and the budget holds, seed=${seed}`, (t) => {
    const random = new SeededRandom(seed);
    const cache = new SegmentCache(300_000);
    let found = 0;
    for (let step = 0; step < 1_500; step++) {
      const sequence = 1 + random.below(4);
      const offset = random.below(SEGMENT_BYTES);
      const length = 1 + random.below(Math.min(random.below(2) === 0 ? 4_096 : 60_000, SEGMENT_BYTES - offset));
      if (random.below(2) === 0) {
        const bytes = bytesOf(sequence, offset, length);
        const cut = random.below(length);
        cache.put(1, sequence, offset, [bytes.subarray(0, cut), bytes.subarray(cut)]);
        t.true(cache.bytes <= 300_000, `seed=${seed} step=${step}`);
        continue;
      }
      const pieces: Uint8Array[] = [];
      const had = cache.gather(1, sequence, offset, length, pieces);
      found += had;
      t.deepEqual(Buffer.concat(pieces), bytesOf(sequence, offset, had), `seed=${seed} step=${step}`);
    }
    t.true(found > 0);
  });
}

test("the least recently used bytes go first", (t) => {
  const cache = new SegmentCache(3 * 40_000);
  const put = (sequence: number) => cache.put(1, sequence, 0, [bytesOf(sequence, 0, 40_000)]);
  for (const sequence of [1, 2, 3]) put(sequence);
  cache.gather(1, 1, 0, 100, []);
  put(4);
  t.true(cache.has(1, 1, 0));
  t.false(cache.has(1, 2, 0));
});
