import { checkLimits, LIMITS, type Limits } from "@dazzle/core";

/** So small that segments, volumes, checkpoints, merges of runs and evictions come by the dozen in a few thousand operations. */
export const SMALL_LIMITS: Limits = {
  ...LIMITS,
  fragmentBytes: 16 * 1024,
  mirrorBytes: 8 * 1024,
  transactionBytes: 64 * 1024,
  flushIntervalMs: 200,
  serverDeadlineMs: 1_000,
  serverSuspectMs: 500,
  readHedgeMs: 100,
  dirtyBytes: 512 * 1024,
  segmentsInFlight: 4,
  cacheBytes: 160 * 1024,
  syncBytes: 64 * 1024,
  volumeBytes: 128 * 1024,
  scrubBytesPerSecond: 1024 * 1024,
  scrubIntervalMs: 5_000,
  memtableBytes: 32 * 1024,
  runCacheBytes: 32 * 1024,
  runBlockBytes: 1_024,
  checkpointIntervalMs: 2_000,
  tailSegments: 32,
  numbersLeased: 8,
};
checkLimits(SMALL_LIMITS);
