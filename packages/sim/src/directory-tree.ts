import { DazzleError } from "@dazzle/core";
import type { FileContents } from "./contents.ts";
import type { Counters } from "./counters.ts";
import type { CrashChoices } from "./random.ts";

type Node = FileContents | "directory";

export function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf("/")));
}

/** A change of one directory entry that is not durable yet; undefined: removed. */
interface EntryChange {
  readonly path: string;
  readonly node: Node | undefined;
}

/** Which names there are, as processes see them and as the disk has them. Paths have "/" between parts; the root is "". */
export class DirectoryTree {
  readonly #counters: Counters;
  // INVARIANT: `#seen` is `#durable` with `#unsynced` applied in order.
  #seen = new Map<string, Node>([["", "directory"]]);
  readonly #durable = new Map<string, Node>([["", "directory"]]);
  #unsynced: EntryChange[] = [];

  constructor(counters: Counters) {
    this.#counters = counters;
  }

  file(path: string): FileContents | undefined {
    const node = this.#seen.get(path);
    if (node === "directory") throw new DazzleError("diskFailed", `${path} is a directory (EISDIR)`);
    return node;
  }

  isDirectory(path: string): boolean {
    return this.#seen.get(path) === "directory";
  }

  /** Whether any path leads to it. */
  names(contents: FileContents): boolean {
    for (const node of this.#seen.values()) if (node === contents) return true;
    return false;
  }

  list(path: string): string[] {
    const names: string[] = [];
    for (const other of this.#seen.keys())
      if (other !== "" && parentOf(other) === path) names.push(other.slice(path === "" ? 0 : path.length + 1));
    return names.sort();
  }

  makeDirectory(path: string): void {
    const node = this.#seen.get(path);
    if (node === "directory") return;
    if (node !== undefined) throw new DazzleError("diskFailed", `${path} is a file (EEXIST)`);
    this.makeDirectory(parentOf(path));
    this.#change(path, "directory");
  }

  add(path: string, contents: FileContents): void {
    this.#checkParent(path);
    this.#change(path, contents);
  }

  remove(path: string): FileContents | undefined {
    const contents = this.file(path);
    if (contents !== undefined) this.#change(path, undefined);
    return contents;
  }

  /** Durable at once, and every directory that leads there. Answers what was there before. */
  replace(path: string, contents: FileContents): FileContents | undefined {
    this.#checkParent(path);
    this.keepDirectory(parentOf(path));
    const before = this.file(path);
    this.#unsynced = this.#unsynced.filter((change) => change.path !== path);
    this.#seen.set(path, contents);
    this.#durable.set(path, contents);
    return before;
  }

  /** Makes a directory, and all that lead there, durable; not what is in it. */
  keepDirectory(path: string): void {
    if (path === "") return;
    this.makeDirectory(path);
    this.keepDirectory(parentOf(path));
    if (this.#durable.get(path) === "directory") return;
    this.#unsynced = this.#unsynced.filter((change) => change.path !== path);
    this.#durable.set(path, "directory");
  }

  /** Names the changes up to now. */
  mark(): readonly EntryChange[] {
    return [...this.#unsynced];
  }

  /** Makes those of the changes that are entries of `directory` durable. */
  sync(directory: string, mark: readonly EntryChange[]): void {
    const synced = new Set(mark.filter((change) => parentOf(change.path) === directory));
    this.#unsynced = this.#unsynced.filter((change) => {
      if (!synced.has(change)) return true;
      this.#keep(change);
      return false;
    });
  }

  crash(random: CrashChoices): void {
    const keep = random.pick([0, 1, 0.5]);
    for (const change of this.#unsynced) {
      if (random.chance(keep) && this.#durable.get(parentOf(change.path)) === "directory") {
        this.#counters.count("entryKept");
        this.#keep(change);
      } else this.#counters.count("entryLost");
    }
    this.#unsynced = [];
    // A directory that is lost takes along what is in it, synced or not.
    for (const path of [...this.#durable.keys()].sort())
      if (path !== "" && this.#durable.get(parentOf(path)) !== "directory") this.#durable.delete(path);
    this.#seen = new Map(this.#durable);
  }

  #keep(change: EntryChange): void {
    if (change.node === undefined) this.#durable.delete(change.path);
    else this.#durable.set(change.path, change.node);
  }

  #change(path: string, node: Node | undefined): void {
    if (node === undefined) this.#seen.delete(path);
    else this.#seen.set(path, node);
    this.#unsynced.push({ path, node });
  }

  #checkParent(path: string): void {
    if (!this.isDirectory(parentOf(path))) throw new DazzleError("notFound", `the directory of ${path}`);
  }
}
