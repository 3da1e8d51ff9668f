import {
  ALL_SLOTS,
  BLOCK_BYTES,
  blocksOf,
  type Clock,
  type Extent,
  findLog,
  type Inode,
  type MapCache,
  overlayExtents,
  packExtents,
  packInode,
  REGION_BLOCKS,
  ROOT,
  unpackExtents,
} from "@dazzle/core";
import { EntryKind, idKey, keyNumber, numberKey, packEntry, packLive, unpackEntry, unpackLive } from "@dazzle/manager";
import type { Amender, Change } from "./amender.ts";
import { inodeOf, type KeptInode, kept, liveOf, type NameOf, namesOf, orphanOf } from "./imap-reads.ts";
import type { Imaps } from "./imaps.ts";
import { DIRECTORY_MODE, LostAndFound, newInode } from "./lost-and-found.ts";
import { traceOf } from "./names.ts";
import type { Finding, Problem } from "./problems.ts";

/** What changes which names and index nodes there are: counts are looked at again when it is done. */
const STRUCTURE: ReadonlySet<Problem> = new Set([
  "noRoot",
  "strayEntries",
  "strayExtents",
  "strayAttributes",
  "missingFile",
  "nameless",
  "orphan",
  "severalNames",
  "loop",
  "entryType",
]);
const COUNTS: ReadonlySet<Problem> = new Set(["linkCount", "wrongParent", "badExtents", "hiddenAttributes", "liveBytes"]);
const FILE_MODE = 0o100600;
const REGULAR = 8;
/** Entries in one message. */
const BATCH = 100;

/** Repairs what is certain to be wrong with names, index nodes and live bytes. Nothing that holds data goes: what has lost its name gets one in /lost+found, an index node that is gone
 * is made anew. What is not any more as it was judged is left alone. Each change is made where all is still as it was seen, and no mount has a part in it; two of them are not one change, and what is left of those half done is found again. */
export class MetadataRepair {
  readonly #imaps: Imaps;
  readonly #map: MapCache;
  readonly #amender: Amender;
  readonly #clock: Clock;
  readonly #lostAndFound: LostAndFound;
  #names: ReadonlyMap<number, readonly NameOf[]> = new Map();

  constructor(options: { imaps: Imaps; map: MapCache; amender: Amender; clock: Clock }) {
    this.#imaps = options.imaps;
    this.#map = options.map;
    this.#amender = options.amender;
    this.#clock = options.clock;
    this.#lostAndFound = new LostAndFound(options);
  }

  /** Does what can be done now, and answers what was done about which finding: for more, what is wrong must be looked for again. */
  async repair(findings: readonly Finding[]): Promise<Map<Finding, string>> {
    const structure = await this.#each(findings.filter(({ problem }) => STRUCTURE.has(problem)));
    return structure.size > 0 ? structure : this.#each(findings.filter(({ problem }) => COUNTS.has(problem)));
  }

  async #each(findings: readonly Finding[]): Promise<Map<Finding, string>> {
    const numbers = new Set(findings.flatMap(({ subject: { ino } }) => ino ?? []));
    this.#names = await namesOf(this.#imaps, numbers);
    const done = new Map<Finding, string>();
    const touched = new Set<number>();
    for (const problem of [...STRUCTURE, ...COUNTS])
      for (const finding of findings) {
        const { ino } = finding.subject;
        if (finding.problem !== problem || (ino !== undefined && touched.has(ino))) continue;
        const told = ino === undefined ? await this.#recount(finding) : await this.#one(ino, finding);
        if (told === undefined) continue;
        if (ino !== undefined) touched.add(ino);
        done.set(finding, told);
      }
    return done;
  }

  async #one(ino: number, finding: Finding): Promise<string | undefined> {
    const names = this.#names.get(ino) ?? [];
    const found = await inodeOf(this.#imaps, ino);
    const keys = names.map(({ key }) => key);
    if (finding.trace !== undefined && finding.trace !== traceOf(found?.value, keys)) return undefined;
    switch (finding.problem) {
      case "noRoot":
        return found === undefined ? this.#directoryAnew(ino) : undefined;
      case "strayEntries":
        return found === undefined ? this.#directoryAnew(ino) : this.#dropEntriesOf(found);
      case "strayExtents":
      case "strayAttributes":
        return found === undefined ? this.#fileAnew(ino) : undefined;
      case "missingFile":
        return found === undefined ? this.#dropNames(names) : undefined;
      case "entryType":
        return found === undefined ? undefined : this.#retype(found, names);
      default:
        return found === undefined ? undefined : this.#ofInode(found, names, finding);
    }
  }

  #ofInode(found: KeptInode, names: readonly NameOf[], finding: Finding): Promise<string | undefined> | undefined {
    switch (finding.problem) {
      case "nameless":
        return this.#adopt(found, finding);
      case "orphan":
        if (found.inode.nlink > 0) return this.#isNoOrphan(found);
        return names.length === 0 ? this.#adopt(found, finding) : undefined;
      case "linkCount":
        return this.#setLinks(found, finding, {}).then((done) => (done ? `it has ${finding.count?.should} links now` : undefined));
      case "severalNames":
        return this.#dropNames(names.filter((name) => name !== keptName(found.inode, names)));
      case "loop":
        return this.#dropNames(names);
      case "wrongParent":
        return this.#reparent(found, names);
      case "badExtents":
        return this.#mendExtents(found);
      case "hiddenAttributes":
        return this.#put(found, { noAttributes: false }).then((done) => (done ? "it says that it has attributes" : undefined));
      default:
        return undefined;
    }
  }

  #put({ inode, key, value }: KeptInode, change: Partial<Inode>, more: readonly Change[] = []): Promise<boolean> {
    return this.#amender.ofNumber(inode.ino, [{ key, seen: value, put: packInode({ ...inode, ...change }) }, ...more]);
  }

  // Index nodes that are gone.

  async #directoryAnew(ino: number): Promise<string | undefined> {
    const mode = ino === ROOT ? 0o40755 : DIRECTORY_MODE;
    const inode = newInode(this.#clock, ino, { mode, nlink: 2, size: 0, allocatedBlocks: 0, parent: ROOT });
    const done = await this.#amender.ofNumber(ino, [{ key: idKey(EntryKind.inode, ino), seen: null, put: packInode(inode) }]);
    return done ? "the directory is made anew, with its names" : undefined;
  }

  async #fileAnew(ino: number): Promise<string | undefined> {
    let size = 0;
    let allocatedBlocks = 0;
    for await (const [, value] of kept(this.#imaps, EntryKind.extents, ino))
      for (const { block, length } of unpackExtents(value)) {
        size = Math.max(size, block * BLOCK_BYTES + length);
        allocatedBlocks += blocksOf(length);
      }
    const inode = newInode(this.#clock, ino, { mode: FILE_MODE, nlink: 1, size, allocatedBlocks, parent: ROOT });
    const done = await this.#amender.ofNumber(ino, [{ key: idKey(EntryKind.inode, ino), seen: null, put: packInode(inode) }]);
    return done ? "the file is made anew, with what is kept of it" : undefined;
  }

  // Names.

  async #dropNames(names: readonly NameOf[]): Promise<string | undefined> {
    const dropped: string[] = [];
    for (const { directory, name, key, value } of names)
      if (await this.#amender.ofNumber(directory, [{ key, seen: value, put: null }])) dropped.push(`${name} of directory ${directory}`);
    return dropped.length > 0 ? `removed the name ${dropped.join(", ")}` : undefined;
  }

  async #dropEntriesOf({ inode: { ino } }: KeptInode): Promise<string | undefined> {
    let batch: Change[] = [];
    let dropped = 0;
    const drop = async () => {
      if (batch.length > 0 && (await this.#amender.ofNumber(ino, batch))) dropped += batch.length;
      batch = [];
    };
    for await (const [key, seen] of kept(this.#imaps, EntryKind.entry, ino)) {
      batch.push({ key, seen, put: null });
      if (batch.length === BATCH) await drop();
    }
    await drop();
    return dropped > 0 ? `${dropped} names in it are removed` : undefined;
  }

  async #retype({ inode }: KeptInode, names: readonly NameOf[]): Promise<string | undefined> {
    const type = inode.mode >> 12;
    let changed = 0;
    for (const { directory, key, value } of names) {
      const entry = unpackEntry(value);
      if (entry.type === type) continue;
      if (await this.#amender.ofNumber(directory, [{ key, seen: value, put: packEntry({ ...entry, type }) }])) changed++;
    }
    return changed > 0 ? "its names say its type" : undefined;
  }

  async #reparent(found: KeptInode, names: readonly NameOf[]): Promise<string | undefined> {
    const [name, ...others] = names;
    if (name === undefined || others.length > 0) return undefined;
    return (await this.#put(found, { parent: name.directory })) ? `it says directory ${name.directory} now` : undefined;
  }

  // Links.

  /** The count that was seen and the names that were counted belong together: whoever changes one changes the other. */
  async #setLinks(found: KeptInode, { count }: Finding, change: Partial<Inode>): Promise<boolean> {
    const { ino, nlink } = found.inode;
    if (count === undefined || nlink !== count.is) return false;
    const orphan = await orphanOf(this.#imaps, ino);
    const more = orphan === undefined || count.should === 0 ? [] : [{ key: idKey(EntryKind.orphan, ino), seen: orphan, put: null }];
    return this.#put(found, { ...change, nlink: count.should, ctimeNs: this.#clock.wallTimeNs() }, more);
  }

  async #isNoOrphan({ inode: { ino }, key, value }: KeptInode): Promise<string | undefined> {
    const orphan = await orphanOf(this.#imaps, ino);
    if (orphan === undefined) return undefined;
    const changes = [
      { key, seen: value, put: value },
      { key: idKey(EntryKind.orphan, ino), seen: orphan, put: null },
    ];
    return (await this.#amender.ofNumber(ino, changes)) ? "it is no orphan any more" : undefined;
  }

  async #adopt(found: KeptInode, finding: Finding): Promise<string | undefined> {
    const { ino, mode } = found.inode;
    const parent = await this.#lostAndFound.find();
    if (parent === undefined || parent === ino || !(await this.#setLinks(found, finding, { parent }))) return undefined;
    const path = await this.#lostAndFound.take(parent, ino, mode >> 12);
    return path === undefined ? undefined : `it is ${path} now`;
  }

  // Extents and live bytes.

  async #mendExtents(found: KeptInode): Promise<string | undefined> {
    const { ino, mode, size } = found.inode;
    if (mode >> 12 !== REGULAR) return undefined;
    // Cleaners move blocks in any order; of a log that left the map nobody knows whose it was.
    const isInOrder = (log: number) => findLog(this.#map.current, log)?.kind === "mount";
    const told: string[] = [];
    let end = size;
    let last: Change | undefined;
    for await (const [key, seen] of kept(this.#imaps, EntryKind.extents, ino)) {
      const extents = unpackExtents(seen);
      for (const { block, length } of extents) end = Math.max(end, block * BLOCK_BYTES + length);
      last = { key, seen, put: seen };
      const apart = withoutOverlaps(extents, keyNumber(key), isInOrder);
      if (apart === undefined || !(await this.#amender.ofNumber(ino, [{ key, seen, put: packExtents(apart) }]))) continue;
      told.push(`of the extents of region ${keyNumber(key)} that overlap the newer ones count`);
    }
    // Where a region was mended the rest follows with the next look.
    if (told.length === 0 && last !== undefined && end > size && (await this.#put(found, { size: end }, [last])))
      told.push(`it ends at ${end} now`);
    return told.length > 0 ? told.join(", ") : undefined;
  }

  async #recount({ subject: { slot, log, sequence }, count }: Finding): Promise<string | undefined> {
    if (slot === undefined || log === undefined || sequence === undefined || count === undefined) return undefined;
    const seen = await liveOf(this.#imaps, slot, log, sequence);
    const key = numberKey(EntryKind.live, log, sequence);
    if ((seen === undefined ? 0 : unpackLive(seen).bytes) !== count.is) return undefined;
    const put = count.should === 0 ? null : packLive({ bytes: count.should, slots: ALL_SLOTS });
    const done = await this.#amender.ofSlot(slot, [{ key, seen: seen ?? null, put }]);
    return done ? `${count.should} are counted now` : undefined;
  }
}

/** The name of a directory with several that stays: where it says that it is, else the first. */
function keptName({ parent }: Inode, names: readonly NameOf[]): NameOf | undefined {
  return names.find(({ directory }) => directory === parent) ?? names[0];
}

/** A region's extents where the newer of what overlaps covers the older. Undefined where nothing overlaps, more than that is wrong, or which is the newer can't be told:
 * only the sequences of one log say that, and not of every log (`isInOrder`). */
function withoutOverlaps(extents: readonly Extent[], region: number, isInOrder: (log: number) => boolean): Extent[] | undefined {
  const first = region * REGION_BLOCKS;
  const isApart = extents.every(({ block }, index) => {
    const before = extents[index - 1];
    return before === undefined || block >= before.block + blocksOf(before.length);
  });
  const isHere = ({ block, length }: Extent) => length > 0 && block >= first && block + blocksOf(length) <= first + REGION_BLOCKS;
  if (isApart || !extents.every(isHere)) return undefined;
  let apart: Extent[] = [];
  for (const extent of [...extents].sort((one, other) => one.sequence - other.sequence || one.offset - other.offset)) {
    const { extents: over, replaced } = overlayExtents(apart, extent);
    if (replaced.some(({ log }) => log !== extent.log || !isInOrder(log))) return undefined;
    apart = over;
  }
  return apart;
}
