import { assert, DazzleError, type Disk, type DiskFile, type OrderedStore } from "@dazzle/core";
import type { FileContents } from "./contents.ts";
import { parentOf } from "./directory-tree.ts";
import type { SimDrive } from "./drive.ts";
import { SimOrderedStore } from "./ordered-store.ts";
import type { SimProcess } from "./process.ts";

/** A directory of a drive, as one process uses it. */
export class SimDisk implements Disk {
  readonly #drive: SimDrive;
  readonly #process: SimProcess;
  readonly #root: string;

  constructor(drive: SimDrive, process: SimProcess, root: string) {
    this.#drive = drive;
    this.#process = process;
    this.#root = root;
    if (process.alive) drive.tree.keepDirectory(root);
  }

  open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    const full = this.#full(path);
    return this.#operate(`open ${full}`, () => {
      let contents = this.#drive.tree.file(full);
      if (contents === undefined && !options.create) throw new DazzleError("notFound", full);
      contents ??= this.#drive.create(full);
      contents.handles.push(this.#process);
      return new SimDiskFile(this.#drive, this.#process, full, contents);
    });
  }

  list(path: string): Promise<readonly string[]> {
    const full = this.#full(path);
    return this.#operate(`list ${full}`, () => {
      const names = new Set(this.#drive.tree.list(full));
      for (const index of this.#drive.indexPaths()) if (parentOf(index) === full) names.add(index.slice(full === "" ? 0 : full.length + 1));
      return [...names].sort();
    });
  }

  makeDirectory(path: string): Promise<void> {
    const full = this.#full(path);
    return this.#operate(`makeDirectory ${full}`, () => this.#drive.tree.makeDirectory(full));
  }

  remove(path: string): Promise<void> {
    const full = this.#full(path);
    return this.#operate(`remove ${full}`, () => this.#drive.remove(full));
  }

  replace(path: string, bytes: Uint8Array): Promise<void> {
    return this.#drive.replace(this.#process, this.#full(path), bytes);
  }

  readWhole(path: string): Promise<Uint8Array | undefined> {
    const full = this.#full(path);
    return this.#operate(`readWhole ${full}`, () => {
      const contents = this.#drive.tree.file(full);
      if (contents === undefined) return undefined;
      const bytes = Buffer.alloc(contents.size);
      this.#drive.read(contents, full, bytes, 0);
      return bytes;
    });
  }

  syncDirectory(path: string): Promise<void> {
    const full = this.#full(path);
    const mark = this.#drive.tree.mark();
    return this.#operate(`syncDirectory ${full}`, () => this.#drive.tree.sync(full, mark));
  }

  space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    return this.#operate("space", () => ({ totalBytes: this.#drive.capacityBytes, freeBytes: this.#drive.freeBytes }));
  }

  openIndex(path: string): Promise<OrderedStore> {
    const full = this.#full(path);
    return this.#operate(`openIndex ${full}`, () => {
      this.#drive.tree.keepDirectory(parentOf(full));
      return new SimOrderedStore(this.#drive.index(full), this.#process);
    });
  }

  #full(path: string): string {
    return [...this.#root.split("/"), ...path.split("/")].filter((part) => part !== "" && part !== ".").join("/");
  }

  #operate<T>(what: string, action: () => T): Promise<T> {
    return this.#drive.operate(this.#process, what, action);
  }
}

class SimDiskFile implements DiskFile {
  readonly #drive: SimDrive;
  readonly #process: SimProcess;
  readonly #path: string;
  readonly #contents: FileContents;
  #closed = false;

  constructor(drive: SimDrive, process: SimProcess, path: string, contents: FileContents) {
    this.#drive = drive;
    this.#process = process;
    this.#path = path;
    this.#contents = contents;
  }

  read(buffer: Uint8Array, position: number): Promise<number> {
    return this.#operate(`read ${this.#path} ${position}+${buffer.byteLength}`, () =>
      this.#drive.read(this.#contents, this.#path, buffer, position),
    );
  }

  readNow(buffer: Uint8Array, position: number): number | undefined {
    this.#checkOpen();
    return this.#process.alive && this.#drive.readNowHits() ? this.#contents.read(buffer, position) : undefined;
  }

  readStored(buffer: Uint8Array, position: number): Promise<number> {
    return this.read(buffer, position);
  }

  async write(pieces: readonly Uint8Array[], position: number): Promise<void> {
    this.#checkOpen();
    return this.#drive.write(this.#process, this.#contents, this.#path, pieces, position);
  }

  async sync(): Promise<void> {
    this.#checkOpen();
    return this.#drive.sync(this.#process, this.#contents, this.#path);
  }

  size(): Promise<number> {
    return this.#operate(`size ${this.#path}`, () => this.#contents.size);
  }

  truncate(bytes: number): Promise<void> {
    return this.#operate(`truncate ${this.#path} ${bytes}`, () => this.#contents.change({ kind: "truncate", size: bytes }));
  }

  punchHole(position: number, length: number): Promise<boolean> {
    return this.#operate(`punchHole ${this.#path} ${position}+${length}`, () => {
      const end = Math.min(position + length, this.#contents.size);
      if (end > position) this.#contents.change({ kind: "punch", position, length: end - position });
      return true;
    });
  }

  close(): Promise<void> {
    return this.#operate(`close ${this.#path}`, () => {
      this.#closed = true;
      this.#drive.released(this.#process, this.#contents);
    });
  }

  async #operate<T>(what: string, action: () => T): Promise<T> {
    this.#checkOpen();
    return this.#drive.operate(this.#process, what, action);
  }

  #checkOpen(): void {
    assert(!this.#closed, `${this.#path} is used after it was closed`);
  }
}
