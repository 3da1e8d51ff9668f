import { type Clock, type DazzleError, isDazzleError, type Logger, SLOTS } from "@dazzle/core";
import type { Shard } from "./shard/shard.ts";
import type { ShardHost } from "./shard/shard-host.ts";
import type { TokenTable } from "./tokens/token-table.ts";

/** Index numbers that the stable log allows a slot at once: raised ahead of need, so that a lease seldom waits. */
const ALLOWED_AHEAD = 65_536;
const LEASE_MAX = 65_536;

/** Leases index numbers to mounts: what the stable log does not allow is never given out, so none is given twice (rule 23). */
export class Numbers {
  readonly #host: ShardHost;
  readonly #tokens: TokenTable;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #raising = new Map<Shard, Promise<void>>();

  constructor(options: { host: ShardHost; tokens: TokenTable; clock: Clock; logger: Logger }) {
    this.#host = options.host;
    this.#tokens = options.tokens;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** Allows slots that came here their first numbers, with one record each. */
  begin(shards: readonly Shard[]): Promise<void> {
    return this.#host.allowNumbers(shards, ALLOWED_AHEAD);
  }

  async lease(mount: number, slot: number, count: number): Promise<{ first: number; count: number }> {
    const shard = this.#host.shard(slot);
    const taken = Math.max(1, Math.min(count, LEASE_MAX));
    while (shard.nextNumber + taken * SLOTS > shard.numbersAllowed) await this.#raise(shard);
    // It may have left meanwhile.
    this.#host.shard(slot);
    const first = shard.nextNumber;
    shard.nextNumber += taken * SLOTS;
    this.#tokens.lease(mount, first, taken);
    if (shard.numbersAllowed - shard.nextNumber < (ALLOWED_AHEAD / 2) * SLOTS) this.#raiseSoon(shard);
    return { first, count: taken };
  }

  #raise(shard: Shard): Promise<void> {
    let raising = this.#raising.get(shard);
    if (raising === undefined) {
      raising = this.#host.allowNumbers([shard], ALLOWED_AHEAD).finally(() => this.#raising.delete(shard));
      this.#raising.set(shard, raising);
    }
    return raising;
  }

  #raiseSoon(shard: Shard): void {
    this.#clock.soon(() => {
      this.#raise(shard).catch((error: DazzleError) => {
        if (!isDazzleError(error)) throw error;
        if (error.code === "staleMap") return;
        this.#logger("warning", "more index numbers are allowed later", { slot: shard.slot, reason: error.message });
      });
    });
  }
}
