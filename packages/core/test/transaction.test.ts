import {
  type Delta,
  decodeDeltas,
  decodeInode,
  decodeSections,
  deltaBytes,
  indexNumber,
  inodeBytes,
  packInode,
  slotOf,
  TransactionBuilder,
} from "@dazzle/core";
import test from "ava";
import { goldenBytes } from "./support/golden.ts";
import { randomDelta, randomInode, SAMPLE_DELTAS, SAMPLE_FILE, SAMPLE_PLAIN, SAMPLE_SYMLINK } from "./support/samples.ts";
import { seeds } from "./support/seeded.ts";
import { answerOrRow, throwsRow } from "./support/throws.ts";

function encoded(deltas: readonly Delta[]): Buffer {
  const builder = new TransactionBuilder();
  for (const delta of deltas) builder.add(delta);
  const bytes = Buffer.alloc(builder.bytes, 0xff);
  builder.encode(bytes);
  return bytes;
}

function decoded(bytes: Uint8Array): Delta[] {
  return [...decodeSections(bytes)].flatMap((section) => [...decodeDeltas(section.bytes)]);
}

/** By slot, each slot's in the order they were added. */
function bySlot(deltas: readonly Delta[]): Delta[] {
  return [...deltas].sort((a, b) => slotOf(a.ino) - slotOf(b.ino));
}

test("an index node is the bytes of its golden file", (t) => {
  for (const [name, inode] of [
    ["inode-file", SAMPLE_FILE],
    ["inode-symlink", SAMPLE_SYMLINK],
    ["inode-plain", SAMPLE_PLAIN],
  ] as const) {
    const golden = goldenBytes(name, () => packInode(inode));
    t.deepEqual(packInode(inode), golden);
    t.deepEqual(decodeInode(golden), inode);
  }
});

test("an index node comes back as it was written; cut off or of another format, it is corrupt", (t) => {
  for (const random of seeds(50)) {
    const inode = randomInode(random);
    const bytes = packInode(inode);
    t.is(bytes.length, inodeBytes(inode));
    t.deepEqual(decodeInode(bytes), inode, `seed=${random.seed}`);
    t.deepEqual(decodeInode(Buffer.concat([Buffer.alloc(3), bytes]), 3), inode, `seed=${random.seed}`);
    throwsRow(t, "corrupt", () => decodeInode(bytes.subarray(0, bytes.length - 1)), `seed=${random.seed}`);
    bytes.writeUInt16LE(2, 0);
    throwsRow(t, "corrupt", () => decodeInode(bytes), `seed=${random.seed}`);
  }
});

test("a transaction is the bytes of its golden file", (t) => {
  const golden = goldenBytes("transaction", () => encoded(SAMPLE_DELTAS));
  t.deepEqual(encoded(SAMPLE_DELTAS), golden);
  t.deepEqual(decoded(golden), bySlot(SAMPLE_DELTAS));
  // Came later.
  const merge: Delta = { kind: "mergeInode", ino: indexNumber(66), size: 2 ** 42 + 1, mtimeNs: 1_700_000_000_123_456_789n, ctimeNs: -1n };
  const merged = goldenBytes("transaction-merge", () => encoded([merge]));
  t.deepEqual(encoded([merge]), merged);
  t.deepEqual(decoded(merged), [merge]);
});

test("a transaction comes back by slot, ascending, each slot in the order of adding", (t) => {
  for (const random of seeds(50)) {
    const deltas = Array.from({ length: random.between(1, 60) }, () => randomDelta(random));
    const bytes = encoded(deltas);
    t.deepEqual(decoded(bytes), bySlot(deltas), `seed=${random.seed}`);
    const slots = [...decodeSections(bytes)].map((section) => section.slot);
    t.deepEqual(slots, [...new Set(bySlot(deltas).map((delta) => slotOf(delta.ino)))], `seed=${random.seed}`);
  }
});

test("a section with its head is a transaction of its own", (t) => {
  const bytes = encoded(SAMPLE_DELTAS);
  const sections = [...decodeSections(bytes)];
  t.deepEqual(Buffer.concat(sections.map((section) => section.whole)), bytes);
  for (const section of sections) t.deepEqual(decoded(section.whole), [...decodeDeltas(section.bytes)]);
});

test("a delta is as long as it says", (t) => {
  for (const random of seeds(100)) {
    const delta = randomDelta(random);
    t.is(encoded([delta]).length, 8 + deltaBytes(delta), `seed=${random.seed} ${delta.kind}`);
  }
});

test("a transaction that is cut off anywhere but between sections is corrupt", (t) => {
  const bytes = encoded(SAMPLE_DELTAS);
  const ends = new Set([0]);
  for (const section of decodeSections(bytes)) ends.add(section.whole.byteOffset - bytes.byteOffset + section.whole.length);
  for (let length = 0; length < bytes.length; length++) {
    if (ends.has(length)) continue;
    throwsRow(t, "corrupt", () => decoded(bytes.subarray(0, length)), `${length} bytes`);
  }
});

test("deltas that are cut off inside a delta are corrupt", (t) => {
  for (const delta of SAMPLE_DELTAS) {
    const bytes = encoded([delta]).subarray(8);
    for (let length = 1; length < bytes.length; length++)
      throwsRow(t, "corrupt", () => [...decodeDeltas(bytes.subarray(0, length))], `${delta.kind} of ${length} bytes`);
  }
});

test("random bytes never break the reader of transactions", (t) => {
  for (const random of seeds(300)) {
    const bytes = encoded(Array.from({ length: 5 }, () => randomDelta(random)));
    for (let flips = random.between(1, 8); flips > 0; flips--) bytes[random.below(bytes.length)] = random.below(256);
    answerOrRow(t, () => decoded(bytes), `seed=${random.seed}`);
    answerOrRow(t, () => decoded(random.bytes(random.below(200))), `seed=${random.seed}`);
  }
  t.pass();
});
