import { DazzleError, type Handlers } from "@dazzle/core";
import { behindKey, FIRST_KEY } from "./imap/keys.ts";
import type { Manager } from "./manager.ts";

/** Bytes of an imap in one answer. */
const PAGE_BYTES = 256 * 1024;

/** What a manager answers to who checks the filesystem: it only looks, under no token. */
export function checkHandlers(manager: Manager): Handlers {
  return {
    imapPage: async ({ slot, after, to, limit }) => {
      if (!Number.isSafeInteger(limit) || limit < 1) throw new DazzleError("badMessage", `a page of ${limit} entries`);
      const { host } = await manager.whenOpen(slot);
      const from = after === "" ? FIRST_KEY : behindKey(Buffer.from(after, "latin1"));
      const end = to === "" ? undefined : Buffer.from(to, "latin1");
      const { block, more } = await host.shard(slot).imap.page(from, end, limit, PAGE_BYTES);
      // It may have left meanwhile, and goes on elsewhere.
      host.shard(slot);
      return { reply: { more }, tail: [block] };
    },

    logProgress: async () => {
      const { host } = await manager.whenLoaded();
      const { log, trimmedTo } = manager.journal;
      const known = [...host.progressOfLogs].filter((progress) => progress.log !== log);
      const reply = {
        logs: [...known.map((progress) => progress.log), log],
        applied: [...known.map((progress) => progress.applied), 0],
        trimmedTo: [...known.map((progress) => progress.trimmedTo), trimmedTo],
      };
      await manager.journal.settle();
      return { reply };
    },

    runSegments: async () => {
      const { segments } = await manager.whenLoaded();
      const all = [...segments.all()];
      return { reply: { logs: all.map(([log]) => log), sequences: all.map(([, sequence]) => sequence) } };
    },
  };
}
