import { BLOCK_BYTES, blocksOf, type Extent } from "@dazzle/core";
import { SeededRandom } from "@dazzle/sim";
import test from "ava";
import { ExtentMap } from "../src/extent-map.ts";

const BLOCKS = 600;

interface Stored {
  readonly sequence: number;
  readonly offset: number;
  readonly bytes: number;
}

function blocksHeld(map: ExtentMap): Map<number, Stored> {
  const held = new Map<number, Stored>();
  let end = 0;
  for (const extent of map.between(0, Number.MAX_SAFE_INTEGER)) {
    if (extent.block < end) throw new Error("extents overlap or are not sorted");
    end = extent.block + blocksOf(extent.length);
    for (let block = extent.block; block < end; block++) {
      const skip = (block - extent.block) * BLOCK_BYTES;
      held.set(block, { sequence: extent.sequence, offset: extent.offset + skip, bytes: Math.min(BLOCK_BYTES, extent.length - skip) });
    }
  }
  return held;
}

for (const seed of [1, 2, 3, 4, 5]) {
  test(`puts, cuts and truncations agree with a map of blocks, seed=${seed}`, (t) => {
    const random = new SeededRandom(seed);
    const map = new ExtentMap(true);
    const model = new Map<number, Stored>();
    for (let step = 0; step < 2_000; step++) {
      const block = random.below(BLOCKS);
      switch (random.below(4)) {
        case 0:
        case 1: {
          const count = 1 + random.below(20);
          const length = random.below(3) === 0 ? count * BLOCK_BYTES - random.below(BLOCK_BYTES) : count * BLOCK_BYTES;
          const offset = random.below(64) * BLOCK_BYTES;
          const extent: Extent = { block, log: 1, sequence: 1 + (step % 7), offset, length, group: 1, groupVersion: 1 };
          let replaced = 0;
          for (let at = 0; at < count; at++) {
            if (model.has(block + at)) replaced++;
            model.set(block + at, {
              sequence: extent.sequence,
              offset: offset + at * BLOCK_BYTES,
              bytes: Math.min(BLOCK_BYTES, length - at * BLOCK_BYTES),
            });
          }
          t.is(map.put(extent), replaced, `seed=${seed} step=${step}`);
          break;
        }
        case 2: {
          const to = block + random.below(30);
          map.punch(block, to);
          for (let at = block; at < to; at++) model.delete(at);
          break;
        }
        default: {
          if (random.below(10) > 0) break;
          const from = block * BLOCK_BYTES + random.below(BLOCK_BYTES);
          map.truncate(from);
          for (const [at, stored] of model) {
            if (at * BLOCK_BYTES >= from) model.delete(at);
            else if ((at + 1) * BLOCK_BYTES > from) model.set(at, { ...stored, bytes: Math.min(stored.bytes, from - at * BLOCK_BYTES) });
          }
        }
      }
      if (step % 50 === 0)
        t.deepEqual(
          [...blocksHeld(map)],
          [...model].sort(([a], [b]) => a - b),
          `seed=${seed} step=${step}`,
        );
    }
    t.deepEqual(
      [...blocksHeld(map)],
      [...model].sort(([a], [b]) => a - b),
      `seed=${seed}`,
    );
  });
}

test("what was written here stays on top of what a manager answers", (t) => {
  const map = new ExtentMap(false);
  const at = (block: number, sequence: number): Extent => ({
    block,
    log: 1,
    sequence,
    offset: 0,
    length: BLOCK_BYTES,
    group: 1,
    groupVersion: 1,
  });
  t.false(map.isKnown(3));
  map.put(at(3, 9));
  map.learn(0, 1, [at(2, 1), at(3, 1), at(4, 1)]);
  t.true(map.isKnown(3));
  t.deepEqual(
    [...map.between(0, 10)].map(({ block, sequence }) => [block, sequence]),
    [
      [2, 1],
      [3, 9],
      [4, 1],
    ],
  );
});
