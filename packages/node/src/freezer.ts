import { type GroupId, isDazzleError, type Ports, type Timer } from "@dazzle/core";
import { freezeReplaced, type LogOptions } from "@dazzle/log";

const LOOK_MS = 2_000;

/** Sees to it that group versions that were replaced are frozen (rule 9): a log that began under one could not be ended
 * without its servers. A writer that leaves a server out does it at once; where one was admitted, or that writer died, nobody else does. */
export class Freezer {
  readonly #options: LogOptions & { readonly ports: Pick<Ports, "clock" | "random" | "logger"> };
  #timer: Timer | null = null;
  #stopped = false;

  constructor(options: LogOptions & { readonly ports: Pick<Ports, "clock" | "random" | "logger"> }) {
    this.#options = options;
    this.#lookSometimes();
  }

  stop(): void {
    this.#stopped = true;
    this.#timer?.cancel();
  }

  /** At a random moment: all machines look, and mostly one finds something. */
  #lookSometimes(): void {
    const { clock, random } = this.#options.ports;
    this.#timer = clock.after(LOOK_MS + random.below(2 * LOOK_MS), () => {
      void this.#look().finally(() => {
        if (!this.#stopped) this.#lookSometimes();
      });
    });
  }

  async #look(): Promise<void> {
    const { map, ports } = this.#options;
    for (const { id, versions } of map.current.groups) {
      if (versions.slice(0, -1).every(({ frozen }) => frozen !== null)) continue;
      try {
        await freezeReplaced(this.#options, id as GroupId);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        ports.logger("info", "a replaced group version is not frozen yet", { group: id, reason: error.message });
      }
    }
  }
}
