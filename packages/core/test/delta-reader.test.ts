import {
  DeltaKind,
  DeltaReader,
  decodeDeltas,
  decodeSections,
  FILE_END,
  type IndexNumber,
  type Inode,
  TransactionBuilder,
} from "@dazzle/core";
import test from "ava";

const inode: Inode = {
  ino: 65,
  mode: 0o120777,
  nlink: 1,
  uid: 1,
  gid: 2,
  rdev: 0,
  size: 3,
  allocatedBlocks: 0,
  parent: 1,
  truncateEpoch: 0,
  noAttributes: true,
  atimeNs: 1n,
  mtimeNs: 2n,
  ctimeNs: 3n,
  birthNs: 4n,
  target: "far",
};

function everyKind(): Buffer {
  const builder = new TransactionBuilder();
  const ino = 65 as IndexNumber;
  builder.add({ kind: "putInode", ino, inode });
  builder.add({ kind: "removeInode", ino });
  builder.add({ kind: "putEntry", ino, name: "a name", child: 129, type: 8 });
  builder.add({ kind: "removeEntry", ino, name: "gone" });
  builder.add({
    kind: "putExtents",
    ino,
    extents: [
      { block: 7, offset: 4096, length: 100 },
      { block: 2 ** 40, offset: 8192, length: 4096 },
    ],
  });
  builder.add({ kind: "cutExtents", ino, from: 4097, to: FILE_END });
  builder.add({ kind: "putAttribute", ino, name: "user.a", value: Buffer.from("value") });
  builder.add({ kind: "removeAttribute", ino, name: "user.b" });
  builder.add({ kind: "mergeInode", ino, size: 2 ** 41, mtimeNs: 2n ** 62n, ctimeNs: -5n });
  const bytes = Buffer.alloc(builder.bytes);
  builder.encode(bytes);
  return [...decodeSections(bytes)][0]!.bytes;
}

test("the reader stands at the deltas that decodeDeltas makes, in order", (t) => {
  const bytes = everyKind();
  const reader = new DeltaReader(bytes);
  for (const delta of decodeDeltas(bytes)) {
    t.true(reader.next());
    t.is(reader.kind, DeltaKind[delta.kind]);
    t.is(reader.ino, delta.ino);
    if ("name" in delta) t.is(reader.name, delta.name);
    if (delta.kind === "putEntry") t.deepEqual([reader.child, reader.type], [delta.child, delta.type]);
    if (delta.kind === "mergeInode") t.deepEqual([reader.size, reader.mtimeNs, reader.ctimeNs], [delta.size, delta.mtimeNs, delta.ctimeNs]);
    if (delta.kind === "cutExtents") t.deepEqual([reader.from, reader.to], [delta.from, delta.to]);
    if (delta.kind === "putAttribute") t.deepEqual(bytes.subarray(reader.valueStart, reader.valueEnd), Buffer.from(delta.value));
    if (delta.kind === "putExtents") {
      const rows = Array.from({ length: reader.extentRows }, (_, row) => ({
        block: reader.extentBlock(row),
        offset: reader.extentOffset(row),
        length: reader.extentLength(row),
      }));
      t.deepEqual(rows, [...delta.extents]);
    }
    if (delta.kind === "putInode") t.is(reader.valueEnd - reader.valueStart, 104 + 3);
  }
  t.false(reader.next());
});

test("a delta that is cut off anywhere is corrupt", (t) => {
  const bytes = everyKind();
  const starts = new Set<number>([0]);
  for (let length = 1; length < bytes.length; length++) {
    const reader = new DeltaReader(bytes.subarray(0, length));
    try {
      while (reader.next());
      starts.add(length);
    } catch (error) {
      t.is((error as { code?: string }).code, "corrupt");
    }
  }
  // Only a cut between two deltas can't be seen here: the section's length tells of it.
  t.is(starts.size, 9);
});
