import { checksum, decodeInode, ROOT, SLOTS, someAtOnce } from "@dazzle/core";
import { EntryKind, keyId, unpackEntry } from "@dazzle/manager";
import { entriesOf, type Imaps } from "./imaps.ts";
import { NUMBER, NumberTable } from "./number-table.ts";
import type { Problem, Suspicion } from "./problems.ts";

const SLOTS_AT_ONCE = 8;
const DIRECTORY = 4;
/** Members of a loop that are told. */
const SHOWN = 10;

/** Bits of a number's state. The types, as in `d_type`, stand behind them: 4 bits as the index node says, 4 as names say. */
const STATE = { known: 1, present: 2, orphan: 4, holdsNames: 8, named: 16, typesDiffer: 32, isType: 8, namedType: 12 } as const;

interface DirectoryRow {
  /** As its index node says. */
  parent: number;
  /** Where a name leads to it. */
  within: number;
  directories: number;
}

/** What is held against what: counted while entries of all slots come in any order. In memory: `NumberTable`, and a row for each directory. */
export class NameCount {
  readonly #numbers = new NumberTable();
  readonly #directories = new Map<number, DirectoryRow>();
  names = 0;
  files = 0;

  get directories(): number {
    return this.#directories.size;
  }

  inode(ino: number, value: Buffer): void {
    const { mode, nlink, parent } = decodeInode(value);
    const [words, at] = this.#numbers.at(ino);
    words[at] = (words[at] as number) | STATE.known | STATE.present | ((mode >> 12) << STATE.isType);
    words[at + NUMBER.links] = nlink;
    words[at + NUMBER.trace] = (words[at + NUMBER.trace] as number) + checksum(value);
    this.files++;
    if (mode >> 12 === DIRECTORY) this.#directory(ino).parent = parent;
  }

  name(key: Buffer, value: Buffer): void {
    const directory = keyId(key);
    const { child, type } = unpackEntry(value);
    this.names++;
    const [holder, holderAt] = this.#numbers.at(directory);
    holder[holderAt] = (holder[holderAt] as number) | STATE.known | STATE.holdsNames;
    const [words, at] = this.#numbers.at(child);
    const state = words[at] as number;
    const differs = (state & STATE.named) !== 0 && ((state >> STATE.namedType) & 15) !== type;
    words[at] = state | STATE.known | STATE.named | (differs ? STATE.typesDiffer : 0) | (type << STATE.namedType);
    words[at + NUMBER.names] = (words[at + NUMBER.names] as number) + 1;
    words[at + NUMBER.trace] = (words[at + NUMBER.trace] as number) + checksum(key);
    if (type !== DIRECTORY) return;
    this.#directory(child).within = directory;
    this.#directory(directory).directories++;
  }

  orphan(ino: number): void {
    const [words, at] = this.#numbers.at(ino);
    words[at] = (words[at] as number) | STATE.known | STATE.orphan;
  }

  #directory(ino: number): DirectoryRow {
    let row = this.#directories.get(ino);
    if (row === undefined) {
      row = { parent: 0, within: 0, directories: 0 };
      this.#directories.set(ino, row);
    }
    return row;
  }

  *suspicions(): Generator<Suspicion> {
    let hasRoot = false;
    for (const [ino, words, at] of this.#numbers.numbers()) {
      hasRoot ||= ino === ROOT && ((words[at] as number) & STATE.present) !== 0;
      yield* this.#ofNumber(ino, words, at);
    }
    if (!hasRoot) yield { problem: "noRoot", subject: { ino: ROOT }, seen: "it is not there", evidence: "" };
    yield* this.#loops();
  }

  *#ofNumber(ino: number, words: Uint32Array, at: number): Generator<Suspicion> {
    const state = words[at] as number;
    const links = words[at + NUMBER.links] as number;
    const names = words[at + NUMBER.names] as number;
    const row = this.#directories.get(ino);
    const trace = words[at + NUMBER.trace] as number;
    const evidence = [state, links, names, trace, row?.directories, row?.within].join(" ");
    const suspicion = (problem: Problem, seen: string): Suspicion => ({ problem, subject: { ino }, seen, evidence, trace });
    const miscount = (problem: Problem, seen: string, should: number) => ({ ...suspicion(problem, seen), count: { is: links, should } });
    const type = (state >> STATE.isType) & 15;
    const isPresent = (state & STATE.present) !== 0;
    const isDirectory = isPresent && type === DIRECTORY;
    if ((state & STATE.holdsNames) !== 0 && !isDirectory) yield suspicion("strayEntries", isPresent ? "it is a file" : "it does not exist");
    if (!isPresent) {
      if (names > 0) yield suspicion("missingFile", names === 1 ? "a name leads there" : `${names} names lead there`);
      return;
    }
    const isOrphan = (state & STATE.orphan) !== 0;
    const due = isDirectory ? 2 + (row?.directories ?? 0) : Math.max(1, names);
    if (isOrphan !== (links === 0)) yield miscount("orphan", links === 0 ? "it has no links" : `it has ${links} links`, due);
    const namedType = (state >> STATE.namedType) & 15;
    if ((state & STATE.typesDiffer) !== 0) yield suspicion("entryType", "its names say different types");
    else if ((state & STATE.named) !== 0 && namedType !== type)
      yield suspicion("entryType", `it is of type ${type}, and named as ${namedType}`);
    if (names === 0 && links > 0 && ino !== ROOT) yield miscount("nameless", `it has ${links} links`, due);
    else if (!isDirectory) {
      if (names !== links) yield miscount("linkCount", `it has ${links} links and ${names} names`, names);
      return;
    }
    if (row === undefined) return;
    if (names > (ino === ROOT ? 0 : 1)) yield suspicion("severalNames", `it has ${names} names`);
    if (links === 0 && names > 0) yield miscount("linkCount", `it has no links and ${names} names`, due);
    if (links > 0 && links !== 2 + row.directories)
      yield miscount("linkCount", `it has ${links} links and holds ${row.directories} directories`, due);
    if (names === 1 && row.within !== row.parent) yield suspicion("wrongParent", `it is in ${row.within}, and says ${row.parent}`);
  }

  /** Where the way up never ends. Each loop once. */
  *#loops(): Generator<Suspicion> {
    const ends = new Set<number>();
    for (const first of this.#directories.keys()) {
      const way = new Set<number>();
      let ino = first;
      for (; ino !== 0 && ino !== ROOT && !ends.has(ino) && !way.has(ino); ino = this.#directories.get(ino)?.within ?? 0) way.add(ino);
      if (way.has(ino)) {
        const members = [...way].slice([...way].indexOf(ino)).sort((one, other) => one - other);
        const seen = `${members.slice(0, SHOWN).join(", ")}${members.length > SHOWN ? ` and ${members.length - SHOWN} more` : ""}`;
        const traces = members.map((member) => {
          const [words, at] = this.#numbers.at(member);
          return words[at + NUMBER.trace] as number;
        });
        const [first, trace] = [members[0] as number, traces[0] as number];
        yield { problem: "loop", subject: { ino: first }, seen, evidence: `${seen} ${traces.join(" ")}`, trace };
      }
      for (const member of way) ends.add(member);
    }
  }
}

/** Of an index node, where there is one, and the keys of the names that lead to it: another once any of it has changed. */
export function traceOf(inode: Buffer | undefined, names: readonly Buffer[]): number {
  return names.reduce((sum, key) => sum + checksum(key), inode === undefined ? 0 : checksum(inode)) >>> 0;
}

/** Names, link counts and directories of all slots, which are read at about the same time. */
export async function countNames(imaps: Imaps, done: () => void): Promise<NameCount> {
  const count = new NameCount();
  await someAtOnce(SLOTS_AT_ONCE, slots(), async (slot) => {
    for await (const [key, value] of entriesOf(imaps, slot, EntryKind.inode)) count.inode(keyId(key), value);
    for await (const [key, value] of entriesOf(imaps, slot, EntryKind.entry)) count.name(key, value);
    for await (const [key] of entriesOf(imaps, slot, EntryKind.orphan)) count.orphan(keyId(key));
    done();
  });
  return count;
}

export function slots(): number[] {
  return Array.from({ length: SLOTS }, (_, slot) => slot);
}
