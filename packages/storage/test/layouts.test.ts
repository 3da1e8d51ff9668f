import { storeId } from "@dazzle/core";
import test from "ava";
import type { Entry } from "../src/entry.ts";
import { decodeRecordHeader, encodeRecordHeader, RECORD_HEADER } from "../src/index.ts";
import { decodeFragmentRow, encodeFragmentRow, fragmentKeyBytes, logKeyBytes, pageKeyBytes, segmentKeyBytes } from "../src/index-layout.ts";
import { goldenBytes } from "./support/golden.ts";

const HEADER = {
  storeId: storeId("000102030405060708090a0b0c0d0e0f"),
  place: { volume: 7, offset: 2 ** 33 + 512 },
  recordBytes: 123_456,
  durable: { volume: 6, offset: 2 ** 34 + 1024 },
};

const ENTRY: Entry = {
  log: 2 ** 40 + 5,
  sequence: 2 ** 41 + 9,
  group: 3,
  groupVersion: 4,
  index: 2,
  volume: 7,
  offset: 2 ** 33 + 512,
  headerBytes: 136,
  dataBytes: 8_000,
  dataFragments: 2,
  parityFragments: 1,
  fragmentBytes: 8_192,
  payloadBytes: 16_000,
  summaryOffset: 15_000,
};

test("a record header is the bytes of its golden file", (t) => {
  const golden = goldenBytes("record-header", () => encodeRecordHeader(HEADER));
  t.deepEqual(encodeRecordHeader(HEADER), golden);
  t.deepEqual(decodeRecordHeader(golden), HEADER);
});

test("a row of the index is the bytes of its golden file", (t) => {
  const golden = goldenBytes("index-row", () => Buffer.concat([fragmentKeyBytes(ENTRY), encodeFragmentRow(ENTRY)]));
  t.deepEqual(Buffer.concat([fragmentKeyBytes(ENTRY), encodeFragmentRow(ENTRY)]), golden);
  t.deepEqual(decodeFragmentRow(golden.subarray(0, 26), golden.subarray(26)), ENTRY);
});

test("every flipped bit and every cut of a record header is found", (t) => {
  const bytes = encodeRecordHeader(HEADER);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = Buffer.from(bytes);
    damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
    t.is(decodeRecordHeader(damaged), undefined, `bit ${bit}`);
  }
  for (let length = 0; length < RECORD_HEADER.end; length++) t.is(decodeRecordHeader(bytes.subarray(0, length)), undefined);
});

test("keys of the index sort as their numbers do", (t) => {
  const numbers = [1, 2, 255, 256, 2 ** 32 - 1, 2 ** 32, 2 ** 40, Number.MAX_SAFE_INTEGER];
  for (const key of [
    (n: number) => logKeyBytes(n),
    (n: number) => segmentKeyBytes(n, 1),
    (n: number) => segmentKeyBytes(1, n),
    (n: number) => pageKeyBytes(5, 1, n),
  ]) {
    const keys = numbers.map(key);
    t.deepEqual([...keys].sort(Buffer.compare), keys);
  }
});
