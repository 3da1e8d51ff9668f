import { close, fdatasync, fstat, ftruncate, read, write, writev } from "node:fs";
import { asBuffer, type DazzleError, type DiskFile } from "@dazzle/core";
import { DirectReader } from "./direct-reader.ts";
import { diskError } from "./disk-error.ts";
import { native } from "./native.ts";

/** What the kernel takes in one writev. */
const PIECES_MAX = 1024;

type Callback<T> = (error: NodeJS.ErrnoException | null, value: T) => void;

/** A file over a plain descriptor: no handle object that a garbage collection could close. */
export class RealFile implements DiskFile {
  readonly #fd: number;
  readonly #path: string;
  readonly #direct: DirectReader;
  #syncFailure: DazzleError | null = null;

  constructor(fd: number, path: string) {
    this.#fd = fd;
    this.#path = path;
    this.#direct = new DirectReader(fd);
  }

  #run<T>(what: string, start: (callback: Callback<T>) => void): Promise<T> {
    return new Promise((resolve, reject) => {
      start((error, value) => (error === null ? resolve(value) : reject(diskError(what, this.#path, error))));
    });
  }

  async read(buffer: Uint8Array, position: number): Promise<number> {
    let filled = 0;
    while (filled < buffer.byteLength) {
      const count = await this.#run<number>("read", (callback) =>
        read(this.#fd, buffer, filled, buffer.byteLength - filled, position + filled, callback),
      );
      if (count === 0) break;
      filled += count;
    }
    return filled;
  }

  readNow(buffer: Uint8Array, position: number): number | undefined {
    const addon = native();
    if (addon === undefined) return undefined;
    const count = addon.preadNowait(this.#fd, buffer, 0, buffer.byteLength, position);
    if (count === buffer.byteLength) return count;
    if (count <= 0) return count === 0 ? 0 : undefined;
    // Less than was asked for: the end of the file, or the rest is not in memory. A read behind it tells.
    const rest = addon.preadNowait(this.#fd, buffer, count, buffer.byteLength - count, position + count);
    return rest === 0 ? count : undefined;
  }

  async readStored(buffer: Uint8Array, position: number): Promise<number> {
    try {
      const count = await this.#direct.read(buffer, position);
      if (count !== undefined) return count;
    } catch (error) {
      throw diskError("read", this.#path, error);
    }
    return this.read(buffer, position);
  }

  async write(pieces: readonly Uint8Array[], position: number): Promise<void> {
    let left: readonly Uint8Array[] = pieces;
    let at = position;
    while (left.length > 0) {
      const batch = left.length > PIECES_MAX ? left.slice(0, PIECES_MAX) : left;
      const written = await this.#writeOnce(batch, at);
      at += written;
      left = behind(left, written);
    }
  }

  #writeOnce(pieces: readonly Uint8Array[], position: number): Promise<number> {
    const [only] = pieces;
    if (only !== undefined && pieces.length === 1)
      return this.#run("write", (callback) => write(this.#fd, only, 0, only.byteLength, position, callback));
    return this.#run("write", (callback) => writev(this.#fd, pieces as Uint8Array[], position, callback));
  }

  async sync(): Promise<void> {
    if (this.#syncFailure !== null) throw this.#syncFailure;
    try {
      await this.#run<void>("sync", (callback) => fdatasync(this.#fd, callback as Callback<void>));
    } catch (error) {
      this.#syncFailure = error as DazzleError;
      throw error;
    }
  }

  async size(): Promise<number> {
    const status = await this.#run<{ readonly size: number }>("stat", (callback) => fstat(this.#fd, callback));
    return status.size;
  }

  truncate(bytes: number): Promise<void> {
    return this.#run<void>("truncate", (callback) => ftruncate(this.#fd, bytes, callback as Callback<void>));
  }

  async punchHole(position: number, length: number): Promise<boolean> {
    try {
      return native()?.punchHole(this.#fd, position, length) ?? false;
    } catch (error) {
      throw diskError("punch a hole in", this.#path, error);
    }
  }

  async close(): Promise<void> {
    await this.#direct.close();
    return this.#run<void>("close", (callback) => close(this.#fd, callback as Callback<void>));
  }
}

/** What is left of the pieces behind their first `bytes`, without empty ones. */
export function behind(pieces: readonly Uint8Array[], bytes: number): readonly Uint8Array[] {
  let index = 0;
  let skip = bytes;
  while (index < pieces.length && skip >= (pieces[index] as Uint8Array).byteLength) {
    skip -= (pieces[index] as Uint8Array).byteLength;
    index++;
  }
  const rest = pieces.slice(index);
  const [first] = rest;
  return first === undefined || skip === 0 ? rest : [asBuffer(first).subarray(skip), ...rest.slice(1)];
}
