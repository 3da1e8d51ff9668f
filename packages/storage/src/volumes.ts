import { assert, type Disk, type DiskFile } from "@dazzle/core";
import { type Place, recordSpace } from "./record-header.ts";

export const VOLUMES_DIRECTORY = "volumes";
/** Open files at once: what is read most lies in few volumes, and descriptors are scarce where many nodes share a machine. */
const OPEN_VOLUMES_MAX = 64;

export function volumePath(volume: number): string {
  return `${VOLUMES_DIRECTORY}/${String(volume).padStart(8, "0")}`;
}

interface Handle {
  readonly volume: number;
  readonly opening: Promise<DiskFile>;
  file: DiskFile | null;
  users: number;
  /** Written since the last flush began. */
  dirty: boolean;
  /** Its name may not be on disk yet. */
  isNew: boolean;
  removed: boolean;
  /** Its sync failed, or another's did: never synced again. */
  abandoned: boolean;
}

/** The volumes: append-only files, numbered from 1, numbers never reused. */
export class Volumes {
  readonly #disk: Disk;
  readonly #volumeBytes: number;
  #head: Place;
  // INVARIANT: in the order of their last use.
  readonly #handles = new Map<number, Handle>();

  constructor(disk: Disk, volumeBytes: number, head: Place) {
    this.#disk = disk;
    this.#volumeBytes = volumeBytes;
    this.#head = head;
  }

  static async list(disk: Disk): Promise<number[]> {
    const names = await disk.list(VOLUMES_DIRECTORY);
    return names.filter((name) => /^[0-9]{8,}$/.test(name)).map(Number);
  }

  /** Where the next record goes. */
  get head(): Place {
    return this.#head;
  }

  /** About how much was written behind a place. */
  bytesSince({ volume, offset }: Place): number {
    return Math.max(0, (this.#head.volume - volume) * this.#volumeBytes + this.#head.offset - offset);
  }

  /** The place of a new record, in the next volume where it does not fit the current one. One longer than a volume gets its own. */
  reserve(recordBytes: number): Place {
    const { volume, offset } = this.#head;
    const fits = offset === 0 || offset + recordBytes <= this.#volumeBytes;
    const place = fits ? this.#head : { volume: volume + 1, offset: 0 };
    this.#head = { volume: place.volume, offset: place.offset + recordSpace(recordBytes) };
    return place;
  }

  /** Writes at a reserved place. The pieces are the disk's until it settles. */
  async write(place: Place, pieces: readonly Uint8Array[]): Promise<void> {
    const handle = this.#use(place.volume, true);
    try {
      const file = handle.file ?? (await handle.opening);
      await file.write(pieces, place.offset);
      handle.dirty = true;
    } finally {
      this.#release(handle);
    }
  }

  /** Makes durable what was written before the call. After it rejects, what it was to cover is unknown for ever. */
  async flush(): Promise<void> {
    const syncs: Promise<void>[] = [];
    let entries = false;
    for (const handle of this.#handles.values()) {
      if (!handle.dirty || handle.abandoned) continue;
      handle.dirty = false;
      entries ||= handle.isNew;
      handle.isNew = false;
      syncs.push(this.#sync(handle));
    }
    if (entries) syncs.push(this.#disk.syncDirectory(VOLUMES_DIRECTORY));
    const outcomes = await Promise.allSettled(syncs);
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
  }

  /** Goes on in a new volume, and never syncs what was written before. */
  abandon(): void {
    this.#head = { volume: this.#head.volume + 1, offset: 0 };
    for (const handle of this.#handles.values()) handle.abandoned = true;
  }

  /** Fills `buffer` from a volume, at once where the bytes are in memory. Answers how many there were. */
  read(volume: number, buffer: Uint8Array, position: number): number | Promise<number> {
    const file = this.#handles.get(volume)?.file;
    if (file !== undefined && file !== null) {
      const count = file.readNow(buffer, position);
      if (count !== undefined) return count;
    }
    return this.with(volume, (opened) => opened.readNow(buffer, position) ?? opened.read(buffer, position));
  }

  /** Runs `action` on an existing volume. Rejects `notFound` where there is none. */
  async with<T>(volume: number, action: (file: DiskFile) => T | Promise<T>): Promise<T> {
    const handle = this.#use(volume, false);
    try {
      return await action(handle.file ?? (await handle.opening));
    } finally {
      this.#release(handle);
    }
  }

  async remove(volume: number): Promise<void> {
    assert(volume < this.#head.volume, "the volume that is written is never removed");
    const handle = this.#handles.get(volume);
    if (handle !== undefined) {
      this.#handles.delete(volume);
      handle.removed = true;
      this.#closeUnused(handle);
    }
    await this.#disk.remove(volumePath(volume));
  }

  async close(): Promise<void> {
    const handles = [...this.#handles.values()];
    this.#handles.clear();
    await Promise.all(handles.map(async ({ opening }) => (await opening).close()));
  }

  #use(volume: number, create: boolean): Handle {
    let handle = this.#handles.get(volume);
    if (handle === undefined) {
      const opening = this.#disk.open(volumePath(volume), { create });
      handle = { volume, opening, file: null, users: 0, dirty: false, isNew: create, removed: false, abandoned: false };
      this.#opened(handle);
    } else this.#handles.delete(volume);
    this.#handles.set(volume, handle);
    handle.users++;
    if (this.#handles.size > OPEN_VOLUMES_MAX) this.#evict();
    return handle;
  }

  #opened(handle: Handle): void {
    handle.opening.then(
      (file) => {
        handle.file = file;
      },
      () => {
        // Whoever uses it awaits `opening` and hears why; the next use opens it again.
        if (this.#handles.get(handle.volume) === handle) this.#handles.delete(handle.volume);
      },
    );
  }

  async #sync(handle: Handle): Promise<void> {
    handle.users++;
    try {
      await (handle.file ?? (await handle.opening)).sync();
    } finally {
      this.#release(handle);
    }
  }

  #release(handle: Handle): void {
    handle.users--;
    if (handle.removed) this.#closeUnused(handle);
  }

  #evict(): void {
    for (const handle of this.#handles.values()) {
      if (handle.users > 0 || (handle.dirty && !handle.abandoned) || handle.volume === this.#head.volume) continue;
      this.#handles.delete(handle.volume);
      handle.removed = true;
      this.#closeUnused(handle);
      return;
    }
  }

  #closeUnused(handle: Handle): void {
    if (handle.users > 0) return;
    // A descriptor that does not close loses nothing that was synced.
    handle.opening.then((file) => file.close()).catch(() => {});
  }
}
