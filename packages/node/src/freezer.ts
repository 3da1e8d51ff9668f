import { type Group, isDazzleError, type Ports, type Timer } from "@dazzle/core";
import { freezeReplaced, type LogOptions } from "@dazzle/log";

const LOOK_MS = 2_000;
/** After a version was replaced: by then its writer has mostly seen to it. */
const SOON_MS = 100;

/** Sees to it that group versions that were replaced are frozen (rule 9): a log that began under one could not be ended
 * without its servers, and what lies there is not moved. A writer that leaves a server out does it at once; where one was admitted, or that writer died, nobody else does. */
export class Freezer {
  readonly #options: LogOptions & { readonly ports: Pick<Ports, "clock" | "random" | "logger"> };
  readonly #unsubscribe: () => void;
  #timer: Timer | null = null;
  #dueMs = Number.POSITIVE_INFINITY;
  #looking = false;
  /** When to look again after the look that is under way, which does not see what is replaced meanwhile. */
  #nextMs = LOOK_MS;
  #stopped = false;

  constructor(options: LogOptions & { readonly ports: Pick<Ports, "clock" | "random" | "logger"> }) {
    this.#options = options;
    this.#unsubscribe = options.map.onChange(({ groups }) => {
      if (groups.some(hasUnfrozen)) this.#lookIn(SOON_MS);
    });
    this.#lookIn(LOOK_MS);
  }

  stop(): void {
    this.#stopped = true;
    this.#unsubscribe();
    this.#timer?.cancel();
  }

  /** At a random moment: all machines look, and mostly one finds something. */
  #lookIn(atLeastMs: number): void {
    if (this.#looking) {
      this.#nextMs = Math.min(this.#nextMs, atLeastMs);
      return;
    }
    const { clock, random } = this.#options.ports;
    const dueMs = clock.nowMs() + atLeastMs + random.below(2 * atLeastMs);
    if (this.#stopped || this.#dueMs <= dueMs) return;
    this.#timer?.cancel();
    this.#dueMs = dueMs;
    this.#timer = clock.after(dueMs - clock.nowMs(), () => {
      this.#looking = true;
      this.#nextMs = LOOK_MS;
      this.#dueMs = Number.POSITIVE_INFINITY;
      void this.#look().finally(() => {
        this.#looking = false;
        this.#lookIn(this.#nextMs);
      });
    });
  }

  async #look(): Promise<void> {
    const { map, ports } = this.#options;
    for (const group of map.current.groups) {
      if (!hasUnfrozen(group)) continue;
      const { id } = group;
      try {
        await freezeReplaced(this.#options, id);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        ports.logger("info", "a replaced group version is not frozen yet", { group: id, reason: error.message });
      }
    }
  }
}

function hasUnfrozen({ versions }: Group): boolean {
  return versions.slice(0, -1).some(({ frozen }) => frozen === null);
}
