import { indexNumber, isDazzleError, type Logger, slotOf, TransactionBuilder } from "@dazzle/core";
import type { ShardHost } from "../shard/shard-host.ts";
import type { Grants } from "./grants.ts";
import type { TokenTable } from "./token-table.ts";

/** Removes unlinked files when the last mount has closed them. */
export class Orphans {
  readonly #host: ShardHost;
  readonly #grants: Grants;
  readonly #tokens: TokenTable;
  readonly #logger: Logger;
  readonly #underWay = new Set<number>();

  constructor(options: { host: ShardHost; grants: Grants; tokens: TokenTable; logger: Logger }) {
    this.#host = options.host;
    this.#grants = options.grants;
    this.#tokens = options.tokens;
    this.#logger = options.logger;
  }

  /** These may be open nowhere any more: whoever holds a token on one is asked for it, and whether it has it open. */
  reclaim(inos: Iterable<number>): void {
    for (const ino of inos) {
      if (this.#underWay.has(ino) || !this.#is(ino)) continue;
      this.#underWay.add(ino);
      this.#grants
        .whileNobodyHolds(ino, () => this.#remove(ino))
        .catch((error: unknown) => {
          if (!isDazzleError(error)) throw error;
          this.#logger("warning", "an unlinked file is removed later", { ino, reason: error.message });
        })
        .finally(() => this.#underWay.delete(ino));
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
}
