import { close, constants, open, read } from "node:fs";
import { asBuffer, roundUp } from "@dazzle/core";

/** What disks want addresses, offsets and lengths to be multiples of. */
const ALIGNMENT = 4_096;
const STAGING_PAGES = 16;
const STAGING_BYTES = STAGING_PAGES * 65_536;

/** The part of WebAssembly used here: no type library of this workspace declares it. */
interface WasmPlatform {
  readonly Memory: new (limits: { initial: number; maximum: number }) => { readonly buffer: ArrayBuffer };
}
const wasm = (globalThis as unknown as { readonly WebAssembly: WasmPlatform }).WebAssembly;

/** Memory that begins at a page: all that Node has of that kind. One reading at a time has it. */
class Staging {
  #memory: Uint8Array | undefined;
  #last: Promise<unknown> = Promise.resolve();

  use<T>(task: (memory: Uint8Array) => Promise<T>): Promise<T> {
    this.#memory ??= new Uint8Array(new wasm.Memory({ initial: STAGING_PAGES, maximum: STAGING_PAGES }).buffer);
    const memory = this.#memory;
    const done = this.#last.then(() => task(memory));
    this.#last = done.catch(() => {});
    return done;
  }
}

const staging = new Staging();

/** Reads an open file from the disk itself (O_DIRECT): it sees what has become of the bytes there, whatever memory has of them, and pushes nothing useful out of memory. */
export class DirectReader {
  readonly #path: string;
  #opening: Promise<number | undefined> | undefined;

  constructor(fd: number) {
    this.#path = `/proc/self/fd/${fd}`;
  }

  /** As `DiskFile.read`; undefined where the filesystem can't. Rejects as Node does. */
  async read(buffer: Uint8Array, position: number): Promise<number | undefined> {
    this.#opening ??= this.#open();
    const fd = await this.#opening;
    if (fd === undefined) return undefined;
    const target = asBuffer(buffer);
    let filled = 0;
    while (filled < target.length) {
      const count = await staging.use((memory) => readOnce(fd, memory, target.subarray(filled), position + filled));
      if (count === undefined || count === 0) return count === undefined ? undefined : filled;
      filled += count;
    }
    return filled;
  }

  #open(): Promise<number | undefined> {
    return new Promise((resolve) => {
      open(this.#path, constants.O_RDONLY | constants.O_DIRECT, (error, fd) => resolve(error === null ? fd : undefined));
    });
  }

  /** To be called before the file is closed. */
  async close(): Promise<void> {
    const fd = await this.#opening;
    if (fd !== undefined) await new Promise<void>((resolve) => close(fd, () => resolve()));
  }
}

/** Answers how many bytes of `target` were filled, none at the end of the file; undefined where such reads are refused. */
function readOnce(fd: number, memory: Uint8Array, target: Buffer, position: number): Promise<number | undefined> {
  const skipped = position % ALIGNMENT;
  const length = Math.min(STAGING_BYTES, roundUp(skipped + target.length, ALIGNMENT));
  return new Promise((resolve, reject) => {
    read(fd, memory, 0, length, position - skipped, (error, count) => {
      if (error?.code === "EINVAL") return resolve(undefined);
      if (error !== null) return reject(error);
      const taken = Math.max(0, Math.min(count - skipped, target.length));
      target.set(memory.subarray(skipped, skipped + taken));
      resolve(taken);
    });
  });
}
