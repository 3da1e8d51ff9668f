import {
  BLOCK_BYTES,
  currentVersion,
  findGroup,
  findLog,
  isDazzleError,
  joined,
  type LogId,
  MapCache,
  MapRegister,
  type MemberId,
  type Move,
  memberId,
  Peers,
  type Piece,
  packMoves,
  packPieces,
  RecordKind,
  readMapFrom,
  registerLog,
  SegmentClass,
  slotOf,
  unpackPieces,
} from "@dazzle/core";
import { LogReader, LogWriter, segmentPoolFor } from "@dazzle/log";
import type { SimCluster } from "@dazzle/sim";

const DEADLINE_MS = 60_000;

/** Moves all blocks of a log's trimmed segments into a cleaner's log of its own, whatever that is worth. */
export class Mover {
  readonly #options: ConstructorParameters<typeof LogReader>[0];
  readonly #reader: LogReader;
  readonly #writer: LogWriter;
  readonly log: number;

  private constructor(options: ConstructorParameters<typeof LogReader>[0], log: number) {
    const { map, limits } = options;
    this.log = log;
    this.#options = options;
    this.#reader = new LogReader(options);
    const { dataFragments, parityFragments } = currentVersion(findGroup(map.current, 1));
    const pool = segmentPoolFor(limits, dataFragments, parityFragments);
    this.#writer = new LogWriter({ ...options, log, clusterId: map.current.clusterId, group: 1, pool });
  }

  /** In a process of its own, on the machine of a node. */
  static async start(cluster: SimCluster, machine = 1): Promise<Mover> {
    const { ports } = cluster.world.spawn("mover");
    const { network, clock, random } = ports;
    const seeds = cluster.genesis.members.flatMap(({ addresses }) => addresses);
    const known = await readMapFrom(network, clock, seeds[0] as string, DEADLINE_MS);
    const map: MapCache = new MapCache(new MapRegister({ peers: () => peers, clock, random, map: known, seeds }), known);
    const peers: Peers = new Peers({ network, clock, map, handlers: {}, self: null, process: ports.processes.self });
    const { id } = await registerLog(map, { kind: "cleaner", member: memberId(machine), label: "mover", ports });
    return new Mover({ map, peers, ports, limits: cluster.limits }, id);
  }

  get #managers(): Set<MemberId> {
    return new Set(this.#options.map.current.slots.flatMap(({ manager }) => manager ?? []));
  }

  /** By manager. */
  #dealt<T extends Piece>(pieces: readonly T[]): Map<MemberId, T[]> {
    const dealt = new Map<MemberId, T[]>();
    for (const piece of pieces) {
      const manager = this.#options.map.current.slots[slotOf(piece.ino)]?.manager as MemberId;
      dealt.set(manager, [...(dealt.get(manager) ?? []), piece]);
    }
    return dealt;
  }

  /** Answers the segments from which everything was moved. */
  async move(log: number): Promise<number[]> {
    const { peers, map } = this.#options;
    const live = new Set<number>();
    let trimmedTo = 0;
    for (const manager of this.#managers) {
      const { reply } = await peers.call(manager, "liveBytes", { log, after: 0, limit: 10_000 });
      trimmedTo = Math.max(trimmedTo, reply.trimmedTo);
      for (const sequence of reply.sequences) live.add(sequence);
    }
    const sequences = [...live].filter((sequence) => sequence <= trimmedTo).sort((one, other) => one - other);
    for (const sequence of sequences)
      try {
        await this.#moveSegment(log, sequence, findLog(map.current, log as LogId)?.groups[0] ?? 1);
      } catch (error) {
        // Nothing of it was needed any more.
        if (!isDazzleError(error, "fragmentMissing", "segmentLost")) throw error;
      }
    for (const manager of this.#managers)
      await peers.call(manager, "cleanerTrimmed", { log: this.log, trimmedTo: this.#writer.stableSequence });
    return sequences;
  }

  async #moveSegment(log: number, sequence: number, group: number): Promise<void> {
    const { peers } = this.#options;
    const { records, groupVersion } = await this.#reader.summary(log, sequence, group, 1);
    const blocks = records.filter(({ kind }) => kind === RecordKind.block);
    const named = blocks.map(({ owner, position, offset, length }) => ({ ino: owner, block: position / BLOCK_BYTES, offset, length }));
    const pieces: Piece[] = [];
    for (const [manager, some] of this.#dealt(named)) {
      const { tail } = await peers.call(manager, "stillAt", { log, sequence }, { tail: [packPieces(some)] });
      pieces.push(...unpackPieces(joined(tail)));
    }
    for (const piece of pieces) {
      await this.#writer.whenReady();
      const read = await this.#reader.read({ log, sequence, group, groupVersion, offset: piece.offset, length: piece.length });
      const bytes = Buffer.from(joined(read));
      const placed = this.#writer.place(bytes.length);
      if (placed === undefined) throw new Error("a piece fits a segment of its own");
      placed.bytes.set(bytes);
      const { ino, block, length } = piece;
      const record = { kind: RecordKind.block, owner: ino, position: block * BLOCK_BYTES, term: 0, offset: placed.offset, length };
      const target = this.#writer.seal([record], { class: SegmentClass.cleaner, urgent: true });
      await this.#writer.flush(target.sequence);
      const move: Move = { ...piece, offset: placed.offset, fromLog: log, fromSequence: sequence, fromOffset: piece.offset };
      for (const [manager, some] of this.#dealt([move])) {
        const request = { log: this.log, sequence: target.sequence, group, groupVersion: target.groupVersion, trimmedTo: 0 };
        await peers.call(manager, "relocate", request, { tail: [packMoves(some)], deadlineMs: DEADLINE_MS });
      }
    }
    this.#writer.trimmedTo = this.#writer.stableSequence;
  }
}
