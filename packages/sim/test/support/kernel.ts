import { BLOCK_BYTES, type Caller, type FileSystem, joined, type KernelNotifier } from "@dazzle/core";
import type { World } from "@dazzle/sim";

const NOTIFY_MAX_MS = 20;

interface Page {
  /** Null while it is being read: locked, and whoever wants it or wants to drop it waits. */
  bytes: Buffer | null;
  readonly filled: Promise<void>;
}

/** A page cache as the kernel has one: it keeps what it has read until it is told to drop it, whatever has become of the file. */
export class PageCache implements KernelNotifier {
  readonly hasEpoch = true;
  readonly #fileSystem: FileSystem;
  readonly #world: World;
  readonly #caller: Caller;
  readonly #files = new Map<number, Map<number, Page>>();
  hits = 0;

  constructor(fileSystem: FileSystem, world: World, caller: Caller) {
    this.#fileSystem = fileSystem;
    this.#world = world;
    this.#caller = caller;
    fileSystem.start(this);
  }

  async read(ino: number, handle: number, number: number): Promise<Buffer> {
    let pages = this.#files.get(ino);
    if (pages === undefined) {
      pages = new Map();
      this.#files.set(ino, pages);
    }
    const cached = pages.get(number);
    if (cached !== undefined) {
      await cached.filled;
      if (cached.bytes === null) throw new Error("the read that filled the page failed");
      this.hits++;
      return cached.bytes;
    }
    const reading = (async () => this.#fileSystem.read(this.#caller, ino, handle, number * BLOCK_BYTES, BLOCK_BYTES))();
    const page: Page = {
      bytes: null,
      filled: reading.then(
        (pieces) => {
          page.bytes = Buffer.from(joined(pieces));
        },
        () => {
          pages.delete(number);
        },
      ),
    };
    pages.set(number, page);
    await reading;
    await page.filled;
    return page.bytes as Buffer;
  }

  /** In order, a page after the other, waiting for those that are being read. */
  async invalidateInode(ino: number, offset: number, length: number): Promise<boolean> {
    await new Promise<void>((resolve) => this.#world.after(this.#world.random.below(NOTIFY_MAX_MS), resolve));
    if (length < 0) return true;
    const pages = this.#files.get(ino) ?? new Map<number, Page>();
    const first = Math.floor(offset / BLOCK_BYTES);
    const last = length === 0 ? Number.POSITIVE_INFINITY : Math.floor((offset + length - 1) / BLOCK_BYTES);
    for (const number of [...pages.keys()].sort((one, other) => one - other)) {
      if (number < first || number > last) continue;
      const page = pages.get(number);
      await page?.filled;
      if (pages.get(number) === page) pages.delete(number);
    }
    return true;
  }

  async invalidateEntry(): Promise<void> {}

  async incrementEpoch(): Promise<void> {}
}
