import type { MountClient } from "@dazzle/client";
import { assert } from "@dazzle/core";

/** Asserts that what one mount holds alone and may use now no other mount may use. */
export function checkTokens(clients: readonly MountClient[]): void {
  const holders = new Map<number, { readonly log: number; readonly exclusive: boolean }>();
  for (const client of clients) {
    for (const [ino, exclusive] of client.tokens()) {
      const other = holders.get(ino);
      assert(
        other === undefined || (!other.exclusive && !exclusive),
        `token ${ino} is exclusive: mounts ${other?.log} and ${client.log} both use it`,
      );
      holders.set(ino, { log: client.log, exclusive });
    }
  }
}
