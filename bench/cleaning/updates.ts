import type { SeededRandom } from "@dazzle/sim";

/** Draws the file that is overwritten next. */
export type Updates = () => number;

export const PATTERNS = ["uniform", "hot-and-cold", "Zipf"] as const;
export type Pattern = (typeof PATTERNS)[number];

const HOT_SHARE = 0.1;
const HOT_UPDATES = 0.9;
const ZIPF_EXPONENT = 0.99;

export function updates(pattern: Pattern, files: number, random: SeededRandom): Updates {
  if (pattern === "uniform") return () => random.below(files);
  if (pattern === "Zipf") return zipf(files, random);
  const hot = Math.round(files * HOT_SHARE);
  return () => (random.chance(HOT_UPDATES) ? random.below(hot) : hot + random.below(files - hot));
}

/** File k is overwritten in proportion to 1 / (k + 1)^0.99, as in YCSB. */
function zipf(files: number, random: SeededRandom): Updates {
  const upTo = new Float64Array(files);
  let sum = 0;
  for (let file = 0; file < files; file++) {
    sum += (file + 1) ** -ZIPF_EXPONENT;
    upTo[file] = sum;
  }
  return () => {
    const drawn = random.fraction() * sum;
    let low = 0;
    let high = files - 1;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((upTo[middle] as number) > drawn) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}

/** The files in a random order, in which they are written at first. */
export function shuffled(files: number, random: SeededRandom): number[] {
  const order = Array.from({ length: files }, (_, file) => file);
  for (let last = files - 1; last > 0; last--) {
    const other = random.below(last + 1);
    [order[last], order[other]] = [order[other] as number, order[last] as number];
  }
  return order;
}
