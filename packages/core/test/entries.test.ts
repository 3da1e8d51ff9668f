import { type ListedEntry, packAttributes, packEntries, packInode, unpackAttributes, unpackEntries, unpackInodes } from "@dazzle/core";
import test from "ava";
import { goldenBytes } from "./support/golden.ts";
import { randomInode, SAMPLE_FILE, SAMPLE_SYMLINK } from "./support/samples.ts";
import { seeds } from "./support/seeded.ts";
import { answerOrRow, throwsRow } from "./support/throws.ts";

const ENTRIES: ListedEntry[] = [
  { name: "caf\u00e9", child: 130, type: 10, inode: SAMPLE_SYMLINK },
  { name: "elsewhere", child: 2 ** 50 + 1, type: 8, inode: undefined },
  { name: "f", child: SAMPLE_FILE.ino, type: 8, inode: SAMPLE_FILE },
];
const ATTRIBUTES: Array<[string, Buffer]> = [
  ["user.colour", Buffer.from([0, 255, 7])],
  ["user.empty", Buffer.alloc(0)],
];

test("entries are the bytes of their golden file", (t) => {
  const golden = goldenBytes("entries", () => packEntries(ENTRIES));
  t.deepEqual(packEntries(ENTRIES), golden);
  t.deepEqual(unpackEntries(golden), ENTRIES);
});

test("extended attributes are the bytes of their golden file", (t) => {
  const golden = goldenBytes("attributes", () => packAttributes(ATTRIBUTES));
  t.deepEqual(packAttributes(ATTRIBUTES), golden);
  t.deepEqual(
    [...unpackAttributes(golden)].map(([name, value]) => [name, Buffer.from(value)]),
    ATTRIBUTES,
  );
});

test("entries and attributes come back as they were packed", (t) => {
  for (const random of seeds(30)) {
    const entries = Array.from({ length: random.below(40) }, () => ({
      name: random.name(255),
      child: random.safe(),
      type: random.below(16),
      inode: random.chance(2) ? randomInode(random) : undefined,
    }));
    t.deepEqual(unpackEntries(packEntries(entries)), entries, `seed=${random.seed}`);
    const inodes = entries.flatMap(({ inode }) => (inode === undefined ? [] : [inode]));
    t.deepEqual(unpackInodes(Buffer.concat(inodes.map(packInode))), inodes, `seed=${random.seed}`);
    const attributes = new Map(
      Array.from({ length: random.below(20) }, () => [random.name(255), random.bytes(random.below(999))] as const),
    );
    const back = unpackAttributes(packAttributes(attributes));
    t.deepEqual(new Map([...back].map(([name, value]) => [name, Buffer.from(value)])), attributes, `seed=${random.seed}`);
  }
});

test("unpacked attribute values don't alias the bytes they came from", (t) => {
  const bytes = packAttributes(ATTRIBUTES);
  const values = unpackAttributes(bytes);
  bytes.fill(9);
  t.deepEqual(Buffer.from(values.get("user.colour") as Uint8Array), ATTRIBUTES[0]?.[1]);
});

test("lists that are cut off inside an item are corrupt", (t) => {
  const entry = packEntries(ENTRIES.slice(0, 1));
  for (let length = 1; length < entry.length; length++)
    throwsRow(t, "corrupt", () => unpackEntries(entry.subarray(0, length)), `an entry of ${length} bytes`);
  const inode = packInode(SAMPLE_SYMLINK);
  for (let length = 1; length < inode.length; length++)
    throwsRow(t, "corrupt", () => unpackInodes(Buffer.concat([inode, inode.subarray(0, length)])), `an index node of ${length} bytes`);
  const attribute = packAttributes(ATTRIBUTES.slice(0, 1));
  for (let length = 1; length < attribute.length; length++)
    throwsRow(t, "corrupt", () => unpackAttributes(attribute.subarray(0, length)), `an attribute of ${length} bytes`);
});

test("random bytes never break the readers of lists", (t) => {
  for (const random of seeds(300)) {
    const bytes = random.bytes(random.below(300));
    answerOrRow(t, () => unpackEntries(bytes), `seed=${random.seed}`);
    answerOrRow(t, () => unpackAttributes(bytes), `seed=${random.seed}`);
    answerOrRow(t, () => unpackInodes(bytes), `seed=${random.seed}`);
  }
  t.pass();
});
