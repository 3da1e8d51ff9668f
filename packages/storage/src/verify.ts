import { BLOCK_BYTES, blockChecksumSeed, checksum, type DecodedFragmentHeader, decodeFragmentHeader, fragmentLength } from "@dazzle/core";

/** Bytes of a fragment's data. */
export interface DataRange {
  readonly offset: number;
  readonly length: number;
}

/** Undefined where the header is damaged. */
export function decodedFragment(fragment: Buffer): DecodedFragmentHeader | undefined {
  try {
    return decodeFragmentHeader(fragment);
  } catch {
    return undefined;
  }
}

/** The runs of blocks in a fragment as it was sent that are not what its header says. */
export function damagedRanges(fragment: Buffer, { header, headerBytes, dataBytes, blockChecksums }: DecodedFragmentHeader): DataRange[] {
  if (fragment.byteLength !== headerBytes + dataBytes || dataBytes !== fragmentLength(header, header.index))
    return [{ offset: 0, length: dataBytes }];
  const seed = blockChecksumSeed(header.log, header.sequence);
  const ranges: DataRange[] = [];
  blockChecksums.forEach((sum, block) => {
    const offset = block * BLOCK_BYTES;
    const length = Math.min(BLOCK_BYTES, dataBytes - offset);
    if (checksum(fragment.subarray(headerBytes + offset, headerBytes + offset + length), seed) === sum) return;
    const last = ranges.at(-1);
    if (last !== undefined && last.offset + last.length === offset)
      ranges[ranges.length - 1] = { offset: last.offset, length: last.length + length };
    else ranges.push({ offset, length });
  });
  return ranges;
}

export function isWhole(fragment: Buffer, decoded: DecodedFragmentHeader): boolean {
  return damagedRanges(fragment, decoded).length === 0;
}
