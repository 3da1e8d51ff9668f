import { currentVersion, type Group, isDazzleError, leadersOf, sharedAbort } from "@dazzle/core";
import type { CleanerOptions } from "./options.ts";

/** Space that is short is told to the leader this often, and that it is not any more when nobody has found it short for so long. */
const SHORT_MS = 1_000;
const NOT_SHORT_MS = 2_000;
/** As clean as it is worth, where space is short. */
const SHORT_UNTIL = 0.95;
const ANSWER_DEADLINE_MS = 2_000;

/** Space for data is short at this machine's storage server: the leaders of its groups, here or elsewhere, clean at once, until it is not any more. */
export class Shortage {
  readonly #options: Omit<CleanerOptions, "limits">;
  readonly #ending = sharedAbort();
  /** When space was found to be short, and when that was told. */
  #foundMs = Number.NEGATIVE_INFINITY;
  #toldMs = Number.NEGATIVE_INFINITY;

  constructor(options: Omit<CleanerOptions, "limits">) {
    this.#options = options;
  }

  found(): void {
    const { clock } = this.#options.ports;
    const nowMs = clock.nowMs();
    this.#foundMs = nowMs;
    if (this.#ending.signal.aborted || nowMs - this.#toldMs < SHORT_MS) return;
    this.#toldMs = nowMs;
    this.#askLeaders({ stop: false });
    clock.after(SHORT_MS + NOT_SHORT_MS, () => {
      if (!this.#ending.signal.aborted && clock.nowMs() - this.#foundMs >= NOT_SHORT_MS) this.#askLeaders({ stop: true });
    });
  }

  stop(): void {
    this.#ending.abort();
  }

  #askLeaders({ stop }: { readonly stop: boolean }): void {
    const { map, self } = this.#options;
    for (const group of map.current.groups)
      if (currentVersion(group).servers.some(({ member }) => member === self)) void this.#askLeader(group, stop);
  }

  async #askLeader({ id: group }: Group, stop: boolean): Promise<void> {
    const { map, peers, self } = this.#options;
    const request = { id: `space of member ${self}`, group, until: SHORT_UNTIL, stop };
    for (const member of leadersOf(map.current, group)) {
      try {
        await peers.call(member, "clean", request, { deadlineMs: ANSWER_DEADLINE_MS, signal: this.#ending.signal });
        return;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
      }
    }
  }
}
