import { encodeFragmentHeader, type FragmentHeader, type FragmentKey, fragmentLength, type Random, SegmentClass } from "@dazzle/core";
import { type ArrivedFragment, arrivedFragment, type StoreRequest } from "../../src/index.ts";

export const CLUSTER = "00112233445566778899aabbccddeeff";

export interface Sample {
  readonly header: FragmentHeader;
  readonly data: Buffer;
  /** Header and data, as they are sent. */
  readonly pieces: readonly Buffer[];
  readonly arrived: ArrivedFragment;
}

type Fields = Partial<FragmentHeader> & Pick<FragmentKey, "log" | "sequence">;

/** A fragment of a payload of `payloadBytes`; its data is drawn from `random`. */
export function sample(random: Random, fields: Fields): Sample {
  const payloadBytes = fields.payloadBytes ?? 5_000;
  const header: FragmentHeader = {
    group: 1,
    groupVersion: 1,
    index: 0,
    dataFragments: 1,
    parityFragments: 1,
    fragmentBytes: Math.ceil(payloadBytes / (fields.dataFragments ?? 1) / 4096) * 4096,
    class: SegmentClass.data,
    summaryOffset: Math.max(0, payloadBytes - 100),
    stableSequence: 0,
    trimmedTo: 0,
    clusterId: CLUSTER,
    ...fields,
    payloadBytes,
  };
  const data = Buffer.from(random.bytes(fragmentLength(header, header.index)));
  const pieces = [encodeFragmentHeader(header, data), data];
  return { header, data, pieces, arrived: arrivedFragment(pieces) };
}

/** How tests store where they don't say otherwise: without a fence. */
export function how(changes: Partial<StoreRequest> = {}): StoreRequest {
  return { class: SegmentClass.data, sync: false, restore: false, check: () => {}, ...changes };
}
