import { assert } from "@dazzle/core";
import type { NativeAddon, NativeDevice } from "./addon.ts";
import { type Chunk, ChunkPool } from "./chunk-pool.ts";
import { type Engine, REPLY_PIECES_MAX, type RequestReceiver } from "./engine.ts";
import { errnoNumber } from "./errno.ts";
import { REQUEST_BYTES_MAX } from "./protocol.ts";

/** Shared with the addon, in 32-bit words: the chunk to read into, the offset in it, the bytes one request may take, and then
 * the length of each request of the last batch. */
const CONTROL = { chunk: 0, offset: 1, requestBytes: 2, lengths: 3 } as const;
const BATCH_MAX = 32;

const ENODEV = errnoNumber("ENODEV");
const ECONNABORTED = errnoNumber("ECONNABORTED");

/** Engine 1: the addon reads requests in batches whenever the descriptor is readable. */
export class AddonEngine implements Engine {
  readonly kind = "addon";
  readonly #device: NativeDevice;
  readonly #control = new Uint32Array(CONTROL.lengths + BATCH_MAX);
  readonly #pool = new ChunkPool();
  #chunksKnown = 0;
  readonly #notifications = new Map<number, (errno: number) => void>();
  #nextNotification = 1;
  #receiver: RequestReceiver | undefined;
  #paused = false;
  #outOfMemory = false;

  /** The descriptor is the engine's from now on. `out` is the reply buffer. */
  constructor(addon: NativeAddon, fd: number, out: Uint8Array) {
    this.#control[CONTROL.requestBytes] = REQUEST_BYTES_MAX;
    this.#device = addon.openDevice(
      fd,
      this.#control,
      out,
      (count) => this.#onBatch(count),
      (id, errno) => this.#onNotified(id, errno),
    );
  }

  start(receiver: RequestReceiver): void {
    this.#receiver = receiver;
    this.#aim();
    this.#device.resume();
  }

  send(length: number): number {
    return this.#device.send(length);
  }

  sendPieces(length: number, pieces: readonly Uint8Array[]): number {
    return this.#device.sendPieces(length, pieces.length > REPLY_PIECES_MAX ? [Buffer.concat(pieces)] : pieces);
  }

  notify(message: Uint8Array): Promise<number> {
    const id = this.#nextNotification;
    this.#nextNotification = id === 0xffffffff ? 1 : id + 1;
    return new Promise((resolve, reject) => {
      this.#notifications.set(id, resolve);
      try {
        this.#device.notify(id, message);
      } catch (error) {
        this.#notifications.delete(id);
        reject(error);
      }
    });
  }

  pause(): void {
    this.#paused = true;
    this.#device.pause();
  }

  resume(): void {
    this.#paused = false;
    if (!this.#outOfMemory) this.#device.resume();
  }

  hold(chunk: Chunk): void {
    this.#pool.hold(chunk);
  }

  release(chunk: Chunk): void {
    this.#pool.release(chunk);
  }

  close(): void {
    assert(this.#notifications.size === 0, "an engine is closed once its notifications are written");
    this.#device.close();
  }

  #onBatch(count: number): void {
    const receiver = this.#receiver as RequestReceiver;
    if (count < 0) {
      receiver.ended(count === -ENODEV || count === -ECONNABORTED ? undefined : -count);
      return;
    }
    const chunk = this.#pool.current;
    const start = this.#pool.used;
    let offset = start;
    for (let index = 0; index < count; index++) {
      const length = this.#control[CONTROL.lengths + index] as number;
      receiver.receive(chunk, offset, length);
      offset += (length + 7) & ~7;
    }
    if (this.#pool.next(offset - start, () => this.#onMemory())) {
      this.#aim();
    } else {
      this.#outOfMemory = true;
      this.#device.pause();
    }
    receiver.batchEnd();
  }

  #onMemory(): void {
    this.#outOfMemory = false;
    this.#aim();
    if (!this.#paused) this.#device.resume();
  }

  /** Tells the addon where the next batch goes. */
  #aim(): void {
    const chunk = this.#pool.current;
    if (chunk.index >= this.#chunksKnown) {
      const index = this.#device.addChunk(chunk.buffer);
      assert(index === chunk.index, "the addon counts chunks as the pool does");
      this.#chunksKnown = index + 1;
    }
    this.#control[CONTROL.chunk] = chunk.index;
    this.#control[CONTROL.offset] = this.#pool.used;
  }

  #onNotified(id: number, errno: number): void {
    const resolve = this.#notifications.get(id);
    this.#notifications.delete(id);
    resolve?.(errno);
  }
}
