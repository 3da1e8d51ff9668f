import {
  asBuffer,
  DazzleError,
  type DecodedFragmentHeader,
  decodeFragmentHeader,
  FRAGMENT_HEADER,
  type FragmentHeader,
  fragmentLength,
  peekFragmentHeaderBytes,
  type SegmentClass,
  totalBytes,
} from "@dazzle/core";

/** A fragment as it arrived: its header and data, in whatever pieces. */
export interface ArrivedFragment {
  readonly decoded: DecodedFragmentHeader;
  readonly pieces: readonly Uint8Array[];
  readonly bytes: number;
}

export interface StoreRequest {
  readonly class: SegmentClass;
  /** Resolve when it is on disk, not when it is written. */
  readonly sync: boolean;
  /** Whether it may lie at or below the log's trimmed-to sequence: a rebuild may, a late duplicate of a store may not. */
  readonly restore: boolean;
  /** Called in the very step in which the ticket is given; throws where the fragment must not be stored. So whoever raised
   * a fence and then waits for every ticket given so far has met every store that passed before. */
  readonly check: (header: FragmentHeader) => void;
}

/** Reads the header of a fragment; the data is only counted, as its reader verifies it. Throws `badMessage` for anything else. */
export function arrivedFragment(pieces: readonly Uint8Array[]): ArrivedFragment {
  const bytes = totalBytes(pieces);
  const headerBytes = peekFragmentHeaderBytes(front(pieces, FRAGMENT_HEADER.end));
  if (headerBytes === undefined || headerBytes > bytes) throw new DazzleError("badMessage", "the tail is no fragment");
  let decoded: DecodedFragmentHeader;
  try {
    decoded = decodeFragmentHeader(front(pieces, headerBytes));
  } catch (error) {
    throw new DazzleError("badMessage", `the tail is no fragment: ${(error as Error).message}`);
  }
  const { header, dataBytes } = decoded;
  const fits = header.index < header.dataFragments + header.parityFragments && dataBytes === fragmentLength(header, header.index);
  if (!fits || bytes !== headerBytes + dataBytes)
    throw new DazzleError("badMessage", `a fragment of ${dataBytes} bytes came with ${bytes - headerBytes}`);
  return { decoded, pieces, bytes };
}

/** The first bytes of the pieces: a view where the first piece has them, else a copy. */
function front(pieces: readonly Uint8Array[], length: number): Buffer {
  const first = pieces[0];
  if (first !== undefined && first.byteLength >= length) return asBuffer(first).subarray(0, length);
  const bytes = Buffer.alloc(length);
  let filled = 0;
  for (const piece of pieces) {
    if (filled === length) break;
    filled += asBuffer(piece).copy(bytes, filled, 0, length - filled);
  }
  return bytes.subarray(0, filled);
}
