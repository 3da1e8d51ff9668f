import { isDazzleError, type Logger } from "@dazzle/core";
import { type Hole, holeBytes, holeKey } from "./dead-pages.ts";
import type { FragmentIndex } from "./fragment-index.ts";
import type { Space } from "./space.ts";
import type { Volumes } from "./volumes.ts";

/** Holes that failed and are tried again, at most: the rest waits for the next start. */
const LATE_HOLES_MAX = 1_024;

interface FreedSpaceParts {
  readonly index: FragmentIndex;
  readonly volumes: Volumes;
  readonly space: Space;
  readonly logger: Logger;
}

/** Gives the disk back what deleted fragments took. Several calls may run at once: each finds done what another has done. */
export class FreedSpace {
  readonly #parts: FreedSpaceParts;
  #forgotten: Uint8Array[] = [];
  #lateVolumes: number[] = [];
  #lateHoles: Hole[] = [];

  constructor(parts: FreedSpaceParts) {
    this.#parts = parts;
  }

  get hasForgotten(): boolean {
    return this.#forgotten.length > 0;
  }

  /** Index rows of what is given back: they go with the next commit. */
  takeForgotten(): Uint8Array[] {
    return this.#forgotten.splice(0);
  }

  /** Removes those of `volumes` in which nothing lives, and punches holes in the others. What fails takes space until the next call, or start. */
  async giveBack(volumes: Iterable<number>, holes: readonly Hole[]): Promise<void> {
    const { index, space, logger } = this.#parts;
    const removed = new Set<number>();
    let reason: string | null = null;
    for (const volume of new Set([...this.#lateVolumes.splice(0), ...volumes])) {
      if (volume >= index.position.volume || !index.isEmpty(volume)) continue;
      try {
        await this.#parts.volumes.remove(volume);
        removed.add(volume);
        this.#forgotten.push(...index.volumeKeys(volume));
      } catch (error) {
        this.#lateVolumes.push(volume);
        reason = (error as Error).message;
      }
    }
    for (const hole of [...this.#lateHoles.splice(0), ...holes]) {
      if (removed.has(hole.volume)) continue;
      try {
        await this.#punch(hole);
        this.#forgotten.push(holeKey(hole));
      } catch (error) {
        if (this.#lateHoles.length < LATE_HOLES_MAX) this.#lateHoles.push(hole);
        reason = (error as Error).message;
      }
    }
    if (reason !== null) logger("warning", "deleted fragments still take space", { reason });
    space.freed();
    space.keepFresh();
  }

  /** Done, too, where the whole volume was removed meanwhile. */
  async #punch(hole: Hole): Promise<void> {
    const { position, length } = holeBytes(hole);
    try {
      await this.#parts.volumes.with(hole.volume, (file) => file.punchHole(position, length));
    } catch (error) {
      if (!isDazzleError(error, "notFound")) throw error;
    }
  }

  /** What the last run left undone: volumes in which nothing lives, also where the index alone still has them, holes not punched, and `stale` rows.
   * They go with the next commit. */
  async tidy(volumes: readonly number[], stale: readonly Uint8Array[]): Promise<void> {
    const { index } = this.#parts;
    await this.giveBack([...volumes, ...index.volumes], index.holes());
    this.#forgotten.push(...stale);
  }
}
