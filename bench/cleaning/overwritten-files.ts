import * as fs from "node:fs/promises";
import { join } from "node:path";
import type { SeededRandom } from "@dazzle/sim";

const FILE_BYTES = 1024 * 1024;
/** What one update overwrites, at a multiple of it. */
export const UPDATE_BYTES = 64 * 1024;
const UPDATES_A_FILE = FILE_BYTES / UPDATE_BYTES;
const BLOCK_BYTES = 4096;
const HOT_SHARE = 0.1;
const HOT_UPDATES = 0.9;

/** Files of 1 MiB that are overwritten in parts, a tenth of them by nine tenths of the updates. What each part holds tells which it is, and how often it was written. */
export class OverwrittenFiles {
  readonly #directory: string;
  readonly #random: SeededRandom;
  readonly #bytes: Buffer;
  /** How often each part was overwritten. */
  readonly #versions: number[] = [];

  constructor(directory: string, random: SeededRandom) {
    this.#directory = directory;
    this.#random = random;
    this.#bytes = Buffer.from(random.bytes(UPDATE_BYTES));
  }

  get count(): number {
    return this.#versions.length / UPDATES_A_FILE;
  }

  #path(file: number): string {
    return join(this.#directory, `file-${file}`);
  }

  /** The same buffer every time. */
  #content(part: number): Buffer {
    for (let at = 0; at < UPDATE_BYTES; at += BLOCK_BYTES) {
      this.#bytes.writeUInt32LE(part, at);
      this.#bytes.writeUInt32LE(this.#versions[part] ?? 0, at + 4);
    }
    return this.#bytes;
  }

  /** New files, until all of them hold so many bytes. */
  async grow(bytes: number): Promise<void> {
    while ((this.count + 1) * FILE_BYTES <= bytes) {
      const first = this.#versions.length;
      for (let part = first; part < first + UPDATES_A_FILE; part++) this.#versions.push(0);
      const handle = await fs.open(this.#path(first / UPDATES_A_FILE), "w");
      for (let part = first; part < first + UPDATES_A_FILE; part++) await handle.write(this.#content(part));
      await handle.close();
    }
  }

  /** Overwrites parts at random. Answers the longest that one took, and how many were refused. */
  async update(updates: number): Promise<{ readonly longestStallMs: number; readonly refused: number }> {
    const hot = Math.round(this.count * HOT_SHARE);
    let longestStallMs = 0;
    let refused = 0;
    for (let done = 0; done < updates; done++) {
      const file = this.#random.chance(HOT_UPDATES) ? this.#random.below(hot) : hot + this.#random.below(this.count - hot);
      const index = this.#random.below(UPDATES_A_FILE);
      const part = file * UPDATES_A_FILE + index;
      const version = this.#versions[part] ?? 0;
      this.#versions[part] = version + 1;
      const beganMs = performance.now();
      const handle = await fs.open(this.#path(file), "r+");
      try {
        await handle.write(this.#content(part), 0, UPDATE_BYTES, index * UPDATE_BYTES);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
        refused++;
        this.#versions[part] = version;
      } finally {
        await handle.close();
      }
      longestStallMs = Math.max(longestStallMs, performance.now() - beganMs);
    }
    return { longestStallMs, refused };
  }

  /** Throws where a file holds anything else. */
  async check(): Promise<void> {
    for (let file = 0; file < this.count; file++) {
      const bytes = await fs.readFile(this.#path(file));
      if (bytes.length !== FILE_BYTES) throw new Error(`${this.#path(file)} has ${bytes.length} bytes`);
      for (let index = 0; index < UPDATES_A_FILE; index++) {
        const at = index * UPDATE_BYTES;
        if (!bytes.subarray(at, at + UPDATE_BYTES).equals(this.#content(file * UPDATES_A_FILE + index)))
          throw new Error(`${this.#path(file)} has wrong bytes from ${at}`);
      }
    }
  }
}
