import { BLOCK_BYTES, blocksOf, checksum, decodeInode, type Extent, hasSlot, REGION_BLOCKS, unpackExtents } from "@dazzle/core";
import { EntryKind, keyId, keyNumber, LiveCount, type MiscountedSegment, unpackLive } from "@dazzle/manager";
import { entriesOf, type ImapEntry, type Imaps } from "./imaps.ts";
import type { Problem, Suspicion } from "./problems.ts";

const REGULAR = 8;

/** Entries of one kind, and the one it stands at. */
class Stand {
  readonly #entries: AsyncIterator<ImapEntry>;
  entry: ImapEntry | undefined;

  private constructor(entries: AsyncIterator<ImapEntry>) {
    this.#entries = entries;
  }

  static async open(imaps: Imaps, slot: number, kind: EntryKind): Promise<Stand> {
    const stand = new Stand(entriesOf(imaps, slot, kind)[Symbol.asyncIterator]());
    await stand.next();
    return stand;
  }

  async next(): Promise<void> {
    const { value, done } = await this.#entries.next();
    this.entry = done ? undefined : value;
  }

  /** The value of an id; the ids that are asked for ascend. */
  async valueOf(id: number): Promise<Buffer | undefined> {
    while (this.entry !== undefined && keyId(this.entry[0]) < id) await this.next();
    return this.entry !== undefined && keyId(this.entry[0]) === id ? this.entry[1] : undefined;
  }
}

/** What a slot keeps of its files beside their names: extents, attributes, and the live bytes that the extents add up to. In memory: `LiveCount`. */
export async function checkFiles(imaps: Imaps, slot: number): Promise<Suspicion[]> {
  const condemned = new Set<number>();
  for await (const [key] of entriesOf(imaps, slot, EntryKind.condemned)) condemned.add(keyId(key));
  const live = new LiveCount();
  const found: Suspicion[] = [];
  const suspect = (problem: Problem, ino: number, seen: string, value: Buffer) =>
    found.push({ problem, subject: { ino }, seen, evidence: `${seen} ${checksum(value)}` });

  const owners = await Stand.open(imaps, slot, EntryKind.inode);
  for await (const [key, value] of entriesOf(imaps, slot, EntryKind.extents)) {
    const ino = keyId(key);
    const extents = unpackExtents(value);
    for (const { log, sequence, length } of extents) live.add(log, sequence, length);
    const inode = await owners.valueOf(ino);
    if (inode === undefined) {
      if (!condemned.has(ino)) suspect("strayExtents", ino, `region ${keyNumber(key)}`, value);
      continue;
    }
    const { size, mode } = decodeInode(inode);
    const wrong = mode >> 12 === REGULAR ? wrongExtents(extents, keyNumber(key), size) : "it is no regular file";
    if (wrong !== undefined) suspect("badExtents", ino, `region ${keyNumber(key)}: ${wrong}`, value);
  }
  await checkAttributes(imaps, slot, suspect);

  const miscount = ({ log, sequence, named, counted }: MiscountedSegment, more = "") => {
    const seen = `extents of slot ${slot} name ${named} bytes, and ${counted} are counted${more}`;
    found.push({ problem: "liveBytes", subject: { slot, log, sequence }, seen, evidence: seen, count: { is: counted, should: named } });
  };
  for await (const [key, value] of entriesOf(imaps, slot, EntryKind.live)) {
    const { bytes, slots } = unpackLive(value);
    const [log, sequence] = [keyId(key), keyNumber(key)];
    const wrong = live.compare(log, sequence, bytes);
    if (wrong !== undefined) miscount(wrong);
    else if (!hasSlot(slots, slot))
      miscount({ log, sequence, named: bytes, counted: bytes }, ", though its transaction is said not to concern the slot");
  }
  for (const wrong of live.uncounted()) miscount(wrong);
  return found;
}

/** What is wrong with a region's extents. */
function wrongExtents(extents: readonly Extent[], region: number, size: number): string | undefined {
  let end = region * REGION_BLOCKS;
  for (const { block, length, log, sequence } of extents) {
    if (length <= 0) return `${log}/${sequence} gives ${length} bytes`;
    if (block < end) return `block ${block} is not behind block ${end - 1}`;
    end = block + blocksOf(length);
    if (end > (region + 1) * REGION_BLOCKS) return `block ${end - 1} is of another region`;
    if (block * BLOCK_BYTES + length > size) return `there are bytes up to ${block * BLOCK_BYTES + length}, and the file ends at ${size}`;
  }
  return undefined;
}

async function checkAttributes(
  imaps: Imaps,
  slot: number,
  suspect: (problem: Problem, ino: number, seen: string, value: Buffer) => void,
): Promise<void> {
  const owners = await Stand.open(imaps, slot, EntryKind.inode);
  for await (const [key, value] of entriesOf(imaps, slot, EntryKind.attribute)) {
    const ino = keyId(key);
    const inode = await owners.valueOf(ino);
    if (inode === undefined) suspect("strayAttributes", ino, `${key.length} bytes of key`, value);
    else if (decodeInode(inode).noAttributes) suspect("hiddenAttributes", ino, `${key.length} bytes of key`, value);
  }
}
