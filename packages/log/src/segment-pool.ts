import { assert, BLOCK_BYTES, type Limits, ParityMemory, roundUp } from "@dazzle/core";

/** Room behind the data and the transaction for the summary of a segment of ordinary records. */
export const SUMMARY_ROOM_BYTES = 64 * 1024;

/** One segment's memory: its payload, and room for the parity of its slices. */
export interface SegmentBuffer {
  readonly payload: Buffer;
  /** The XOR of the payload's slices of `sliceBytes`, written into the parity room. Valid until the next call. */
  parity(sliceBytes: number, payloadBytes: number): Buffer;
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

  /** `parityBytes` must hold a slice of the longest payload at d = 2, the widest slice that has parity. */
  static create(options: { bufferBytes: number; parityBytes: number; buffers: number }): SegmentPool {
    const payloadBytes = roundUp(options.bufferBytes, BLOCK_BYTES);
    const parityBytes = roundUp(options.parityBytes, BLOCK_BYTES);
    assert(options.buffers > 0, "a pool has a buffer");
    assert(2 * parityBytes >= payloadBytes, "a buffer's parity room is half of its payload room");
    const stride = payloadBytes + parityBytes;
    const memory = new ParityMemory(stride * options.buffers);
    const buffers = Array.from({ length: options.buffers }, (_, index): SegmentBuffer => {
      const payloadAt = index * stride;
      const parityAt = payloadAt + payloadBytes;
      return {
        payload: memory.bytes.subarray(payloadAt, parityAt),
        parity: (sliceBytes, length) => {
          assert(Math.min(sliceBytes, length) <= parityBytes, "parity has room");
          return memory.bytes.subarray(parityAt, parityAt + memory.parityOf(parityAt, payloadAt, sliceBytes, length));
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

/** A pool for one writer: buffers for all that may be dirty or under way, for a group of at most `dataFragments`. */
export function segmentPoolFor(limits: Limits, dataFragments: number, parityFragments: number): SegmentPool {
  assert(dataFragments >= 1 && parityFragments <= 1, "parity is XOR: one fragment at most");
  const dataBytes = dataFragments * limits.fragmentBytes;
  const bufferBytes = roundUp(dataBytes + limits.transactionBytes + SUMMARY_ROOM_BYTES, 2 * BLOCK_BYTES);
  const buffers = Math.max(limits.segmentsInFlight, Math.ceil(limits.dirtyBytes / dataBytes)) + 2;
  return SegmentPool.create({ bufferBytes, parityBytes: bufferBytes / 2, buffers });
}
