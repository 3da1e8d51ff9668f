import { type Group, isDazzleError, type Limits, type MapCache, type MemberId, type Peers, type Ports, type Timer } from "@dazzle/core";
import { LogReader, restripeHeld, weakVersions } from "@dazzle/log";

const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;
/** While what is left are old sets that can be deleted once they are trimmed. */
const TRIMMED_MAX_MS = 300_000;

export interface RedundancyOptions {
  readonly map: MapCache;
  readonly peers: Peers;
  readonly ports: Pick<Ports, "clock" | "logger">;
  readonly limits: Limits;
  readonly self: MemberId;
}

/** What this server holds under a version with less parity than the current one, as of the time when the cluster's first machine was alone, it writes again under
 * that, once the version is frozen. */
export class Redundancy {
  readonly #options: RedundancyOptions;
  readonly #reader: LogReader;
  readonly #done = new Map<string, number>();
  /** Weak versions that were looked through, and those of which nothing is here any more. */
  readonly #looked = new Set<string>();
  readonly #finished = new Set<string>();
  #unsubscribe: (() => void) | null = null;
  #timer: Timer | null = null;
  #retryMs = RETRY_FIRST_MS;
  #running = false;
  #left = 0;
  #versions = "";

  constructor(options: RedundancyOptions) {
    this.#options = options;
    this.#reader = new LogReader(options);
  }

  /** Segments here that have less parity than they should; null while that is not known. */
  get left(): number | null {
    const weak = this.#options.map.current.groups.flatMap((group) => this.#weak(group));
    return weak.every((key) => this.#looked.has(key)) ? this.#left : null;
  }

  start(): void {
    this.#unsubscribe = this.#options.map.onChange(() => this.#look());
    this.#look();
  }

  stop(): void {
    this.#unsubscribe?.();
    this.#unsubscribe = null;
    this.#timer?.cancel();
    this.#timer = null;
  }

  #look(): void {
    const { map, ports } = this.#options;
    if (this.#unsubscribe === null || this.#running) return;
    const versions = map.current.groups.map(({ id, versions: rows }) => `${id} ${rows.map(({ frozen }) => frozen === null)}`).join();
    if (versions !== this.#versions) {
      this.#versions = versions;
      this.#retryMs = RETRY_FIRST_MS;
      this.#timer?.cancel();
      this.#timer = null;
    }
    if (this.#timer !== null || !map.current.groups.some((group) => this.#hasWork(group))) return;
    this.#timer = ports.clock.after(this.#retryMs, () => {
      this.#timer = null;
      void this.#turn();
    });
  }

  #weak(group: Group): readonly string[] {
    return weakVersions(group, this.#options.self).map(({ version }) => `${group.id} ${version}`);
  }

  #frozen(group: Group): readonly string[] {
    const frozen = weakVersions(group, this.#options.self).filter((row) => row.frozen !== null);
    return frozen.map(({ version }) => `${group.id} ${version}`);
  }

  #hasWork(group: Group): boolean {
    return this.#frozen(group).some((key) => !this.#finished.has(key));
  }

  async #turn(): Promise<void> {
    const { map, ports } = this.#options;
    this.#running = true;
    try {
      await this.#restripe(map.current.groups.flatMap((group) => this.#frozen(group)));
      this.#retryMs = Math.min(2 * this.#retryMs, this.#left === 0 ? TRIMMED_MAX_MS : RETRY_MAX_MS);
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      ports.logger("info", "what has too little parity is looked through later", { reason: error.message });
      this.#retryMs = Math.min(2 * this.#retryMs, RETRY_MAX_MS);
    } finally {
      this.#running = false;
      this.#look();
    }
  }

  async #restripe(weak: readonly string[]): Promise<void> {
    const { ports, self } = this.#options;
    const before = this.#done.size;
    const { left, held } = await restripeHeld({ ...this.#options, member: self, reader: this.#reader, done: this.#done });
    this.#left = left;
    for (const key of weak) this.#looked.add(key);
    if (held === 0) for (const key of weak) this.#finished.add(key);
    if (this.#done.size > before || left > 0) ports.logger("info", "segments are written again with the parity of their group", { left });
  }
}
