import type { MountClient } from "@dazzle/client";
import { assert, overlaps, type RegionRange } from "@dazzle/core";

interface Holder {
  readonly log: number;
  readonly alone: boolean;
  readonly range: RegionRange;
}

/** Asserts that what one mount holds alone and may use now, be it a part of a file, no other mount may use. */
export function checkTokens(clients: readonly MountClient[]): void {
  const holders = new Map<number, Holder[]>();
  for (const { log, tokens } of clients.map((client) => ({ log: client.log, tokens: client.tokens() }))) {
    for (const [ino, alone, range] of tokens) {
      const others = holders.get(ino) ?? [];
      for (const other of others)
        assert(
          (!other.alone && !alone) || !overlaps(other.range, range),
          `token ${ino} is exclusive: mounts ${other.log} and ${log} both use it`,
        );
      holders.set(ino, [...others, { log, alone, range }]);
    }
  }
}
