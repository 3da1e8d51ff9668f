import type { Extent, FragmentHeader, IndexNumber, Inode, SegmentRecord, WrittenExtent } from "@dazzle/core";
import { BLOCK_BYTES, type Delta, FILE_END, indexNumber, RecordKind, ROOT, SegmentClass, stripeFor } from "@dazzle/core";
import type { Seeded } from "./seeded.ts";

/** Fixed values behind the golden files: no two fields of a value are alike, so that swapped fields show. */
export const SAMPLE_HEADER: FragmentHeader = {
  log: 7,
  sequence: 2 ** 40 + 3,
  group: 5,
  groupVersion: 9,
  index: 1,
  class: SegmentClass.metadata,
  dataFragments: 2,
  parityFragments: 1,
  fragmentBytes: 12_288,
  payloadBytes: 20_000,
  summaryOffset: 19_000,
  stableSequence: 2 ** 40 + 1,
  trimmedTo: 2 ** 33,
  clusterId: "00112233445566778899aabbccddeeff",
};

export const SAMPLE_DATA: Buffer = Buffer.from(Array.from({ length: 20_000 - 12_288 }, (_, at) => (at * 7 + (at >> 8)) % 256));

export const SAMPLE_FILE: Inode = {
  ino: 2 ** 41 + 17,
  mode: 0o100644,
  nlink: 2,
  uid: 1000,
  gid: 1001,
  rdev: 0x0103,
  size: 2 ** 42 + 5,
  allocatedBlocks: 2 ** 34 + 6,
  parent: 65,
  truncateEpoch: 4,
  noAttributes: false,
  atimeNs: 1_700_000_000_000_000_001n,
  mtimeNs: 1_700_000_000_000_000_002n,
  ctimeNs: 1_700_000_000_000_000_003n,
  birthNs: -4n,
  target: "",
};

export const SAMPLE_SYMLINK: Inode = { ...SAMPLE_FILE, ino: 130, mode: 0o120777, nlink: 1, size: 11, target: "../caf\u00e9/\u0001\u00ff" };

export const SAMPLE_PLAIN: Inode = { ...SAMPLE_FILE, noAttributes: true };

export const SAMPLE_EXTENTS: Extent[] = [
  { block: 0, log: 3, sequence: 2 ** 35, offset: 4_096, length: 8_192, group: 1, groupVersion: 2 },
  { block: 2 ** 38, log: 2 ** 36, sequence: 6, offset: 0, length: 5_000, group: 7, groupVersion: 8 },
];

export const SAMPLE_RECORDS: SegmentRecord[] = [
  { kind: RecordKind.block, owner: 2 ** 41 + 17, position: 2 ** 42, term: 0, offset: 0, length: 4_096 },
  { kind: RecordKind.transaction, owner: 0, position: 0, term: 0, offset: 4_096, length: 300 },
  { kind: RecordKind.applied, owner: 63, position: 12, term: 5, offset: 4_400, length: 77 },
  { kind: RecordKind.run, owner: 62, position: 0, term: 6, offset: 8_192, length: 16_384 },
  { kind: RecordKind.checkpoint, owner: 61, position: 0, term: 7, offset: 24_576, length: 512 },
];

export const SAMPLE_DELTAS: Delta[] = [
  { kind: "putInode", ino: indexNumber(130), inode: SAMPLE_SYMLINK },
  { kind: "removeInode", ino: indexNumber(2 ** 45 + 2) },
  { kind: "putEntry", ino: ROOT, name: "caf\u00e9", child: 130, type: 10 },
  { kind: "removeEntry", ino: ROOT, name: "old name" },
  {
    kind: "putExtents",
    ino: indexNumber(66),
    extents: [
      { block: 3, offset: 8_192, length: 4_096 },
      { block: 2 ** 39, offset: 16_384, length: 100 },
    ],
  },
  { kind: "cutExtents", ino: indexNumber(66), from: 5_000, to: FILE_END },
  { kind: "putAttribute", ino: indexNumber(66), name: "user.colour", value: Buffer.from([0, 1, 254, 255]) },
  { kind: "removeAttribute", ino: indexNumber(66), name: "user.none" },
];

export function randomHeader(random: Seeded): FragmentHeader {
  const stripe = stripeFor(random.between(1, 400_000), random.between(1, 6), random.below(3), 16_384);
  return {
    ...stripe,
    log: random.safe(),
    sequence: random.safe(),
    group: random.below(2 ** 32),
    groupVersion: random.below(2 ** 32),
    index: random.below(stripe.dataFragments + stripe.parityFragments),
    class: random.pick(Object.values(SegmentClass)),
    summaryOffset: random.below(2 ** 32),
    stableSequence: random.safe(),
    trimmedTo: random.safe(),
    clusterId: random.bytes(16).toString("hex"),
  };
}

export function randomInode(random: Seeded): Inode {
  const word = () => random.below(2 ** 32);
  const time = () => BigInt.asIntN(64, random.bytes(8).readBigInt64LE());
  return {
    ino: random.safe(),
    mode: word(),
    nlink: word(),
    uid: word(),
    gid: word(),
    rdev: word(),
    size: random.safe(),
    allocatedBlocks: random.safe(),
    parent: random.safe(),
    truncateEpoch: word(),
    noAttributes: random.chance(2),
    atimeNs: time(),
    mtimeNs: time(),
    ctimeNs: time(),
    birthNs: time(),
    target: random.chance(2) ? "" : random.name(4_095),
  };
}

export function randomRecord(random: Seeded): SegmentRecord {
  return {
    kind: random.pick(Object.values(RecordKind)),
    owner: random.safe(),
    position: random.below(2 ** 40) * BLOCK_BYTES,
    term: random.below(2 ** 32),
    offset: random.below(2 ** 32),
    length: random.below(2 ** 32),
  };
}

export function randomDelta(random: Seeded): Delta {
  const ino = Math.max(1, random.safe()) as IndexNumber;
  switch (random.below(9)) {
    case 0:
      return { kind: "putInode", ino, inode: randomInode(random) };
    case 1:
      return { kind: "removeInode", ino };
    case 2:
      return { kind: "putEntry", ino, name: random.name(255), child: random.safe(), type: random.below(16) };
    case 3:
      return { kind: "removeEntry", ino, name: random.name(255) };
    case 4: {
      const extents: WrittenExtent[] = [];
      for (let left = random.below(20); left > 0; left--)
        extents.push({ block: random.safe(), offset: random.below(2 ** 32), length: random.below(2 ** 32) });
      return { kind: "putExtents", ino, extents };
    }
    case 5:
      return { kind: "cutExtents", ino, from: random.safe(), to: random.chance(2) ? FILE_END : random.safe() };
    case 6:
      return {
        kind: "mergeInode",
        ino,
        size: random.safe(),
        mtimeNs: random.bytes(8).readBigInt64LE(),
        ctimeNs: random.bytes(8).readBigInt64LE(),
      };
    case 7:
      return { kind: "putAttribute", ino, name: random.name(255), value: random.bytes(random.below(2_000)) };
    default:
      return { kind: "removeAttribute", ino, name: random.name(255) };
  }
}
