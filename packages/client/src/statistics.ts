import {
  type Clock,
  currentVersion,
  DazzleError,
  dataServers,
  type FileSystemStatistics,
  type GroupVersionRow,
  type MapCache,
  NAME_BYTES_MAX,
  type Peers,
  type StoreStatus,
  watermarkBytes,
} from "@dazzle/core";

const FRESH_MS = 1_000;
const STAT_DEADLINE_MS = 1_000;
const BLOCK_BYTES = 4096;
/** A file takes at least so much of the logs: what is free, in files. */
const FILE_BYTES = 1_024;

/** The space of all groups as a filesystem's: user bytes, parity not counted. */
export class Statistics {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;
  #asked = Number.NEGATIVE_INFINITY;
  #answer: Promise<FileSystemStatistics> | null = null;

  constructor(options: { map: MapCache; peers: Peers; clock: Clock }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
  }

  read(): Promise<FileSystemStatistics> {
    if (this.#answer === null || this.#clock.nowMs() > this.#asked + FRESH_MS) {
      this.#asked = this.#clock.nowMs();
      this.#answer = this.#ask();
    }
    return this.#answer;
  }

  async #ask(): Promise<FileSystemStatistics> {
    const groups = await Promise.all(this.#map.current.groups.map((group) => this.#askGroup(currentVersion(group))));
    const told = groups.filter((space) => space !== undefined);
    if (told.length === 0) throw new DazzleError("unreachable", "no storage server tells its space");
    const blocks = told.reduce((sum, space) => sum + space.blocks, 0);
    const freeBlocks = told.reduce((sum, space) => sum + space.freeBlocks, 0);
    const availableBlocks = told.reduce((sum, space) => sum + space.availableBlocks, 0);
    const freeFiles = Math.floor((freeBlocks * BLOCK_BYTES) / FILE_BYTES);
    const files = Math.floor((blocks * BLOCK_BYTES) / FILE_BYTES);
    return { blockBytes: BLOCK_BYTES, blocks, freeBlocks, availableBlocks, files, freeFiles, nameBytesMax: NAME_BYTES_MAX };
  }

  /** Undefined where none of its servers answers. */
  async #askGroup(version: GroupVersionRow): Promise<Pick<FileSystemStatistics, "blocks" | "freeBlocks" | "availableBlocks"> | undefined> {
    const asked = version.servers.map(({ member }) =>
      this.#peers.call(member, "stat", {}, { deadlineMs: STAT_DEADLINE_MS }).then(({ reply }) => reply),
    );
    const answered = (await Promise.allSettled(asked)).flatMap((result): StoreStatus[] =>
      result.status === "fulfilled" ? [result.value] : [],
    );
    if (answered.length === 0) return undefined;
    const share = dataServers(version);
    const blocksOf = (bytes: number) => Math.floor((bytes * share) / BLOCK_BYTES);
    // A stripe ends where its fullest server does; a server that is silent counts as the others. What other programs have on
    // the servers' disks is no part of this filesystem.
    const freeBlocks = blocksOf(Math.min(...answered.map(({ bytesFree }) => bytesFree)));
    const usedBytes = answered.reduce((sum, status) => sum + status.bytesUsed, 0);
    const offered = answered.map(({ bytesFree, bytesTotal }) => Math.max(0, bytesFree - watermarkBytes("offered", bytesTotal)));
    const availableBlocks = blocksOf(Math.min(...offered));
    return { blocks: freeBlocks + blocksOf(usedBytes / answered.length), freeBlocks, availableBlocks };
  }
}
