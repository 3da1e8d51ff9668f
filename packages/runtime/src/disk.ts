import { constants, open } from "node:fs";
import { type FileHandle, open as openHandle, readdir, readFile, rename, rm, statfs } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { type Disk, type DiskFile, isDazzleError, type OrderedStore } from "@dazzle/core";
import { diskError } from "./disk-error.ts";
import { RealFile } from "./disk-file.ts";
import { makePath } from "./make-path.ts";
import { openOrderedStore } from "./ordered-store.ts";

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;

/** The files under a directory of this machine, which is made where it is missing. */
export async function openDisk(path: string): Promise<Disk> {
  const disk = new RealDisk(resolve(path));
  await disk.makeDirectory(".");
  return disk;
}

class RealDisk implements Disk {
  readonly #root: string;

  constructor(root: string) {
    this.#root = root;
  }

  async #try<T>(what: string, path: string, action: (full: string) => Promise<T>): Promise<T> {
    const full = join(this.#root, path);
    try {
      return await action(full);
    } catch (error) {
      throw diskError(what, full, error);
    }
  }

  open(path: string, options: { readonly create: boolean }): Promise<DiskFile> {
    const full = join(this.#root, path);
    const flags = constants.O_RDWR | (options.create ? constants.O_CREAT : 0);
    return new Promise((yes, no) => {
      open(full, flags, FILE_MODE, (error, fd) => (error === null ? yes(new RealFile(fd, full)) : no(diskError("open", full, error))));
    });
  }

  async list(path: string): Promise<readonly string[]> {
    try {
      return await this.#try("list", path, async (full) => (await readdir(full)).sort());
    } catch (error) {
      if (isDazzleError(error, "notFound")) return [];
      throw error;
    }
  }

  async makeDirectory(path: string): Promise<void> {
    await this.#try("make", path, (full) => makePath(full, DIRECTORY_MODE));
  }

  async remove(path: string): Promise<void> {
    await this.#try("remove", path, (full) => rm(full, { force: true }));
  }

  async replace(path: string, bytes: Uint8Array): Promise<void> {
    await this.#try("replace", path, async (full) => {
      const temporary = `${full}.new`;
      await closing(openHandle(temporary, "w", FILE_MODE), async (handle) => {
        await handle.writeFile(bytes);
        await handle.sync();
      });
      await rename(temporary, full);
    });
    await this.syncDirectory(dirname(path));
  }

  async readWhole(path: string): Promise<Uint8Array | undefined> {
    try {
      return await this.#try("read", path, (full) => readFile(full));
    } catch (error) {
      if (isDazzleError(error, "notFound")) return undefined;
      throw error;
    }
  }

  async syncDirectory(path: string): Promise<void> {
    await this.#try("sync", path, (full) => closing(openHandle(full, "r"), (handle) => handle.sync()));
  }

  async space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }> {
    const status = await this.#try("statfs", ".", (full) => statfs(full));
    return { totalBytes: status.blocks * status.bsize, freeBytes: status.bavail * status.bsize };
  }

  async openIndex(path: string): Promise<OrderedStore> {
    const store = await this.#try("open the index", path, (full) => openOrderedStore(full));
    await this.syncDirectory(dirname(path));
    return store;
  }
}

async function closing(opening: Promise<FileHandle>, use: (handle: FileHandle) => Promise<void>): Promise<void> {
  const handle = await opening;
  try {
    await use(handle);
  } finally {
    await handle.close();
  }
}
