import { assert, DazzleError } from "@dazzle/core";
import type { EventQueue } from "./clock.ts";
import { type Change, FileContents } from "./contents.ts";
import type { Counters } from "./counters.ts";
import { DirectoryTree, parentOf } from "./directory-tree.ts";
import { IndexContents, type IndexHost } from "./ordered-store.ts";
import type { SimProcess } from "./process.ts";
import type { CrashChoices, SeededRandom } from "./random.ts";

export type DriveOperation = "read" | "write" | "sync" | "commit";

/** Set any of them at any time. Chances are of each operation, 0 to 1. */
export interface DriveFaults {
  minDelayMs: number;
  maxDelayMs: number;
  readErrorChance: number;
  writeErrorChance: number;
  syncErrorChance: number;
  commitErrorChance: number;
  /** How often `readNow` has the bytes. */
  readNowChance: number;
}

/** What a dead process waits for. */
const never = () => new Promise<never>(() => {});

/** What a drive needs of the world. */
export interface DriveHost {
  readonly events: EventQueue;
  readonly counters: Counters;
  note(what: string): void;
  fail(error: unknown): void;
}

interface WriteInFlight {
  readonly process: SimProcess;
  readonly contents: FileContents;
  readonly change: Extract<Change, { kind: "write" }>;
}

interface ReplaceInFlight {
  readonly process: SimProcess;
  readonly path: string;
  readonly bytes: Uint8Array;
}

/** A disk: what processes see of it, what is durable, and what can go wrong. Outlives the processes that use it. */
export class SimDrive implements IndexHost {
  readonly name: string;
  readonly faults: DriveFaults = {
    minDelayMs: 0.02,
    maxDelayMs: 2,
    readErrorChance: 0,
    writeErrorChance: 0,
    syncErrorChance: 0,
    commitErrorChance: 0,
    readNowChance: 0.5,
  };
  capacityBytes = 2 ** 40;
  /** Decides what survives a crash; null: chance. */
  crashChoices: CrashChoices | null = null;
  readonly tree: DirectoryTree;
  readonly #host: DriveHost;
  readonly #random: SeededRandom;
  readonly #contents = new Set<FileContents>();
  readonly #indexes = new Map<string, IndexContents>();
  readonly #writes = new Set<WriteInFlight>();
  readonly #replaces = new Set<ReplaceInFlight>();
  readonly #failNext: Array<{ readonly operation: DriveOperation; readonly path: string | undefined }> = [];

  constructor(name: string, host: DriveHost, random: SeededRandom) {
    this.name = name;
    this.#host = host;
    this.#random = random;
    this.tree = new DirectoryTree(host.counters);
  }

  get #choices(): CrashChoices {
    return this.crashChoices ?? this.#random;
  }

  get freeBytes(): number {
    let used = 0;
    for (const contents of this.#contents) used += contents.allocatedBytes;
    return Math.max(0, this.capacityBytes - used);
  }

  /** The next operation of this kind (on this file or index, where one is named) fails. */
  failNext(operation: DriveOperation, path?: string): void {
    this.#failNext.push({ operation, path });
  }

  /** Turns over one bit of a stored byte, behind everybody's back. */
  flip(path: string, offset: number): void {
    const contents = this.tree.file(path);
    assert(contents !== undefined && offset < contents.size, `${path} has a byte ${offset}`);
    this.#host.counters.count("bitFlip");
    contents.flip(offset, this.#random.below(8));
  }

  /** Whole sectors of a file are as if they had never been written, behind everybody's back. */
  blank(path: string, offset: number, length: number): void {
    const contents = this.tree.file(path);
    assert(contents !== undefined && offset + length <= contents.size, `${path} has bytes up to ${offset + length}`);
    this.#host.counters.count("writeMissed");
    contents.blank(offset, length);
  }

  /** Power is lost: of what was not synced any part survives. Every process that uses the drive must have been killed. */
  crash(): void {
    for (const write of this.#writes) this.#tear(write);
    for (const replace of this.#replaces) this.#interruptReplace(replace);
    for (const contents of this.#contents) contents.crash(this.#choices, this.#host.counters);
    this.tree.crash(this.#choices);
    for (const contents of this.#contents) {
      contents.handles.length = 0;
      contents.named = this.tree.names(contents);
      this.#forgetUnused(contents);
    }
    for (const index of this.#indexes.values()) index.interrupt(this.#choices, true);
  }

  /** A process ended: what it had under way may be done in part. */
  interrupt(process: SimProcess): void {
    for (const write of this.#writes) if (write.process === process) this.#tear(write);
    for (const replace of this.#replaces) if (replace.process === process) this.#interruptReplace(replace);
    for (const index of this.#indexes.values()) if (index.process === process) index.interrupt(this.#choices, false);
    for (const contents of this.#contents) {
      contents.handles = contents.handles.filter((holder) => holder !== process);
      this.#forgetUnused(contents);
    }
  }

  /** Runs `action` after the drive's delay, unless the process is dead by then. */
  operate<T>(process: SimProcess, what: string, action: () => T): Promise<T> {
    const delayMs = this.#random.between(this.faults.minDelayMs, this.faults.maxDelayMs);
    return new Promise((resolve, reject) => {
      this.#host.events.schedule(delayMs, process, () => {
        this.#host.note(`${this.name} ${what}`);
        try {
          resolve(action());
        } catch (error) {
          reject(error);
        }
      });
    });
  }

  create(path: string): FileContents {
    const contents = new FileContents();
    this.#contents.add(contents);
    this.tree.add(path, contents);
    return contents;
  }

  remove(path: string): void {
    const contents = this.tree.remove(path);
    if (contents !== undefined) this.#unnamed(contents);
  }

  released(process: SimProcess, contents: FileContents): void {
    contents.handles.splice(contents.handles.indexOf(process), 1);
    this.#forgetUnused(contents);
  }

  readNowHits(): boolean {
    const hit = this.#random.chance(this.faults.readNowChance);
    if (!hit) this.#host.counters.count("readNowMissed");
    return hit;
  }

  read(contents: FileContents, path: string, buffer: Uint8Array, position: number): number {
    if (this.#fails("read", path)) throw new DazzleError("diskFailed", `${path}: a read failed (EIO)`);
    return contents.read(buffer, position);
  }

  write(process: SimProcess, contents: FileContents, path: string, pieces: readonly Uint8Array[], position: number): Promise<void> {
    if (!process.alive) return never();
    const bytes = Buffer.concat(pieces);
    const write: WriteInFlight = { process, contents, change: { kind: "write", position, bytes } };
    this.#writes.add(write);
    return this.operate(process, `write ${path} ${position}+${bytes.byteLength}`, () => {
      this.#writes.delete(write);
      if (!Buffer.concat(pieces).equals(bytes)) {
        const error = new Error(`${process.id} changed what it was writing to ${path} at ${position}`);
        this.#host.fail(error);
        throw error;
      }
      if (this.#fails("write", path)) {
        this.#tear(write);
        throw new DazzleError("diskFailed", `${path}: a write failed (EIO)`);
      }
      if (contents.missingBytes(position, bytes.byteLength) > this.freeBytes) {
        this.#host.counters.count("noSpace");
        throw new DazzleError("noSpace", `${path}: the disk is full`);
      }
      contents.change(write.change);
    });
  }

  sync(process: SimProcess, contents: FileContents, path: string): Promise<void> {
    const mark = contents.mark();
    return this.operate(process, `sync ${path}`, () => {
      if (!this.#fails("sync", path)) return contents.settle(mark);
      contents.settlePartly(mark, this.#random, this.#host.counters);
      throw new DazzleError("diskFailed", `${path}: a sync failed (EIO)`);
    });
  }

  replace(process: SimProcess, path: string, bytes: Uint8Array): Promise<void> {
    if (!process.alive) return never();
    const replace: ReplaceInFlight = { process, path, bytes: Buffer.from(bytes) };
    this.#replaces.add(replace);
    return this.operate(process, `replace ${path} ${bytes.byteLength}`, () => {
      this.#replaces.delete(replace);
      if (this.#fails("write", path)) throw new DazzleError("diskFailed", `${path}: a write failed (EIO)`);
      if (bytes.byteLength > this.freeBytes) {
        this.#host.counters.count("noSpace");
        throw new DazzleError("noSpace", `${path}: the disk is full`);
      }
      this.#replaceNow(replace);
    });
  }

  index(path: string): IndexContents {
    let index = this.#indexes.get(path);
    if (index === undefined) {
      index = new IndexContents(path, this);
      this.#indexes.set(path, index);
    }
    return index;
  }

  indexPaths(): Iterable<string> {
    return this.#indexes.keys();
  }

  beforeCommit(path: string): void {
    if (this.#fails("commit", path)) throw new DazzleError("diskFailed", `${path}: a commit failed (EIO)`);
  }

  commitsLost(count: number): void {
    if (count > 0) this.#host.counters.count("commitLost", count);
  }

  commitsKept(count: number): void {
    if (count > 0) this.#host.counters.count("commitKept", count);
  }

  #fails(operation: DriveOperation, path: string): boolean {
    const ordered = this.#failNext.findIndex((next) => next.operation === operation && (next.path ?? path) === path);
    if (ordered < 0 && !this.#random.chance(this.faults[`${operation}ErrorChance`])) return false;
    if (ordered >= 0) this.#failNext.splice(ordered, 1);
    this.#host.counters.count(`${operation}Error`);
    return true;
  }

  #tear(write: WriteInFlight): void {
    this.#writes.delete(write);
    if (write.contents.missingBytes(write.change.position, write.change.bytes.byteLength) > this.freeBytes) return;
    write.contents.tear(write.change, this.#choices, this.#host.counters);
  }

  #interruptReplace(replace: ReplaceInFlight): void {
    this.#replaces.delete(replace);
    this.#host.counters.count("replaceInterrupted");
    if (!this.tree.isDirectory(parentOf(replace.path))) return;
    const progress = this.#choices.pick(["nothing", "temporary", "done", "done"]);
    if (progress === "done") this.#replaceNow(replace);
    if (progress === "temporary") this.#leaveTemporary(replace);
  }

  #replaceNow(replace: ReplaceInFlight): void {
    const contents = FileContents.durable(replace.bytes);
    this.#contents.add(contents);
    const replaced = this.tree.replace(replace.path, contents);
    if (replaced !== undefined) this.#unnamed(replaced);
  }

  /** The runtime writes a temporary file first, and renames it. */
  #leaveTemporary(replace: ReplaceInFlight): void {
    const path = `${replace.path}.new`;
    const contents = this.tree.file(path) ?? this.create(path);
    contents.tear({ kind: "write", position: 0, bytes: replace.bytes }, this.#choices, this.#host.counters);
  }

  #unnamed(contents: FileContents): void {
    contents.named = false;
    this.#forgetUnused(contents);
  }

  #forgetUnused(contents: FileContents): void {
    if (!contents.named && contents.handles.length === 0) this.#contents.delete(contents);
  }
}
