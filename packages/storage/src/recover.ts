import type { Disk, FragmentKey, Logger, StoreId } from "@dazzle/core";
import type { DeadRange } from "./dead-pages.ts";
import { type Entry, keyOf, nameOf, spaceOf } from "./entry.ts";
import type { FragmentIndex } from "./fragment-index.ts";
import { comparePlaces, type Place } from "./record-header.ts";
import { type ScannedVolume, type Suspect, scanVolume } from "./scan.ts";
import { VOLUMES_DIRECTORY, Volumes, volumePath } from "./volumes.ts";

interface Recovery {
  readonly disk: Disk;
  readonly index: FragmentIndex;
  readonly storeId: StoreId;
  /** No log behind it has stored anything yet. */
  readonly lastLog: number;
  readonly logger: Logger;
}

/** What was on disk and no longer is, by name; null where not even the key can be read. */
export type FoundDamaged = ReadonlyMap<string, FragmentKey | null>;

/** Brings the index up to what the volumes hold: reads what was written behind its position, and nothing before it. The position follows last, with what is damaged: a start that
 * is interrupted begins anew, and overlooks nothing. Answers where the next record goes, and what is damaged. */
export async function recover(recovery: Recovery): Promise<{ readonly head: Place; readonly damaged: FoundDamaged }> {
  const { disk, index } = recovery;
  const dead: DeadRange[] = [];
  const suspects: Suspect[] = [];
  let durable = index.position;
  let head = index.position;
  // Names that a crash brought back or kept are settled before anything relies on them.
  await disk.syncDirectory(VOLUMES_DIRECTORY);
  for (const volume of await Volumes.list(disk)) {
    if (volume < index.position.volume) continue;
    const scanned = await scanOne(recovery, volume);
    dead.push(...(await take(index, volume, scanned)));
    suspects.push(...scanned.suspects);
    if (comparePlaces(scanned.durable, durable) > 0) durable = scanned.durable;
    head = { volume, offset: scanned.end };
  }
  const { rotten, torn, damaged } = judge(recovery, suspects, durable);
  const unnamed = [...damaged.values()].includes(null) ? { unnamedUpTo: recovery.lastLog } : {};
  await index.exclusive(() => index.commit({ added: rotten, dead: [...dead, ...torn], position: head, ...unnamed }));
  return { head, damaged };
}

async function scanOne({ disk, index, storeId }: Recovery, volume: number): Promise<ScannedVolume> {
  const file = await disk.open(volumePath(volume), { create: false });
  try {
    const from = volume === index.position.volume ? index.position.offset : 0;
    const scanned = await scanVolume(file, storeId, volume, from);
    await file.sync();
    return scanned;
  } finally {
    await file.close();
  }
}

/** Puts what is whole into the index. Answers what is dead: stored twice. */
async function take(index: FragmentIndex, volume: number, scanned: ScannedVolume): Promise<readonly DeadRange[]> {
  const added = new Map<string, Entry>();
  const dead: DeadRange[] = [];
  for (const { entry, header } of scanned.whole) {
    const name = nameOf(entry);
    index.logs.raise(header.log, header.stableSequence, header.trimmedTo);
    // Taken by a start that was interrupted.
    if (index.holds(entry)) continue;
    // A store that failed and was tried again: the same bytes twice.
    if (added.has(name) || index.get(entry) !== undefined) dead.push({ volume, offset: entry.offset, bytes: spaceOf(entry) });
    else added.set(name, entry);
  }
  await index.exclusive(() => index.commit({ added: [...added.values()] }));
  return dead;
}

interface Judgement {
  readonly rotten: readonly Entry[];
  readonly torn: readonly DeadRange[];
  readonly damaged: FoundDamaged;
}

/** What is not whole behind the durable mark was torn by a crash and is dropped. Before it, it has rotted: the fragment stays listed,
 * so that nobody takes it for one that was never stored (rule 10). */
function judge({ index, logger }: Recovery, suspects: readonly Suspect[], durable: Place): Judgement {
  const dropped: DeadRange[] = [];
  const rotten: Entry[] = [];
  const damaged = new Map<string, FragmentKey | null>();
  let torn = 0;
  for (const { range, entry, isZeros } of suspects) {
    const wasDurable = comparePlaces(range, durable) < 0 && !isZeros;
    if (!wasDurable || (entry !== null && isHeld(index, entry, rotten))) {
      dropped.push(range);
      if (!isZeros) torn++;
      continue;
    }
    if (entry !== null) rotten.push(entry);
    const where = `${volumePath(range.volume)} at ${range.offset}`;
    damaged.set(entry === null ? where : nameOf(entry), entry === null ? null : keyOf(entry));
    logger("error", "a stored fragment is damaged", { where, bytes: range.bytes });
  }
  if (torn > 0) logger("info", "what a crash had torn was dropped", { records: torn });
  return { rotten, torn: dropped, damaged };
}

function isHeld(index: FragmentIndex, key: FragmentKey, rotten: readonly Entry[]): boolean {
  return index.get(key) !== undefined || rotten.some((other) => nameOf(other) === nameOf(key));
}
