import { type Clock, indexNumber, isDazzleError, type Logger, sleep, slotOf, TransactionBuilder } from "@dazzle/core";
import type { ShardHost } from "../shard/shard-host.ts";
import type { Grants } from "./grants.ts";
import type { TokenTable } from "./token-table.ts";

/** A removal that failed is tried again after so long, and then ever later. */
const RETRY_FIRST_MS = 1_000;
const RETRY_MAX_MS = 30_000;

/** Removes unlinked files when the last mount has closed them. */
export class Orphans {
  readonly #host: ShardHost;
  readonly #grants: Grants;
  readonly #tokens: TokenTable;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #underWay = new Set<number>();
  readonly #closing = new AbortController();

  constructor(options: { host: ShardHost; grants: Grants; tokens: TokenTable; clock: Clock; logger: Logger }) {
    this.#host = options.host;
    this.#grants = options.grants;
    this.#tokens = options.tokens;
    this.#clock = options.clock;
    this.#logger = options.logger;
  }

  /** These may be open nowhere any more: whoever holds a token on one is asked for it, and whether it has it open. */
  reclaim(inos: Iterable<number>): void {
    for (const ino of inos) {
      if (this.#underWay.has(ino) || !this.#is(ino)) continue;
      this.#underWay.add(ino);
      this.#removeUntilDone(ino)
        .catch((error: unknown) => {
          if (!isDazzleError(error, "cancelled")) throw error;
        })
        .finally(() => this.#underWay.delete(ino));
    }
  }

  async #removeUntilDone(ino: number): Promise<void> {
    for (let delayMs = RETRY_FIRST_MS; this.#is(ino); delayMs = Math.min(RETRY_MAX_MS, 2 * delayMs)) {
      try {
        await this.#grants.whileNobodyHolds(ino, () => this.#remove(ino));
        return;
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        if (!this.#closing.signal.aborted) this.#logger("warning", "an unlinked file is removed later", { ino, reason: error.message });
        await sleep(this.#clock, delayMs, this.#closing.signal);
      }
    }
  }

  #is(ino: number): boolean {
    return this.#host.has(slotOf(ino)) && this.#host.shardOf(ino).orphans.has(ino) && !this.#tokens.openers.has(ino);
  }

  async #remove(ino: number): Promise<void> {
    if (!this.#is(ino)) return;
    const builder = new TransactionBuilder();
    builder.add({ kind: "removeInode", ino: indexNumber(ino) });
    await this.#host.applyOwn(builder);
  }

  close(): void {
    this.#closing.abort();
  }
}
