import { assert } from "../assert.ts";
import { DazzleError, isDazzleError } from "../errors.ts";
import type { ClusterMap } from "./cluster-map.ts";

/** Where the map is decided: a register of keepers, or a site's own etcd. */
export interface MapStore {
  read(): Promise<ClusterMap>;
  /** Writes `next`, whose version is `expected + 1`, where the map is still at `expected`. Where it rejects `versionConflict`, `unreachable` or
   * `timedOut`, it may have been written all the same, or still be: the next read settles that. */
  compareAndSwap(expected: number, next: ClusterMap): Promise<void>;
}

const CHANGE_ATTEMPTS_MAX = 100;

/** The map as this process knows it. It never goes back. */
export class MapCache {
  readonly #store: MapStore;
  #current: ClusterMap;
  #refreshing: Promise<ClusterMap> | null = null;
  readonly #listeners = new Set<(map: ClusterMap) => void>();

  constructor(store: MapStore, current: ClusterMap) {
    this.#store = store;
    this.#current = current;
  }

  get current(): ClusterMap {
    return this.#current;
  }

  get version(): number {
    return this.#current.version;
  }

  /** Called with every newer map, in order; a server makes it durable here before `refresh` or `change` resolve.
   * Returns the function that ends it. */
  onChange(listener: (map: ClusterMap) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Takes a map that was read elsewhere, if it is newer. */
  learn(map: ClusterMap): void {
    if (map.version <= this.#current.version) return;
    assert(map.clusterId === this.#current.clusterId, "a map of another cluster is never taken");
    this.#current = map;
    for (const listener of this.#listeners) listener(map);
  }

  /** Reads the map; callers at one time share one read. */
  refresh(): Promise<ClusterMap> {
    this.#refreshing ??= this.#store
      .read()
      .then((map) => {
        this.learn(map);
        return this.#current;
      })
      .finally(() => {
        this.#refreshing = null;
      });
    return this.#refreshing;
  }

  /** Refreshes where somebody was seen with a newer map. */
  async reach(version: number): Promise<void> {
    if (version > this.#current.version) await this.refresh();
    if (version > this.#current.version) await this.refresh();
  }

  /** Applies `change` to the newest map until a compare-and-swap holds. `change` answers undefined where nothing is to be done (any more). */
  async change(change: (map: ClusterMap) => ClusterMap | undefined): Promise<ClusterMap> {
    for (let attempt = 0; attempt < CHANGE_ATTEMPTS_MAX; attempt++) {
      const from = this.#current;
      const changed = change(from);
      if (changed === undefined) return from;
      const next = { ...changed, version: from.version + 1 };
      try {
        await this.#store.compareAndSwap(from.version, next);
        this.learn(next);
        return next;
      } catch (error) {
        if (!isDazzleError(error, "versionConflict", "timedOut", "unreachable")) throw error;
        await this.refresh();
      }
    }
    throw new DazzleError("versionConflict", `the cluster map changed under ${CHANGE_ATTEMPTS_MAX} attempts in a row`);
  }
}
