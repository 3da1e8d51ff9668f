import {
  AssertionError,
  BLOCK_BYTES,
  blockChecksums,
  checksum,
  decodeFragmentHeader,
  encodeFragmentHeader,
  FRAGMENT_HEADER,
  fragmentHeaderBytes,
  fragmentLength,
  peekFragmentHeaderBytes,
} from "@dazzle/core";
import test from "ava";
import { goldenBytes } from "./support/golden.ts";
import { randomHeader, SAMPLE_DATA, SAMPLE_HEADER } from "./support/samples.ts";
import { seeds } from "./support/seeded.ts";
import { answerOrRow, throwsRow } from "./support/throws.ts";

test("a fragment header is the bytes of its golden file", (t) => {
  const golden = goldenBytes("fragment-header", () => encodeFragmentHeader(SAMPLE_HEADER, SAMPLE_DATA));
  t.deepEqual(encodeFragmentHeader(SAMPLE_HEADER, SAMPLE_DATA), golden);
  t.deepEqual(decodeFragmentHeader(golden), {
    header: SAMPLE_HEADER,
    headerBytes: golden.length,
    dataBytes: SAMPLE_DATA.length,
    blockChecksums: blockChecksums(SAMPLE_HEADER.log, SAMPLE_HEADER.sequence, SAMPLE_DATA),
  });
});

test("a header comes back as it was written, with the data behind it or without", (t) => {
  for (const random of seeds(60)) {
    const header = randomHeader(random);
    const data = random.bytes(fragmentLength(header, header.index));
    const bytes = encodeFragmentHeader(header, data);
    const at = `seed=${random.seed}`;
    t.is(bytes.length, fragmentHeaderBytes(data.length), at);
    t.is(peekFragmentHeaderBytes(bytes.subarray(0, 12)), bytes.length, at);
    for (const stored of [bytes, Buffer.concat([bytes, data])]) {
      const decoded = decodeFragmentHeader(stored);
      t.deepEqual(decoded.header, header, at);
      t.is(decoded.headerBytes, bytes.length, at);
      t.is(decoded.dataBytes, data.length, at);
      t.deepEqual(decoded.blockChecksums, blockChecksums(header.log, header.sequence, data), at);
    }
  }
});

test("every flipped bit and every cut of a header is found", (t) => {
  const bytes = encodeFragmentHeader(SAMPLE_HEADER, SAMPLE_DATA);
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = Buffer.from(bytes);
    damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
    throwsRow(t, "fragmentDamaged", () => decodeFragmentHeader(damaged), `bit ${bit}`);
  }
  for (let length = 0; length < bytes.length; length++)
    throwsRow(t, "fragmentDamaged", () => decodeFragmentHeader(bytes.subarray(0, length)), `${length} bytes`);
});

test("lengths that contradict each other are damage, even under a right checksum", (t) => {
  const odd = Buffer.concat([encodeFragmentHeader(SAMPLE_HEADER, SAMPLE_DATA), Buffer.alloc(2)]);
  odd.writeUInt32LE(odd.length, FRAGMENT_HEADER.headerBytes);
  resealed(odd);
  throwsRow(t, "fragmentDamaged", () => decodeFragmentHeader(odd), "half a checksum");
  const short = encodeFragmentHeader(SAMPLE_HEADER, SAMPLE_DATA);
  short.writeUInt32LE(SAMPLE_DATA.length + BLOCK_BYTES, FRAGMENT_HEADER.dataBytes);
  resealed(short);
  throwsRow(t, "fragmentDamaged", () => decodeFragmentHeader(short), "a block without checksum");
});

test("a header of a later format is refused by its number", (t) => {
  const later = encodeFragmentHeader(SAMPLE_HEADER, SAMPLE_DATA);
  later.writeUInt16LE(2, FRAGMENT_HEADER.format);
  resealed(later);
  t.throws(() => decodeFragmentHeader(later), { message: /format 2/ });
});

test("random bytes are no header", (t) => {
  for (const random of seeds(200)) {
    const bytes = random.bytes(random.below(400));
    if (bytes.length > 12) encodeFragmentHeader(SAMPLE_HEADER, SAMPLE_DATA).copy(bytes, 0, 0, 8);
    t.is(
      answerOrRow(t, () => decodeFragmentHeader(bytes), `seed=${random.seed}`),
      undefined,
    );
  }
});

test("a flipped bit of data fails its block's checksum and no other's", (t) => {
  for (const random of seeds(50)) {
    const data = random.bytes(random.between(1, 5 * BLOCK_BYTES));
    const before = blockChecksums(3, 4, data);
    const bit = random.below(data.length * 8);
    data[bit >> 3] = (data[bit >> 3] as number) ^ (1 << (bit & 7));
    const after = blockChecksums(3, 4, data);
    const changed = [...before.keys()].filter((block) => before[block] !== after[block]);
    t.deepEqual(changed, [Math.floor((bit >> 3) / BLOCK_BYTES)], `seed=${random.seed}`);
  }
});

test("a block of another segment never passes for this one's", (t) => {
  const data = Buffer.alloc(BLOCK_BYTES, 5);
  const sums = new Set(
    [
      [1, 2],
      [2, 1],
      [1, 3],
      [2 ** 32 + 1, 2],
      [1, 2 ** 32 + 2],
    ].map(([log, sequence]) => blockChecksums(log as number, sequence as number, data)[0]),
  );
  t.is(sums.size, 5);
});

test("a header is made for its own slice alone", (t) => {
  t.throws(() => encodeFragmentHeader(SAMPLE_HEADER, SAMPLE_DATA.subarray(1)), { instanceOf: AssertionError });
});

/** Makes the header's own checksum right again. */
function resealed(bytes: Buffer): void {
  bytes.writeUInt32LE(checksum(bytes.subarray(8)), FRAGMENT_HEADER.checksum);
}
