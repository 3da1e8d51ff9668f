import { addMultiple, blockChecksumSeed, decodeSummary, isDazzleError, type MemberId, parityFactor, type Reply } from "@dazzle/core";
import { verifiedBlocks } from "@dazzle/log";
import type { HeldFragment, Servers } from "./servers.ts";

/** How much of a fragment is read: its header with one block of its data, or everything. */
export type Depth = "headers" | "data";

export interface WrongFragment {
  readonly index: number;
  readonly member: MemberId;
  readonly reason: string;
}

export interface VerifiedStripe {
  readonly wrong: readonly WrongFragment[];
  /** Of a stripe whose fragments are all right each for itself. */
  readonly contradiction: string | undefined;
  readonly bytes: number;
}

/** Reads the fragments that are held of one stripe, and holds them against their checksums and, where all are there, against one another.
 * Throws `SilentServer`. */
export async function verifyStripe(
  servers: Servers,
  held: readonly HeldFragment[],
  parityFragments: number,
  depth: Depth,
): Promise<VerifiedStripe> {
  const { log, sequence, dataFragments } = held[0] as HeldFragment;
  const seed = blockChecksumSeed(log, sequence);
  const wrong: WrongFragment[] = [];
  const read = new Map<number, Buffer>();
  let bytes = 0;
  let summaryOffset = 0;
  await Promise.all(
    held.map(async (fragment) => {
      const { index, member } = fragment;
      const reason = await readOne(servers, fragment, depth === "data" ? fragment.dataBytes : 1, seed, (data, told) => {
        read.set(index, data);
        bytes += data.length;
        ({ summaryOffset } = told);
      });
      if (reason !== undefined) wrong.push({ index, member, reason });
    }),
  );
  const isWhole = read.size === dataFragments + parityFragments;
  return {
    wrong,
    contradiction: depth === "data" && isWhole ? contradiction(held[0] as HeldFragment, parityFragments, read, summaryOffset) : undefined,
    bytes,
  };
}

/** Answers what is wrong. */
async function readOne(
  servers: Servers,
  fragment: HeldFragment,
  wanted: number,
  seed: number,
  take: (data: Buffer, told: Reply<"read">) => void,
): Promise<string | undefined> {
  try {
    const { reply, tail } = await servers.read(fragment, wanted);
    if (reply.length < wanted) return `it has ${reply.length} of ${wanted} bytes`;
    const blocks = verifiedBlocks(tail, reply.length, seed);
    if (blocks === undefined) return "its data does not match its checksums";
    take(blocks.length === 1 ? (blocks[0] as Buffer) : Buffer.concat(blocks), reply);
    return undefined;
  } catch (error) {
    if (!isDazzleError(error)) throw error;
    return error.message;
  }
}

/** What the fragments of a stripe that is read whole say against one another. */
function contradiction(
  told: HeldFragment,
  parityFragments: number,
  read: ReadonlyMap<number, Buffer>,
  summaryOffset: number,
): string | undefined {
  const { dataFragments, payloadBytes } = told;
  const data = Array.from({ length: dataFragments }, (_, index) => read.get(index) as Buffer);
  for (let parity = 0; parity < parityFragments; parity++) {
    const sum = Buffer.alloc((data[0] as Buffer).length);
    for (const [slice, bytes] of data.entries()) addMultiple(sum, bytes, parityFactor(parity, slice));
    if (sum.equals(read.get(dataFragments + parity) as Buffer)) continue;
    return dataFragments === 1 ? "its copies differ" : "its parity is not that of its data";
  }
  const payload = Buffer.concat(data);
  if (payload.length !== payloadBytes) return `it has ${payload.length} bytes, and its headers say ${payloadBytes}`;
  try {
    decodeSummary(payload.subarray(summaryOffset));
    return undefined;
  } catch (error) {
    if (!isDazzleError(error, "corrupt")) throw error;
    return error.message;
  }
}
