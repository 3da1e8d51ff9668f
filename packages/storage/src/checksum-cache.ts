import type { FragmentKey } from "@dazzle/core";
import type { Entry } from "./entry.ts";

/** What is remembered of fragments read lately: several thousand of the largest, many more small ones. */
const CACHE_BYTES = 8 * 1024 * 1024;
/** What an entry takes beside its checksums, about. */
const OVERHEAD_BYTES = 400;

export interface CachedFragment {
  readonly entry: Entry;
  /** The block checksums of the verified header, 4 bytes each. */
  readonly checksums: Buffer;
}

/** Fragments by key, the least recently used forgotten first. */
export class ChecksumCache {
  readonly #cached = new Map<string, CachedFragment>();
  #bytes = 0;

  find(key: FragmentKey): CachedFragment | undefined {
    const name = cacheName(key);
    const found = this.#cached.get(name);
    if (found === undefined) return undefined;
    this.#cached.delete(name);
    this.#cached.set(name, found);
    return found;
  }

  add(entry: Entry, checksums: Buffer): void {
    this.forget(entry);
    this.#cached.set(cacheName(entry), { entry, checksums });
    this.#bytes += OVERHEAD_BYTES + checksums.byteLength;
    for (const oldest of this.#cached.values()) {
      if (this.#bytes <= CACHE_BYTES) break;
      this.forget(oldest.entry);
    }
  }

  clear(): void {
    this.#cached.clear();
    this.#bytes = 0;
  }

  forget(key: FragmentKey): void {
    const name = cacheName(key);
    const found = this.#cached.get(name);
    if (found === undefined) return;
    this.#cached.delete(name);
    this.#bytes -= OVERHEAD_BYTES + found.checksums.byteLength;
  }
}

function cacheName(key: FragmentKey): string {
  return `${key.log}/${key.sequence}/${key.group}/${key.groupVersion}/${key.index}`;
}
