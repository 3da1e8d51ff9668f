import {
  BLOCK_BYTES,
  isDazzleError,
  MapCache,
  MapRegister,
  type MemberId,
  type Move,
  Peers,
  type Piece,
  packMoves,
  packPieces,
  type Reply,
  registerLog,
  SegmentClass,
  sleep,
  slotOf,
  unpackPieces,
} from "@dazzle/core";
import type { Instance } from "@dazzle/sim";
import type { MemoryLogs, MemoryWriter } from "./memory-logs.ts";

const RETRY_MS = 100;

/** A block of a file, and where its bytes were last seen. */
export type FoundBlock = Piece & { readonly log: number; readonly sequence: number };

/** A cleaner as managers see one, whose log is in memory. */
export class TestCleaner {
  readonly instance: Instance;
  readonly map: MapCache;
  readonly peers: Peers;
  readonly #logs: MemoryLogs;
  #writer!: MemoryWriter;
  log = 0;
  /** "log/sequence/offset" of a block that was copied: where a mount wrote it. */
  readonly origins = new Map<string, string>();

  constructor(cluster: { readonly map: MapCache; readonly logs: MemoryLogs }, instance: Instance) {
    this.instance = instance;
    this.#logs = cluster.logs;
    const { network, clock, processes } = instance.ports;
    const { current: map } = cluster.map;
    this.map = new MapCache(new MapRegister({ ...instance.ports, peers: () => this.peers, map }), map);
    this.peers = new Peers({ network, clock, map: this.map, handlers: {}, self: null, process: processes.self });
  }

  /** Takes a new log. */
  async begin(member = 1): Promise<void> {
    const { ports } = this.instance;
    const { id } = await registerLog(this.map, { kind: "cleaner", member: member as MemberId, label: `${this.log}`, ports });
    this.log = id;
    this.#writer = this.#logs.writer(id, ports.clock);
  }

  ownerOf(ino: number): MemberId {
    return this.map.current.slots[slotOf(ino)]?.manager as MemberId;
  }

  get #managers(): Set<MemberId> {
    return new Set(this.map.current.slots.map(({ manager }) => manager as MemberId));
  }

  get sealed(): number {
    return this.#writer.openSequence - 1;
  }

  /** Where a mount wrote what lies there now. */
  originOf(address: string): string {
    return this.origins.get(address) ?? address;
  }

  /** Copies blocks, each as long as it was when it was found, into a new segment, stably. Answers the moves; nobody has heard of them. */
  async copy(blocks: readonly FoundBlock[]): Promise<Move[]> {
    const moves: Move[] = [];
    const sequence = this.#writer.openSequence;
    for (const { ino, block, length, log, sequence: fromSequence, offset: fromOffset } of blocks) {
      const rounded = Math.ceil(length / BLOCK_BYTES) * BLOCK_BYTES;
      const placed = this.#writer.place(rounded, true);
      if (placed === undefined) throw new Error("a test's moves fit a segment");
      const { offset } = placed;
      for (let at = 0; at < rounded; at += BLOCK_BYTES)
        this.origins.set(`${this.log}/${sequence}/${offset + at}`, this.originOf(`${log}/${fromSequence}/${fromOffset + at}`));
      moves.push({ ino, block, offset, length, fromLog: log, fromSequence, fromOffset });
    }
    this.#writer.seal([], { class: SegmentClass.cleaner, urgent: true });
    await this.#writer.flush(sequence);
    return moves;
  }

  /** To the managers of the files, once. Answers the bytes. */
  async relocate(sequence: number, moves: readonly Move[], trimmedTo = 0): Promise<number> {
    const byOwner = new Map<MemberId, Move[]>();
    for (const move of moves) byOwner.set(this.ownerOf(move.ino), [...(byOwner.get(this.ownerOf(move.ino)) ?? []), move]);
    let bytes = 0;
    for (const [member, ofOwner] of byOwner) bytes += await this.relocateAt(member, sequence, ofOwner, trimmedTo);
    return bytes;
  }

  async relocateAt(member: MemberId, sequence: number, moves: readonly Move[], trimmedTo = 0): Promise<number> {
    const request = { log: this.log, sequence, group: 1, groupVersion: 1, trimmedTo };
    return (await this.peers.call(member, "relocate", request, { tail: [packMoves(moves)], deadlineMs: 60_000 })).reply.bytes;
  }

  /** Until it is answered, wherever the slots go. */
  async patiently<T>(action: () => Promise<T>): Promise<T> {
    for (;;) {
      try {
        return await action();
      } catch (error) {
        if (!isDazzleError(error, "unreachable", "timedOut", "notReady", "staleMap", "badMessage")) throw error;
        await sleep(this.instance.ports.clock, RETRY_MS);
        await this.map.refresh().catch(() => {});
      }
    }
  }

  /** Everything in these segments is answered. */
  async trim(trimmedTo: number): Promise<void> {
    for (const member of this.#managers) await this.peers.call(member, "cleanerTrimmed", { log: this.log, trimmedTo });
  }

  async stillAt(member: MemberId, log: number, sequence: number, pieces: readonly Piece[]): Promise<Piece[]> {
    const { tail } = await this.peers.call(member, "stillAt", { log, sequence }, { tail: [packPieces(pieces)] });
    return unpackPieces(Buffer.concat(tail));
  }

  async liveBytes(member: MemberId, log: number, after: number, limit: number): Promise<Reply<"liveBytes">> {
    return (await this.peers.call(member, "liveBytes", { log, after, limit })).reply;
  }

  kill(): void {
    this.instance.kill();
    this.peers.close();
    this.#writer.cut();
  }
}
