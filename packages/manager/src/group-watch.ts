import {
  type Clock,
  type ClusterMap,
  currentVersion,
  findGroup,
  type GroupId,
  isDazzleError,
  type Limits,
  type Logger,
  type MapCache,
  type Peers,
  type Timer,
} from "@dazzle/core";
import { freezeReplaced } from "@dazzle/log";

const RETRY_MS = 2_000;

export interface GroupWatchOptions {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: Limits;
  readonly group: number;
  /** The group's current version has more parity than the one before: what was written before is less redundant than it could be. */
  readonly onMoreParity: () => void;
}

/** Looks after the group of a manager's log. A version that was replaced because servers came, and not because one died, is frozen while all of them are
 * there to say what they hold: later, the end of a log that may have written under it could depend on one alone (PROTOCOL rule 9). */
export class GroupWatch {
  readonly #options: GroupWatchOptions;
  #parity: number;
  #freezing = false;
  #timer: Timer | null = null;
  #closed = false;

  constructor(options: GroupWatchOptions) {
    this.#options = options;
    this.#parity = this.#group(options.map.current).parityFragments;
  }

  #group(map: ClusterMap) {
    return currentVersion(findGroup(map, this.#options.group));
  }

  look(map: ClusterMap): void {
    const { parityFragments } = this.#group(map);
    const grew = parityFragments > this.#parity;
    this.#parity = parityFragments;
    if (grew) this.#options.onMoreParity();
    void this.#freeze();
  }

  async #freeze(): Promise<void> {
    const { map, peers, clock, logger, limits, group } = this.#options;
    const isDue = () =>
      findGroup(map.current, group)
        .versions.slice(0, -1)
        .some(({ frozen }) => frozen === null);
    if (this.#freezing || this.#closed || !isDue()) return;
    this.#freezing = true;
    try {
      await freezeReplaced({ map, peers, ports: { clock, logger }, limits }, group as GroupId);
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      if (!this.#closed) logger("info", "a replaced group version is not frozen yet", { group, reason: error.message });
    } finally {
      this.#freezing = false;
    }
    if (this.#closed || !isDue()) return;
    this.#timer?.cancel();
    this.#timer = clock.after(RETRY_MS, () => void this.#freeze());
  }

  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
  }
}
