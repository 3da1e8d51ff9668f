import { assert } from "./assert.ts";

/** The unit of addressing and of checksums. Part of the on-disk format. */
export const BLOCK_BYTES = 4096;
/** A region of a file whose extents are one entry of the imap. Part of the on-disk format. */
export const REGION_BLOCKS = 256;
export const NAME_BYTES_MAX = 255;
export const SYMLINK_BYTES_MAX = 4095;
export const ATTRIBUTE_VALUE_BYTES_MAX = 65_536;
export const LINKS_MAX = 65_000;
/** The last byte a file may have: what a safe integer of blocks can name. */
export const FILE_BYTES_MAX = 2 ** 53 - BLOCK_BYTES;

/** Every limit that a simulation may want smaller. All of them bound a queue, a buffer or a wait. */
export interface Limits {
  /** When to seal: a segment holds `d` times this. Never limits a stored fragment. */
  readonly fragmentBytes: number;
  /** Payloads up to this are mirrored (d = 1). */
  readonly mirrorBytes: number;
  /** Room in a segment buffer beyond the data, for its transaction and summary. */
  readonly transactionBytes: number;
  /** A mount logs what it did at least this often. */
  readonly flushIntervalMs: number;
  /** A storage server that does not answer for so long is left out of the group. */
  readonly serverDeadlineMs: number;
  /** After so much silence a writer asks a second member about the server, so that the pause stays under 3 s. */
  readonly serverSuspectMs: number;
  /** A reader that has waited so long for one server also reads the other fragments; sooner where the server usually answers sooner. */
  readonly readHedgeMs: number;
  /** How long a writer without a possible group version waits before its mount answers EIO. */
  readonly writeDeadlineMs: number;
  /** Deadline of a request where nothing else is said. */
  readonly requestDeadlineMs: number;
  /** Accepted and not yet stable bytes of a mount, at which its writers wait. */
  readonly dirtyBytes: number;
  /** Segments a log writer has under way at once. */
  readonly segmentsInFlight: number;
  /** A mount's cache of clean blocks. */
  readonly cacheBytes: number;
  /** Bytes of sealed segments between two syncs while nobody waits. */
  readonly syncBytes: number;
  readonly volumeBytes: number;
  /** What a storage server reads in a second, at most, to verify what it holds. */
  readonly scrubBytesPerSecond: number;
  /** From the start of one such pass to the next. */
  readonly scrubIntervalMs: number;
  /** Imap entries in memory, before a checkpoint writes them out. */
  readonly memtableBytes: number;
  /** Cache of imap run blocks at a manager. */
  readonly runCacheBytes: number;
  /** Size of a block of a sorted run. */
  readonly runBlockBytes: number;
  readonly checkpointIntervalMs: number;
  /** Segments of a manager's log that its next owner has to look through, at which a checkpoint is written. */
  readonly tailSegments: number;
  /** How long a mount may serve from its caches after it asked a manager to renew its lease. */
  readonly mountLeaseMs: number;
  /** A mount that is silent for so long is expelled where somebody waits for something it holds. */
  readonly mountSilenceMs: number;
  /** A mount that is silent for so long is expelled whether anybody waits or not. */
  readonly mountAbandonedMs: number;
  readonly managerLeaseMs: number;
  /** Index numbers leased to a mount at once, per slot. */
  readonly numbersLeased: number;
}

export const LIMITS: Limits = {
  fragmentBytes: 512 * 1024,
  mirrorBytes: 16 * 1024,
  transactionBytes: 512 * 1024,
  flushIntervalMs: 1_000,
  serverDeadlineMs: 2_000,
  serverSuspectMs: 1_000,
  readHedgeMs: 300,
  writeDeadlineMs: 30_000,
  requestDeadlineMs: 10_000,
  dirtyBytes: 64 * 1024 * 1024,
  segmentsInFlight: 32,
  cacheBytes: 64 * 1024 * 1024,
  syncBytes: 8 * 1024 * 1024,
  volumeBytes: 64 * 1024 * 1024,
  scrubBytesPerSecond: 4 * 1024 * 1024,
  scrubIntervalMs: 7 * 24 * 3_600_000,
  memtableBytes: 16 * 1024 * 1024,
  runCacheBytes: 32 * 1024 * 1024,
  runBlockBytes: 16 * 1024,
  checkpointIntervalMs: 30_000,
  tailSegments: 256,
  mountLeaseMs: 10_000,
  mountSilenceMs: 8_000,
  mountAbandonedMs: 30_000,
  managerLeaseMs: 3_000,
  numbersLeased: 4_096,
};

/** Two clocks of the cluster run apart by no more than this share (CLOCK_BOOTTIME): whoever waits for another's lease to end waits so much longer. */
export const CLOCK_DRIFT = 0.01;

export function checkLimits(limits: Limits): void {
  assert(limits.fragmentBytes % BLOCK_BYTES === 0, "a fragment holds whole blocks");
  assert(limits.mirrorBytes <= limits.fragmentBytes, "a mirrored tail is no longer than a fragment");
  assert(limits.serverSuspectMs < limits.serverDeadlineMs, "a server is suspected before it is given up");
  assert(limits.managerLeaseMs < limits.mountLeaseMs, "a manager's lease is shorter than a mount's");
  assert(limits.mountSilenceMs < limits.mountLeaseMs, "a silent mount is expelled by the time its lease has ended");
  assert(limits.mountAbandonedMs > limits.mountLeaseMs, "a mount that nobody waits for is given more than its lease");
  assert(limits.volumeBytes >= 2 * limits.fragmentBytes, "a volume holds several fragments");
}
checkLimits(LIMITS);
