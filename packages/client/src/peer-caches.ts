import {
  type Address,
  type Clock,
  checksum,
  DazzleError,
  type Handlers,
  helloHandlers,
  isDazzleError,
  type LogAddress,
  type Logger,
  type MapCache,
  type Network,
  NO_MEMBER,
  type Peers,
  type RpcPeer,
  serve,
  totalBytes,
} from "@dazzle/core";

/** A peer that does not answer in this time is slower than storage. */
const DELAY_MS = 100;
/** So many misses pass a peer by that had not what it was asked for; after a failure, ten times as many. */
const PASSED_BY = 16;
/** What one answer holds at most. */
const ANSWER_BYTES_MAX = 1024 * 1024;
/** Peers that are remembered. */
const PEERS_MAX = 1_024;

/** Bytes that this mount has in memory, as pieces; undefined where it has not all of them. */
export type OwnBytes = (address: LogAddress) => readonly Uint8Array[] | undefined;

/** What other mounts have in memory, and what they get from here (the cooperative cache, docs/client.md). Segments never change and are asked
 * for by log address, so what a peer has can't be stale (rule 26). */
export class PeerCaches {
  readonly #peers: Peers;
  readonly #own: OwnBytes;
  /** Misses that pass a peer by, until it is asked again. */
  readonly #passing = new Map<Address, number>();
  #turn = 0;
  #served: { readonly address: Address; close(): Promise<void> } | null = null;
  readonly counters = { asked: 0, hits: 0, bytes: 0, failed: 0, served: 0, servedBytes: 0, refused: 0 };

  constructor(options: { peers: Peers; own: OwnBytes }) {
    this.#peers = options.peers;
    this.#own = options.own;
  }

  /** The bytes of an address from one of the mounts that may have them. Undefined where the one that was asked has not, does not
   * answer at once, or answers what does not match its checksum: then storage has them. Never rejects. */
  async read(address: LogAddress, caches: readonly Address[]): Promise<readonly Buffer[] | undefined> {
    if (address.length > ANSWER_BYTES_MAX) return undefined;
    // In turn, so that a file that everybody reads is not asked of one mount alone.
    const peer = caches[this.#turn++ % caches.length];
    if (peer === undefined || !this.#isDue(peer)) return undefined;
    const connection = this.#connected(peer);
    if (connection === undefined) return undefined;
    this.counters.asked++;
    try {
      const { log, sequence, offset, length } = address;
      const { reply, tail } = await connection.call("peerRead", { log, sequence, offset, length }, { deadlineMs: DELAY_MS });
      const pieces = tail.map((piece) => Buffer.from(piece.buffer, piece.byteOffset, piece.byteLength));
      if (totalBytes(pieces) !== length || sumOf(pieces) !== reply.checksum) throw new DazzleError("corrupt", `what ${peer} answered`);
      this.counters.hits++;
      this.counters.bytes += length;
      return pieces;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      const refused = error.code === "fragmentMissing";
      if (!refused) this.counters.failed++;
      this.#pass(peer, refused ? PASSED_BY : 10 * PASSED_BY);
      return undefined;
    }
  }

  /** The connection, where there is one: a first one is made beside the read, which storage answers meanwhile. */
  #connected(peer: Address): RpcPeer | undefined {
    const existing = this.#peers.openTo(peer);
    if (existing === undefined) this.#peers.connectTo(peer).catch(() => this.#pass(peer, 10 * PASSED_BY));
    return existing;
  }

  #isDue(peer: Address): boolean {
    const left = this.#passing.get(peer);
    if (left === undefined) return true;
    if (left > 1) this.#passing.set(peer, left - 1);
    else this.#passing.delete(peer);
    return false;
  }

  #pass(peer: Address, misses: number): void {
    this.#passing.set(peer, misses);
    if (this.#passing.size > PEERS_MAX) for (const oldest of this.#passing.keys()) return void this.#passing.delete(oldest);
  }

  /** Where this mount answers other mounts; null where it does not. */
  get address(): Address | null {
    return this.#served?.address ?? null;
  }

  /** Answers other mounts at this address from now on, if it can be listened at: without, they go to storage. */
  async listen(options: { network: Network; clock: Clock; logger: Logger; map: MapCache; address: Address }): Promise<void> {
    const { map, address, logger } = options;
    const handlers = { ...helloHandlers(map.current.clusterId, NO_MEMBER), ...this.handlers };
    try {
      this.#served = await serve({ ...options, handlers });
    } catch (error) {
      logger("warning", "other mounts can't be given what is in memory here", { address, reason: (error as Error).message });
    }
  }

  async close(): Promise<void> {
    await this.#served?.close();
  }

  /** What other mounts ask. */
  get handlers(): Handlers {
    return {
      peerRead: ({ log, sequence, offset, length }) => {
        const pieces = length > ANSWER_BYTES_MAX ? undefined : this.#own({ log, sequence, offset, length, group: 0, groupVersion: 0 });
        if (pieces === undefined) {
          this.counters.refused++;
          throw new DazzleError("fragmentMissing", `segment ${log}/${sequence} is not in this mount's memory`);
        }
        this.counters.served++;
        this.counters.servedBytes += length;
        return { reply: { checksum: sumOf(pieces) }, tail: pieces };
      },
    };
  }
}

function sumOf(pieces: readonly Uint8Array[]): number {
  let sum = 0;
  for (const piece of pieces) sum = checksum(piece, sum);
  return sum;
}
