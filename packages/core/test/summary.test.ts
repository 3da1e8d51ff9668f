import { decodeSummary, encodeSummary, type SegmentRecord, summaryBytes } from "@dazzle/core";
import test from "ava";
import { goldenBytes } from "./support/golden.ts";
import { randomRecord, SAMPLE_RECORDS } from "./support/samples.ts";
import { seeds } from "./support/seeded.ts";
import { throwsRow } from "./support/throws.ts";

function encoded(records: readonly SegmentRecord[]): Buffer {
  const bytes = Buffer.alloc(summaryBytes(records.length), 0xff);
  encodeSummary(records, bytes);
  return bytes;
}

test("a summary is the bytes of its golden file", (t) => {
  const golden = goldenBytes("summary", () => encoded(SAMPLE_RECORDS));
  t.deepEqual(encoded(SAMPLE_RECORDS), golden);
  t.deepEqual(decodeSummary(golden), SAMPLE_RECORDS);
});

test("a summary comes back as it was written, whatever lies behind it", (t) => {
  for (const random of seeds(50)) {
    const records = Array.from({ length: random.below(100) }, () => randomRecord(random));
    const bytes = Buffer.concat([encoded(records), random.bytes(random.below(100))]);
    t.deepEqual(decodeSummary(bytes), records, `seed=${random.seed}`);
  }
});

test("every flipped bit and every cut of a summary is found", (t) => {
  const bytes = encoded(SAMPLE_RECORDS);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = Buffer.from(bytes);
    damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
    throwsRow(t, "corrupt", () => decodeSummary(damaged), `bit ${bit}`);
  }
  for (let length = 0; length < bytes.length; length++)
    throwsRow(t, "corrupt", () => decodeSummary(bytes.subarray(0, length)), `${length} bytes`);
});
