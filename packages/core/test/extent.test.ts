import { BLOCK_BYTES, blocksOf, cutExtents, type Extent, overlayExtents, packExtents, sliceExtent, unpackExtents } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { goldenBytes } from "./support/golden.ts";
import { SAMPLE_EXTENTS } from "./support/samples.ts";
import { type Seeded, seeds } from "./support/seeded.ts";
import { throwsRow } from "./support/throws.ts";

const FILE_BLOCKS = 48;

/** What a block of a file holds: where its bytes lie, and how many there are. */
function blockMap(extents: readonly Extent[]): Map<number, string> {
  const map = new Map<number, string>();
  for (const extent of extents) {
    for (let index = 0; index < blocksOf(extent.length); index++) {
      const bytes = Math.min(BLOCK_BYTES, extent.length - index * BLOCK_BYTES);
      map.set(extent.block + index, `${extent.log}/${extent.sequence}+${extent.offset + index * BLOCK_BYTES}:${bytes}`);
    }
  }
  return map;
}

function inOrder(map: Map<number, string>): Array<[number, string]> {
  return [...map].sort(([a], [b]) => a - b);
}

function randomExtent(random: Seeded, sequence: number): Extent {
  const blocks = random.between(1, 12);
  const short = random.chance(3) ? random.between(1, BLOCK_BYTES - 1) : 0;
  return {
    block: random.below(FILE_BLOCKS - blocks),
    log: 1,
    sequence,
    offset: random.below(100) * BLOCK_BYTES,
    length: blocks * BLOCK_BYTES - short,
    group: 1,
    groupVersion: 1,
  };
}

function checkSorted(t: ExecutionContext, extents: readonly Extent[], at: string): void {
  for (const [index, extent] of extents.entries()) {
    const next = extents[index + 1];
    t.true(extent.length > 0, at);
    if (next !== undefined) t.true(extent.block + blocksOf(extent.length) <= next.block, `${at}: sorted and apart`);
  }
}

test("overlays and cuts leave what a map of single blocks leaves, and answer what they took", (t) => {
  for (const random of seeds(100)) {
    let extents: Extent[] = [];
    const model = new Map<number, string>();
    for (let step = 1; step <= 60; step++) {
      const at = `seed=${random.seed} step=${step}`;
      const taken = new Map<number, string>();
      let answered: Extent[];
      if (random.chance(3)) {
        const from = random.below(FILE_BLOCKS);
        const to = random.chance(5) ? Number.MAX_SAFE_INTEGER : from + random.below(16);
        for (const [block, value] of model) if (block >= from && block < to) taken.set(block, value);
        for (const block of taken.keys()) model.delete(block);
        ({ extents, removed: answered } = cutExtents(extents, from, to));
      } else {
        const added = randomExtent(random, step);
        for (const [block, value] of blockMap([added])) {
          const before = model.get(block);
          if (before !== undefined) taken.set(block, before);
          model.set(block, value);
        }
        ({ extents, replaced: answered } = overlayExtents(extents, added));
      }
      checkSorted(t, extents, at);
      t.deepEqual(inOrder(blockMap(extents)), inOrder(model), at);
      t.deepEqual(inOrder(blockMap(answered)), inOrder(taken), `${at}: taken`);
    }
  }
});

test("a slice keeps its bytes, and only the last block of an extent is short", (t) => {
  const extent: Extent = { block: 10, log: 1, sequence: 1, offset: 4_096, length: 2 * BLOCK_BYTES + 5, group: 1, groupVersion: 1 };
  t.deepEqual(sliceExtent(extent, 0, 10), undefined);
  t.deepEqual(sliceExtent(extent, 13, 20), undefined);
  t.deepEqual(sliceExtent(extent, 0, 100), extent);
  t.deepEqual(sliceExtent(extent, 11, 12), { ...extent, block: 11, offset: 8_192, length: BLOCK_BYTES });
  t.deepEqual(sliceExtent(extent, 12, 20), { ...extent, block: 12, offset: 12_288, length: 5 });
});

test("extents are the bytes of their golden file", (t) => {
  const golden = goldenBytes("extents", () => packExtents(SAMPLE_EXTENTS));
  t.deepEqual(packExtents(SAMPLE_EXTENTS), golden);
  t.deepEqual(unpackExtents(golden), SAMPLE_EXTENTS);
});

test("extents come back as they were packed; cut off, they are corrupt", (t) => {
  for (const random of seeds(20)) {
    const extents = Array.from({ length: random.below(20) }, (_, index) => randomExtent(random, index + 1));
    const bytes = packExtents(extents);
    t.deepEqual(unpackExtents(bytes), extents, `seed=${random.seed}`);
    if (extents.length > 0) throwsRow(t, "corrupt", () => unpackExtents(bytes.subarray(0, bytes.length - 1)), `seed=${random.seed}`);
  }
});
