import { BLOCK_BYTES, type Delta, decodeInode, FILE_END, ROOT, unpackAttributes, unpackEntries, unpackExtents } from "@dazzle/core";
import type { SeededRandom } from "@dazzle/sim";
import type { TestMount } from "./cluster.ts";
import { ino, inodeOf } from "./transactions.ts";

interface ModelFile {
  size: number;
  nlink: number;
  /** By block: "log/sequence/offset/length". */
  blocks: Map<number, string>;
  attributes: Map<string, string>;
}

/** What a mount's transactions make of some files and directories, in plain maps. */
export class FileModel {
  readonly files = new Map<number, ModelFile>();
  readonly names = new Map<number, Map<string, number>>();
  readonly removed: number[] = [];
  readonly #random: SeededRandom;
  readonly #numbers: number[];

  /** `numbers`: index numbers to use, leased. */
  constructor(random: SeededRandom, numbers: number[]) {
    this.#random = random;
    this.#numbers = numbers;
  }

  get #anyFile(): number | undefined {
    const files = [...this.files.keys()];
    return files.length === 0 ? undefined : files[this.#random.below(files.length)];
  }

  /** A transaction of random deltas, which will be `log`'s segment `sequence`. */
  transaction(log: number, sequence: number): Delta[] {
    const deltas: Delta[] = [];
    let offset = 0;
    for (let count = 1 + this.#random.below(8); count > 0; count--) {
      const file = this.#anyFile;
      const choice = file === undefined ? 0 : this.#random.below(10);
      if (choice < 3) this.#create(deltas);
      else if (choice < 6) offset = this.#write(deltas, file as number, log, sequence, offset);
      else if (choice < 7) this.#cut(deltas, file as number);
      else if (choice < 8) this.#attribute(deltas, file as number);
      else this.#remove(deltas, file as number);
    }
    // A transaction is never empty.
    if (deltas.length === 0) deltas.push({ kind: "putInode", ino: ROOT, inode: inodeOf(ROOT, { mode: 0o40755, nlink: 2 }) });
    return deltas;
  }

  #create(deltas: Delta[]): void {
    const number = this.#numbers.pop();
    if (number === undefined) return;
    const directory = 1 + this.#random.below(3);
    const name = `name ${this.#random.below(1000)} of ${number}`;
    this.files.set(number, { size: 0, nlink: 1, blocks: new Map(), attributes: new Map() });
    const isNew = !this.names.has(directory);
    const names = this.names.get(directory) ?? new Map();
    if (!this.names.has(directory))
      deltas.push({ kind: "putInode", ino: ino(directory), inode: inodeOf(directory, { mode: 0o40755, nlink: 2 }) });
    names.set(name, number);
    this.names.set(directory, names);
    if (isNew) deltas.push({ kind: "putInode", ino: ino(directory), inode: inodeOf(directory, { mode: 0o40755, nlink: 2 }) });
    deltas.push({ kind: "putInode", ino: ino(number), inode: inodeOf(number) });
    deltas.push({ kind: "putEntry", ino: ino(directory), name, child: number, type: 8 });
  }

  #write(deltas: Delta[], number: number, log: number, sequence: number, offset: number): number {
    const file = this.files.get(number) as ModelFile;
    // Now and then over the end of a region, or far away.
    const block = this.#random.below(5) === 0 ? 250 + this.#random.below(10) : this.#random.below(2) * 100_000 + this.#random.below(12);
    const blocks = 1 + this.#random.below(10);
    const length = blocks * BLOCK_BYTES - this.#random.below(BLOCK_BYTES);
    for (let index = 0; index < blocks; index++) {
      const held = Math.min(BLOCK_BYTES, length - index * BLOCK_BYTES);
      file.blocks.set(block + index, `${log}/${sequence}/${offset + index * BLOCK_BYTES}/${held}`);
    }
    file.size = Math.max(file.size, block * BLOCK_BYTES + length);
    deltas.push({ kind: "putExtents", ino: ino(number), extents: [{ block, offset, length }] });
    deltas.push({ kind: "putInode", ino: ino(number), inode: inodeOf(number, { size: file.size, nlink: file.nlink }) });
    return offset + blocks * BLOCK_BYTES;
  }

  #cut(deltas: Delta[], number: number): void {
    const file = this.files.get(number) as ModelFile;
    if (this.#random.below(2) === 0) {
      const from = this.#random.below(14) * BLOCK_BYTES;
      const to = from + (1 + this.#random.below(300)) * BLOCK_BYTES;
      for (const block of file.blocks.keys()) if (block * BLOCK_BYTES >= from && block * BLOCK_BYTES < to) file.blocks.delete(block);
      deltas.push({ kind: "cutExtents", ino: ino(number), from, to });
      return;
    }
    const from = this.#random.below(14 * BLOCK_BYTES);
    for (const [block, where] of file.blocks) {
      const kept = from - block * BLOCK_BYTES;
      const [log, sequence, offset, length] = where.split("/").map(Number) as [number, number, number, number];
      if (kept <= 0) file.blocks.delete(block);
      else if (kept < length) file.blocks.set(block, `${log}/${sequence}/${offset}/${kept}`);
    }
    file.size = from;
    deltas.push({ kind: "cutExtents", ino: ino(number), from, to: FILE_END });
    deltas.push({ kind: "putInode", ino: ino(number), inode: inodeOf(number, { size: from, nlink: file.nlink }) });
  }

  #attribute(deltas: Delta[], number: number): void {
    const { attributes } = this.files.get(number) as ModelFile;
    const name = `user.${this.#random.below(4)}`;
    if (attributes.delete(name)) deltas.push({ kind: "removeAttribute", ino: ino(number), name });
    else {
      attributes.set(name, "v".repeat(this.#random.below(200)));
      deltas.push({ kind: "putAttribute", ino: ino(number), name, value: Buffer.from(attributes.get(name) as string) });
    }
  }

  #remove(deltas: Delta[], number: number): void {
    for (const [directory, names] of this.names)
      for (const [name, child] of names)
        if (child === number) {
          names.delete(name);
          deltas.push({ kind: "removeEntry", ino: ino(directory), name });
        }
    if (this.#random.below(4) === 0) {
      // Unlinked and still open.
      (this.files.get(number) as ModelFile).nlink = 0;
      deltas.push({ kind: "putInode", ino: ino(number), inode: inodeOf(number, { nlink: 0, size: this.files.get(number)?.size ?? 0 }) });
      return;
    }
    this.files.delete(number);
    this.removed.push(number);
    deltas.push({ kind: "removeInode", ino: ino(number) });
  }

  /** Transactions that remove every file. */
  removeAll(): Delta[][] {
    return [...this.files.keys()].map((number) => {
      const deltas: Delta[] = [{ kind: "removeInode", ino: ino(number) }];
      for (const [directory, names] of this.names)
        for (const [name, child] of names)
          if (child === number && names.delete(name)) deltas.push({ kind: "removeEntry", ino: ino(directory), name });
      this.files.delete(number);
      this.removed.push(number);
      return deltas;
    });
  }

  /** Takes away what is unlinked: nobody has it open any more. */
  dropOrphans(): void {
    for (const [number, { nlink }] of this.files)
      if (nlink === 0) {
        this.files.delete(number);
        this.removed.push(number);
      }
  }

  /** Segments ("log/sequence") that hold blocks of files. */
  liveSegments(): Set<string> {
    const live = new Set<string>();
    for (const { blocks } of this.files.values()) for (const where of blocks.values()) live.add(where.split("/").slice(0, 2).join("/"));
    return live;
  }

  /** What a mount is told differently. `originOf`: where a mount wrote what lies at "log/sequence/offset". */
  async differences(mount: TestMount, originOf = (where: string) => where): Promise<string[]> {
    const ask: TestMount["call"] = (name, request, tail) => mount.patiently(() => mount.call(name, request, tail));
    const wrong: string[] = [];
    const same = (what: string, got: unknown, wanted: unknown) => {
      if (JSON.stringify(got) !== JSON.stringify(wanted)) wrong.push(`${what}: ${JSON.stringify(got)} is not ${JSON.stringify(wanted)}`);
    };
    for (const [directory, names] of this.names) {
      const found: Array<[string, number]> = [];
      await ask("acquire", { ino: directory, exclusive: false });
      for (let after = "", more = true; more; ) {
        const { reply, tail } = await ask("entries", { ino: directory, after, limit: 7, inodes: false });
        for (const { name, child } of unpackEntries(Buffer.concat(tail))) found.push([name, child]);
        after = found.at(-1)?.[0] ?? "";
        more = reply.more;
      }
      same(
        `directory ${directory}`,
        found,
        [...names].sort(([one], [other]) => (one < other ? -1 : 1)),
      );
    }
    for (const [number, file] of this.files) {
      const { tail } = await ask("acquire", { ino: number, exclusive: false });
      const { size, nlink } = decodeInode(Buffer.concat(tail));
      same(`file ${number}`, [size, nlink], [file.size, file.nlink]);
      const extents = unpackExtents(Buffer.concat((await ask("extents", { ino: number, from: 0, to: 2 ** 31 })).tail));
      const blocks: Array<[number, string]> = [];
      for (const { block, log, sequence, offset, length } of extents)
        for (let at = 0; at < length; at += BLOCK_BYTES)
          blocks.push([block + at / BLOCK_BYTES, `${originOf(`${log}/${sequence}/${offset + at}`)}/${Math.min(BLOCK_BYTES, length - at)}`]);
      same(
        `blocks of ${number}`,
        blocks,
        [...file.blocks].sort(([one], [other]) => one - other),
      );
      const attributes = unpackAttributes(Buffer.concat((await ask("attributes", { ino: number })).tail));
      const told = [...attributes].map(([name, value]) => [name, Buffer.from(value).toString()]);
      same(`attributes of ${number}`, told, [...file.attributes].sort());
    }
    for (const number of this.removed) {
      const error = await ask("acquire", { ino: number, exclusive: false }).catch((reason: unknown) => reason);
      if ((error as { code?: string }).code !== "notFound") wrong.push(`file ${number} is there`);
    }
    return wrong;
  }
}
