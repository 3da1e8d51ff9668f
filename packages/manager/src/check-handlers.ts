import { DazzleError, type Handlers, type Request, slotOf } from "@dazzle/core";
import { behindKey, FIRST_KEY } from "./imap/keys.ts";
import type { Manager } from "./manager.ts";
import { type AmendedEntry, checkAmendment } from "./shard/amendment.ts";

/** Bytes of an imap in one answer. */
const PAGE_BYTES = 256 * 1024;

/** What a manager answers to who checks the filesystem, and repairs it. Who only looks does so under no token. */
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

    amend: async (request, { tail }) => {
      const { ino, slot } = request;
      const { seen, put } = amendmentOf(request, Buffer.concat(tail));
      const { grants, host } = await manager.whenOpen(slot);
      let done = false;
      const amend = async () => {
        done = await host.amend(slot, seen, put);
      };
      if (ino === 0) await amend();
      else await grants.whileNobodyHolds(ino, amend);
      return { reply: { done } };
    },
  };
}

/** Throws `badMessage`. */
function amendmentOf({ ino, slot, keys, seen, put }: Request<"amend">, values: Buffer): { seen: AmendedEntry[]; put: AmendedEntry[] } {
  const isLength = (length: number) => Number.isSafeInteger(length) && length >= -1;
  const isWhole = seen.length === keys.length && put.length === keys.length && [...seen, ...put].every(isLength);
  if (!isWhole || (ino !== 0 && slotOf(ino) !== slot)) throw new DazzleError("badMessage", "an amendment that does not say of what");
  let at = 0;
  const entries = (lengths: readonly number[]) =>
    keys.map((key, index): AmendedEntry => {
      const length = lengths[index] as number;
      const value = length === -1 ? null : values.subarray(at, at + length);
      if (value !== null && value.length < length) throw new DazzleError("badMessage", "an amendment whose values end too soon");
      at += Math.max(0, length);
      return { key: Buffer.from(key, "latin1"), value };
    });
  const amendment = { seen: entries(seen), put: entries(put) };
  checkAmendment(slot, amendment.put);
  return amendment;
}
