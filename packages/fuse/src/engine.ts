import type { Chunk } from "./chunk-pool.ts";

export type EngineKind = "addon" | "node";

/** Who is given the requests. */
export interface RequestReceiver {
  /** One request, in place. It is done with when this returns, unless the receiver holds the chunk. */
  receive(chunk: Chunk, offset: number, length: number): void;
  /** After the last request of a batch. */
  batchEnd(): void;
  /** No request will come any more. Without an errno: the filesystem was unmounted. */
  ended(errno: number | undefined): void;
}

/** Moves bytes between the device and the receiver, on this thread. */
export interface Engine {
  readonly kind: EngineKind;
  start(receiver: RequestReceiver): void;
  /** Sends the first `length` bytes of the reply buffer. Returns 0 or an errno; ENOENT: nobody waits for the answer any more. */
  send(length: number): number;
  /** The same, with `pieces` behind them, in one write. */
  sendPieces(length: number, pieces: readonly Uint8Array[]): number;
  /** Writes a message from another thread, which may wait for a request that this one has yet to answer. Resolves to 0 or an errno.
   * At most NOTIFICATIONS_MAX and one at once. */
  notify(message: Uint8Array): Promise<number>;
  /** Stops reading until `resume`. What was read already still comes. */
  pause(): void;
  resume(): void;
  hold(chunk: Chunk): void;
  release(chunk: Chunk): void;
  /** Closes the descriptor. To be called once no notification is under way. */
  close(): void;
}

/** Notifications being written at once: each holds a thread until the kernel takes it. One thread more is left for those that never wait;
 * the addon has 64. */
export const NOTIFICATIONS_MAX = { addon: 63, node: 8 } as const satisfies Record<EngineKind, number>;

/** More pieces than this are joined before they are sent; the kernel takes 1024 in a write. */
export const REPLY_PIECES_MAX = 512;
