import {
  type Answer,
  type AttributeChanges,
  type Caller,
  DazzleError,
  type DirectoryEntry,
  type Entry,
  type FileSystem,
  type FileSystemStatistics,
  isDazzleError,
  type KernelNotifier,
  type LockRange,
  type OpenFile,
  type WriteFlags,
} from "@dazzle/core";
import type { MountClient } from "../mount-client.ts";
import type { KernelPages } from "./kernel-pages.ts";
import type { KernelState } from "./kernel-state.ts";

const O_APPEND = 0o2000;
const O_ACCMODE = 3;

/** Which incarnation of a mount serves now. */
export interface Incarnations {
  /** Null while the mount is expelled and has not rejoined. */
  readonly present: MountClient | null;
  /** Resolves when there is one. Rejects, naming what is awaited, when `endMs` has passed. */
  whenPresent(endMs: number): Promise<MountClient>;
  /** Resolves when this one is known to be expelled, or may be asked again. */
  expelledOrBack(client: MountClient): Promise<void>;
  /** By when a request that comes now must have been answered. */
  readonly deadlineMs: number;
}

/** How an operation that was under way when its incarnation ended is gone on with. */
interface Manner<T> {
  /** It changes something: what was done and not answered is not done again. */
  readonly changes: boolean;
  /** It may have been done in part, or its end be all that was waited for, and doing it twice would be wrong. */
  readonly once?: boolean;
  /** Takes back what an answer that is never given has counted. */
  readonly undo?: (value: T) => void;
}

const LOOKS: Manner<unknown> = { changes: false };
const CHANGES: Manner<unknown> = { changes: true };
const CHANGES_ONCE: Manner<unknown> = { changes: true, once: true };

/** The filesystem behind one kernel mount, whichever incarnation of the mount serves it. Operations of an incarnation that was expelled are
 * asked again of the next, but for changes that were made and are lost: those fail, and so does every handle through which they could have been
 * made, until it is closed. */
export class RejoiningFileSystem implements FileSystem {
  readonly #incarnations: Incarnations;
  readonly #kernel: KernelState;
  readonly #pages: KernelPages;
  readonly #onStart: (notifier: KernelNotifier) => void;
  /** Each of an operation that the present incarnation has not answered. */
  readonly #underWay = new Set<() => void>();
  readonly #lookedUp: Manner<Entry>;
  readonly #listed: Manner<readonly DirectoryEntry[]>;
  readonly #made: Manner<Entry>;
  readonly #opened: Manner<OpenFile>;
  readonly #openedDirectory: Manner<number>;
  readonly #created: Manner<{ entry: Entry; file: OpenFile }>;

  constructor(options: {
    incarnations: Incarnations;
    kernel: KernelState;
    pages: KernelPages;
    onStart: (notifier: KernelNotifier) => void;
  }) {
    this.#incarnations = options.incarnations;
    this.#kernel = options.kernel;
    this.#pages = options.pages;
    this.#onStart = options.onStart;
    const { handles } = this.#kernel;
    const forgetEntry = ({ attributes }: Entry) => (attributes.ino === 0 ? undefined : this.#kernel.forget(attributes.ino, 1));
    this.#lookedUp = { changes: false, undo: forgetEntry };
    this.#made = { changes: true, undo: forgetEntry };
    const forgetEntries = (rows: readonly DirectoryEntry[]) => {
      for (const { entry } of rows) if (entry !== undefined) forgetEntry(entry);
    };
    this.#listed = { changes: false, undo: forgetEntries };
    this.#opened = { changes: false, undo: ({ handle }) => void handles.close(handle) };
    this.#openedDirectory = { changes: false, undo: (handle) => void handles.close(handle) };
    this.#created = {
      changes: true,
      undo: ({ entry, file }) => {
        forgetEntry(entry);
        handles.close(file.handle);
      },
    };
  }

  start(notifier: KernelNotifier): void {
    this.#onStart(notifier);
  }

  #run<T>(manner: Manner<T>, call: (fileSystem: FileSystem) => Answer<T>): Answer<T> {
    const { present } = this.#incarnations;
    return present === null ? this.#later(manner, call, this.#incarnations.deadlineMs) : this.#askOf(present, manner, call, undefined);
  }

  /** What is answered at once is answered under tokens that hold; see `LeaseGuard`. */
  #askOf<T>(client: MountClient, manner: Manner<T>, call: (fileSystem: FileSystem) => Answer<T>, endMs: number | undefined): Answer<T> {
    let answer: Answer<T>;
    try {
      answer = call(client.fileSystem);
    } catch (error) {
      if (!this.#ended(client, error)) throw error;
      answer = Promise.reject(error);
    }
    if (!(answer instanceof Promise)) return answer;
    return this.#awaited(client, manner, call, answer, endMs ?? this.#incarnations.deadlineMs);
  }

  #ended(client: MountClient, error?: unknown): boolean {
    return client.expelled !== null || isDazzleError(error, "expelled");
  }

  async #awaited<T>(
    client: MountClient,
    manner: Manner<T>,
    call: (fileSystem: FileSystem) => Answer<T>,
    answer: Promise<T>,
    endMs: number,
  ): Promise<T> {
    let done: { readonly value: T } | undefined;
    try {
      // Once it is expelled, nothing that has not been done yet is ever done.
      done = await this.#orEnded(answer);
      if (done !== undefined && !this.#ended(client)) return done.value;
    } catch (error) {
      if (!this.#ended(client, error)) throw error;
    }
    if (done !== undefined) {
      manner.undo?.(done.value);
    }
    if (manner.once === true || (manner.changes && done !== undefined))
      throw new DazzleError("expelled", "this mount was expelled while it answered");
    await this.#incarnations.expelledOrBack(client);
    return this.#later(manner, call, endMs);
  }

  /** What was answered; undefined where the incarnation ended first. */
  #orEnded<T>(answer: Promise<T>): Promise<{ readonly value: T } | undefined> {
    return new Promise((resolve, reject) => {
      const end = () => resolve(undefined);
      this.#underWay.add(end);
      answer.then(
        (value) => {
          this.#underWay.delete(end);
          resolve({ value });
        },
        (error) => {
          this.#underWay.delete(end);
          reject(error);
        },
      );
    });
  }

  /** The present incarnation is expelled: whoever waits for it goes on. */
  ended(): void {
    for (const end of this.#underWay) end();
    this.#underWay.clear();
  }

  async #later<T>(manner: Manner<T>, call: (fileSystem: FileSystem) => Answer<T>, endMs: number): Promise<T> {
    const client = await this.#incarnations.whenPresent(endMs);
    return this.#askOf(client, manner, call, endMs);
  }

  lookup(caller: Caller, parent: number, name: string): Answer<Entry> {
    return this.#run(this.#lookedUp, (fileSystem) => fileSystem.lookup(caller, parent, name));
  }

  forget(ino: number, references: number): void {
    const { present } = this.#incarnations;
    if (present === null) this.#kernel.forget(ino, references);
    else present.fileSystem.forget(ino, references);
    if (!this.#kernel.references.has(ino)) this.#pages.forget(ino);
  }

  getAttributes(caller: Caller, ino: number, handle: number | undefined): Answer<Entry> {
    return this.#run(LOOKS, (fileSystem) => fileSystem.getAttributes(caller, ino, handle));
  }

  setAttributes(caller: Caller, ino: number, changes: AttributeChanges, handle: number | undefined): Answer<Entry> {
    return this.#run(CHANGES, (fileSystem) => {
      if (handle !== undefined) this.#kernel.handles.get(handle);
      return fileSystem.setAttributes(caller, ino, changes, handle);
    });
  }

  readLink(caller: Caller, ino: number): Answer<string> {
    return this.#run(LOOKS, (fileSystem) => fileSystem.readLink(caller, ino));
  }

  makeNode(caller: Caller, parent: number, name: string, mode: number, rdev: number): Answer<Entry> {
    return this.#run(this.#made, (fileSystem) => fileSystem.makeNode(caller, parent, name, mode, rdev));
  }

  makeDirectory(caller: Caller, parent: number, name: string, mode: number): Answer<Entry> {
    return this.#run(this.#made, (fileSystem) => fileSystem.makeDirectory(caller, parent, name, mode));
  }

  symlink(caller: Caller, parent: number, name: string, target: string): Answer<Entry> {
    return this.#run(this.#made, (fileSystem) => fileSystem.symlink(caller, parent, name, target));
  }

  link(caller: Caller, ino: number, parent: number, name: string): Answer<Entry> {
    return this.#run(this.#made, (fileSystem) => fileSystem.link(caller, ino, parent, name));
  }

  unlink(caller: Caller, parent: number, name: string): Answer<void> {
    return this.#run(CHANGES, (fileSystem) => fileSystem.unlink(caller, parent, name));
  }

  removeDirectory(caller: Caller, parent: number, name: string): Answer<void> {
    return this.#run(CHANGES, (fileSystem) => fileSystem.removeDirectory(caller, parent, name));
  }

  rename(caller: Caller, parent: number, name: string, newParent: number, newName: string, flags: number): Answer<void> {
    return this.#run(CHANGES, (fileSystem) => fileSystem.rename(caller, parent, name, newParent, newName, flags));
  }

  open(caller: Caller, ino: number, flags: number): Answer<OpenFile> {
    const dropping = this.#pages.beforeOpen(ino);
    return dropping !== undefined
      ? dropping.then(() => this.open(caller, ino, flags))
      : this.#run(this.#opened, (fileSystem) => fileSystem.open(caller, ino, flags));
  }

  create(caller: Caller, parent: number, name: string, mode: number, flags: number): Answer<{ entry: Entry; file: OpenFile }> {
    return this.#run(this.#created, (fileSystem) => fileSystem.create(caller, parent, name, mode, flags));
  }

  read(caller: Caller, ino: number, handle: number, offset: number, length: number): Answer<readonly Uint8Array[]> {
    const answer = this.#run(LOOKS, (fileSystem) => fileSystem.read(caller, ino, handle, offset, length));
    if (answer instanceof Promise) return this.#pages.during(ino, offset, length, this.#isDirect(handle) ? "direct" : "fill", answer);
    this.#pages.note(ino);
    return answer;
  }

  write(caller: Caller, ino: number, handle: number, offset: number, data: Uint8Array, flags: WriteFlags): Answer<number> {
    // An append would be made twice.
    const manner = (flags.open & O_APPEND) === 0 ? CHANGES : CHANGES_ONCE;
    const answer = this.#run(manner, (fileSystem) => fileSystem.write(caller, ino, handle, offset, data, flags));
    if (answer instanceof Promise)
      return this.#pages.during(ino, offset, data.byteLength, this.#isDirect(handle) ? "direct" : "overwrite", answer);
    this.#pages.note(ino);
    return answer;
  }

  /** Such handles have no pages: see `OpenFile.directIo`. */
  #isDirect(handle: number): boolean {
    const flags = this.#kernel.handles.flagsOf(handle);
    return (flags & O_APPEND) !== 0 && (flags & O_ACCMODE) !== 0;
  }

  flush(caller: Caller, ino: number, handle: number, lockOwner: bigint): Answer<void> {
    return this.#run(LOOKS, (fileSystem) => {
      const answer = fileSystem.flush(caller, ino, handle, lockOwner);
      this.#kernel.handles.get(handle);
      return answer;
    });
  }

  release(ino: number, handle: number, flockOwner: bigint | undefined): Answer<void> {
    const { present } = this.#incarnations;
    if (present !== null) return present.fileSystem.release(ino, handle, flockOwner);
    this.#kernel.handles.close(handle);
    return undefined;
  }

  fsync(caller: Caller, ino: number, handle: number | undefined, dataOnly: boolean): Answer<void> {
    return this.#run(LOOKS, (fileSystem) => {
      if (handle !== undefined) this.#kernel.handles.get(handle);
      return fileSystem.fsync(caller, ino, handle, dataOnly);
    });
  }

  openDirectory(caller: Caller, ino: number): Answer<number> {
    return this.#run(this.#openedDirectory, (fileSystem) => fileSystem.openDirectory(caller, ino));
  }

  readDirectory(
    caller: Caller,
    ino: number,
    handle: number,
    cookie: number,
    limit: number,
    withAttributes: boolean,
  ): Answer<readonly DirectoryEntry[]> {
    return this.#run(this.#listed, (fileSystem) => fileSystem.readDirectory(caller, ino, handle, cookie, limit, withAttributes));
  }

  releaseDirectory(ino: number, handle: number): void {
    const { present } = this.#incarnations;
    if (present === null) this.#kernel.handles.close(handle);
    else present.fileSystem.releaseDirectory(ino, handle);
  }

  fsyncDirectory(caller: Caller, ino: number, dataOnly: boolean): Answer<void> {
    return this.#run(LOOKS, (fileSystem) => {
      this.#kernel.handles.checkLost(ino);
      return fileSystem.fsyncDirectory(caller, ino, dataOnly);
    });
  }

  statistics(caller: Caller): Answer<FileSystemStatistics> {
    return this.#run(LOOKS, (fileSystem) => fileSystem.statistics(caller));
  }

  setExtendedAttribute(caller: Caller, ino: number, name: string, value: Uint8Array, flags: number): Answer<void> {
    return this.#run(CHANGES, (fileSystem) => fileSystem.setExtendedAttribute(caller, ino, name, value, flags));
  }

  getExtendedAttribute(caller: Caller, ino: number, name: string): Answer<Uint8Array> {
    return this.#run(LOOKS, (fileSystem) => fileSystem.getExtendedAttribute(caller, ino, name));
  }

  listExtendedAttributes(caller: Caller, ino: number): Answer<readonly string[]> {
    return this.#run(LOOKS, (fileSystem) => fileSystem.listExtendedAttributes(caller, ino));
  }

  removeExtendedAttribute(caller: Caller, ino: number, name: string): Answer<void> {
    return this.#run(CHANGES, (fileSystem) => fileSystem.removeExtendedAttribute(caller, ino, name));
  }

  allocate(caller: Caller, ino: number, handle: number, mode: number, offset: number, length: number): Answer<void> {
    return this.#run(CHANGES, (fileSystem) => fileSystem.allocate(caller, ino, handle, mode, offset, length));
  }

  seek(caller: Caller, ino: number, handle: number, offset: number, whence: number): Answer<number> {
    return this.#run(LOOKS, (fileSystem) => fileSystem.seek(caller, ino, handle, offset, whence));
  }

  getLock(caller: Caller, ino: number, owner: bigint, range: LockRange): Answer<LockRange> {
    return this.#run(LOOKS, (fileSystem) => fileSystem.getLock(caller, ino, owner, range));
  }

  setLock(caller: Caller, ino: number, handle: number, owner: bigint, range: LockRange, wait: boolean, flock: boolean): Answer<void> {
    return this.#run(LOOKS, (fileSystem) => {
      if (range.type !== "unlock") this.#kernel.handles.get(handle);
      return fileSystem.setLock(caller, ino, handle, owner, range, wait, flock);
    });
  }
}
