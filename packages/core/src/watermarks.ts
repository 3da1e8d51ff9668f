const MIB = 1024 * 1024;

/** Free bytes that a store must leave, as a share of the disk within bounds. The classes are refused one after the other,
 * so that ENOSPC comes at the write while unlink, recovery and cleaning still work (rule 8). The shares leave a disk of
 * 300 MB nine tenths for data; the bounds keep room for several segments of each class on a small disk, and do
 * not waste a large one.
 * - offered: what filesystems tell to be available ends here. What data may take beyond it is the cleaner's: the more of the disk is free
 *   when segments are cleaned, the less lives in them (Rosenblum and Ousterhout 1992).
 * - data: without credits, and new credits.
 * - promised: data against credits. Below `data`, because a record takes a little more than its credits, and because several
 *   servers may promise out of one disk.
 * - metadata: what frees. Above nothing but what the system needs to carry out the freeing.
 * - cleaner: copies of what lives, for which more is deleted. Above what the system needs to carry that out.
 * - system: managers, recovery. The rest is for the index and the map, which must never fail. */
export const WATERMARKS = {
  offered: { share: 0.08, leastBytes: 8 * MIB, mostBytes: 4096 * MIB },
  data: { share: 0.05, leastBytes: 5 * MIB, mostBytes: 2560 * MIB },
  promised: { share: 0.04, leastBytes: 4 * MIB, mostBytes: 2048 * MIB },
  metadata: { share: 0.03, leastBytes: 3 * MIB, mostBytes: 1536 * MIB },
  cleaner: { share: 0.02, leastBytes: 2 * MIB, mostBytes: 1024 * MIB },
  system: { share: 0.01, leastBytes: 1 * MIB, mostBytes: 512 * MIB },
} as const;

/** `totalBytes` of a disk. */
export function watermarkBytes(name: keyof typeof WATERMARKS, totalBytes: number): number {
  const { share, leastBytes, mostBytes } = WATERMARKS[name];
  return Math.min(mostBytes, Math.max(leastBytes, Math.floor(totalBytes * share)));
}
