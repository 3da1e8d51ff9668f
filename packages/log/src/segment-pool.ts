import { assert, BLOCK_BYTES, currentVersion, type Group, type Limits, PARITY_MAX, ParityMemory, roundUp } from "@dazzle/core";

/** Room behind the data and the transaction for the summary of a segment of ordinary records. */
export const SUMMARY_ROOM_BYTES = 64 * 1024;

/** One segment's memory: its payload, and room for the parities of its slices. */
export interface SegmentBuffer {
  readonly payload: Buffer;
  /** So many parities of the payload's slices of `sliceBytes`, of which there are two at least, written into the parity room. Valid until the next call. */
  parities(sliceBytes: number, payloadBytes: number, parities: number): Buffer[];
}

/** One WASM memory, allocated once; the buffers of segments are carved from it, so parity is computed in place and
 * fragments leave as views. The buffer given back last is taken first: only the working set becomes resident. */
export class SegmentPool {
  readonly payloadBytes: number;
  readonly #free: SegmentBuffer[] = [];
  readonly #waiting: Array<() => void> = [];

  private constructor(payloadBytes: number, buffers: SegmentBuffer[]) {
    this.payloadBytes = payloadBytes;
    this.#free = buffers;
  }

  /** The parity room holds all parities of the longest payload at d = 2, the longest slices that have parity. */
  static create(options: { bufferBytes: number; buffers: number }): SegmentPool {
    const payloadBytes = roundUp(options.bufferBytes, 2 * BLOCK_BYTES);
    const parityBytes = (PARITY_MAX * payloadBytes) / 2;
    assert(options.buffers > 0, "a pool has a buffer");
    const stride = payloadBytes + parityBytes;
    const memory = new ParityMemory(stride * options.buffers);
    const buffers = Array.from({ length: options.buffers }, (_, index): SegmentBuffer => {
      const payloadAt = index * stride;
      const parityAt = payloadAt + payloadBytes;
      return {
        payload: memory.bytes.subarray(payloadAt, parityAt),
        parities: (sliceBytes, length, parities) => {
          assert(sliceBytes < length && parities * sliceBytes <= parityBytes, "parity has room");
          memory.parityOf(parityAt, payloadAt, sliceBytes, length, parities);
          return Array.from({ length: parities }, (_, parity) => {
            const at = parityAt + parity * sliceBytes;
            return memory.bytes.subarray(at, at + sliceBytes);
          });
        },
      };
    });
    return new SegmentPool(payloadBytes, buffers.reverse());
  }

  get free(): number {
    return this.#free.length;
  }

  take(): SegmentBuffer | undefined {
    return this.#free.pop();
  }

  /** Calls `action` once, after a buffer has become free: it may be gone again. */
  whenFree(action: () => void): void {
    this.#waiting.push(action);
  }

  give(buffer: SegmentBuffer): void {
    assert(!this.#free.includes(buffer), "a buffer is given back once");
    this.#free.push(buffer);
    this.#waiting.shift()?.();
  }
}

/** A pool for a writer of any of these groups. */
export function segmentPoolForGroups(limits: Limits, groups: readonly Group[]): SegmentPool {
  return segmentPoolFor(limits, Math.max(...groups.map((group) => currentVersion(group).dataFragments)));
}

/** A pool for one writer: buffers for all that may be dirty or under way, for groups of at most `dataFragments`. */
export function segmentPoolFor(limits: Limits, dataFragments: number): SegmentPool {
  assert(dataFragments >= 1, "a group has a data fragment");
  const dataBytes = dataFragments * limits.fragmentBytes;
  const bufferBytes = dataBytes + limits.transactionBytes + SUMMARY_ROOM_BYTES;
  const buffers = Math.max(limits.segmentsInFlight, Math.ceil(limits.dirtyBytes / dataBytes)) + 2;
  return SegmentPool.create({ bufferBytes, buffers });
}
