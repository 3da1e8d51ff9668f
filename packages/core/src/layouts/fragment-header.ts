import { assert } from "../assert.ts";
import { asBuffer, readSafe, writeSafe } from "../bytes.ts";
import { checksum } from "../checksum.ts";
import { DazzleError } from "../errors.ts";
import { fragmentLength, type Stripe } from "../geometry.ts";
import { BLOCK_BYTES } from "../limits.ts";

export const FRAGMENT_MAGIC = 0x52465a44; // "DZFR"
export const FRAGMENT_FORMAT = 1;

/** What a segment holds, for the storage servers' watermarks: they refuse data first, then what frees, then
 * cleaners, and managers and recovery last. */
export const SegmentClass = { data: 1, metadata: 2, system: 3, cleaner: 4 } as const;
export type SegmentClass = (typeof SegmentClass)[keyof typeof SegmentClass];

/** Fragment header, 128 bytes, little-endian; a checksum (4 bytes) for every 4 KiB of the fragment's data follows, then
 * the data. The header describes the whole stripe, so that any one fragment suffices to find the rest. What finds the
 * header's own extent comes first.
 *    0  4  magic "DZFR"                      4  4  checksum of bytes 8 … end of the block checksums
 *    8  4  header bytes, with the block checksums
 *   12  2  format       14  1  class        15  1  zero
 *   16  8  log          24  8  sequence
 *   32  4  group        36  4  group version
 *   40  1  data fragments   41  1  parity fragments   42  1  index   43  1  zero
 *   44  4  fragment bytes   48  4  payload bytes   52  4  data bytes of this fragment
 *   56  4  payload offset of the summary
 *   64  8  the writer's stable sequence then    72  8  the writer's trimmed-to sequence then
 *   80 16  cluster id   96 32  zero */
export const FRAGMENT_HEADER = {
  magic: 0,
  checksum: 4,
  headerBytes: 8,
  format: 12,
  class: 14,
  log: 16,
  sequence: 24,
  group: 32,
  groupVersion: 36,
  dataFragments: 40,
  parityFragments: 41,
  index: 42,
  fragmentBytes: 44,
  payloadBytes: 48,
  dataBytes: 52,
  summaryOffset: 56,
  stableSequence: 64,
  trimmedTo: 72,
  clusterId: 80,
  end: 128,
} as const;

/** Names one stored fragment (rule 1). */
export interface FragmentKey {
  readonly log: number;
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  readonly index: number;
}

export interface FragmentHeader extends FragmentKey, Stripe {
  readonly class: SegmentClass;
  readonly summaryOffset: number;
  readonly stableSequence: number;
  readonly trimmedTo: number;
  /** 32 hexadecimal digits. */
  readonly clusterId: string;
}

/** The seed of a block's checksum: a block that belongs to another segment never passes for this one's. */
export function blockChecksumSeed(log: number, sequence: number): number {
  const key = Buffer.allocUnsafe(16);
  writeSafe(key, log, 0);
  writeSafe(key, sequence, 8);
  return checksum(key);
}

export function blockChecksums(log: number, sequence: number, data: Uint8Array): Uint32Array {
  const seed = blockChecksumSeed(log, sequence);
  const sums = new Uint32Array(Math.ceil(data.byteLength / BLOCK_BYTES));
  for (let block = 0; block < sums.length; block++) {
    sums[block] = checksum(data.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES), seed);
  }
  return sums;
}

export function fragmentHeaderBytes(dataBytes: number): number {
  return FRAGMENT_HEADER.end + 4 * Math.ceil(dataBytes / BLOCK_BYTES);
}

/** The header with the checksums of `data`, which is not copied: it is sent behind it. */
export function encodeFragmentHeader(header: FragmentHeader, data: Uint8Array): Buffer {
  assert(data.byteLength === fragmentLength(header, header.index), "a fragment holds its slice");
  const sums = blockChecksums(header.log, header.sequence, data);
  const at = FRAGMENT_HEADER;
  const bytes = Buffer.alloc(at.end + 4 * sums.length);
  bytes.writeUInt32LE(FRAGMENT_MAGIC, at.magic);
  bytes.writeUInt32LE(bytes.length, at.headerBytes);
  bytes.writeUInt16LE(FRAGMENT_FORMAT, at.format);
  bytes.writeUInt8(header.class, at.class);
  writeSafe(bytes, header.log, at.log);
  writeSafe(bytes, header.sequence, at.sequence);
  bytes.writeUInt32LE(header.group, at.group);
  bytes.writeUInt32LE(header.groupVersion, at.groupVersion);
  bytes.writeUInt8(header.dataFragments, at.dataFragments);
  bytes.writeUInt8(header.parityFragments, at.parityFragments);
  bytes.writeUInt8(header.index, at.index);
  bytes.writeUInt32LE(header.fragmentBytes, at.fragmentBytes);
  bytes.writeUInt32LE(header.payloadBytes, at.payloadBytes);
  bytes.writeUInt32LE(data.byteLength, at.dataBytes);
  bytes.writeUInt32LE(header.summaryOffset, at.summaryOffset);
  writeSafe(bytes, header.stableSequence, at.stableSequence);
  writeSafe(bytes, header.trimmedTo, at.trimmedTo);
  bytes.write(header.clusterId, at.clusterId, 16, "hex");
  for (let block = 0; block < sums.length; block++) bytes.writeUInt32LE(sums[block] as number, at.end + 4 * block);
  bytes.writeUInt32LE(checksum(bytes.subarray(8)), at.checksum);
  return bytes;
}

export interface DecodedFragmentHeader {
  readonly header: FragmentHeader;
  /** The header with its block checksums; the data starts here in a stored fragment. */
  readonly headerBytes: number;
  readonly dataBytes: number;
  /** One for every 4 KiB of data. */
  readonly blockChecksums: Uint32Array;
}

/** How long the header at the start of `bytes` is, from its first 12 bytes; undefined where there is none. */
export function peekFragmentHeaderBytes(bytes: Uint8Array): number | undefined {
  if (bytes.byteLength < 12) return undefined;
  const buffer = asBuffer(bytes);
  if (buffer.readUInt32LE(FRAGMENT_HEADER.magic) !== FRAGMENT_MAGIC) return undefined;
  const length = buffer.readUInt32LE(FRAGMENT_HEADER.headerBytes);
  return length >= FRAGMENT_HEADER.end ? length : undefined;
}

/** Reads a header and its block checksums. Throws `fragmentDamaged` where they are not whole and unchanged. */
export function decodeFragmentHeader(source: Uint8Array): DecodedFragmentHeader {
  const at = FRAGMENT_HEADER;
  const length = peekFragmentHeaderBytes(source);
  if (length === undefined || length > source.byteLength) throw new DazzleError("fragmentDamaged", "no fragment header");
  const bytes = asBuffer(source).subarray(0, length);
  if (bytes.readUInt32LE(at.checksum) !== checksum(bytes.subarray(8)))
    throw new DazzleError("fragmentDamaged", "the header's checksum is wrong");
  const format = bytes.readUInt16LE(at.format);
  if (format !== FRAGMENT_FORMAT) throw new DazzleError("fragmentDamaged", `fragment format ${format} is not ${FRAGMENT_FORMAT}`);
  const dataBytes = bytes.readUInt32LE(at.dataBytes);
  if (length !== fragmentHeaderBytes(dataBytes))
    throw new DazzleError("fragmentDamaged", `a header of ${length} bytes can't describe ${dataBytes} bytes of data`);
  const sums = new Uint32Array((length - at.end) / 4);
  for (let block = 0; block < sums.length; block++) sums[block] = bytes.readUInt32LE(at.end + 4 * block);
  return {
    header: {
      log: readSafe(bytes, at.log),
      sequence: readSafe(bytes, at.sequence),
      group: bytes.readUInt32LE(at.group),
      groupVersion: bytes.readUInt32LE(at.groupVersion),
      index: bytes.readUInt8(at.index),
      class: bytes.readUInt8(at.class) as SegmentClass,
      dataFragments: bytes.readUInt8(at.dataFragments),
      parityFragments: bytes.readUInt8(at.parityFragments),
      fragmentBytes: bytes.readUInt32LE(at.fragmentBytes),
      payloadBytes: bytes.readUInt32LE(at.payloadBytes),
      summaryOffset: bytes.readUInt32LE(at.summaryOffset),
      stableSequence: readSafe(bytes, at.stableSequence),
      trimmedTo: readSafe(bytes, at.trimmedTo),
      clusterId: bytes.toString("hex", at.clusterId, at.clusterId + 16),
    },
    headerBytes: length,
    dataBytes,
    blockChecksums: sums,
  };
}
