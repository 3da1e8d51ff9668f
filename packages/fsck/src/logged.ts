import { type ClusterMap, checksum, DazzleError, findLog, isDazzleError, type Limits, type Logger, type MemberId } from "@dazzle/core";
import { type LogListing, LogReader, listLog, type RecoveredLog } from "@dazzle/log";
import { EntryKind, FIRST_KEY, type Imap, KEYS_END, keyId, keyName, keyNumber, loggedImaps, type ReadableLogs } from "@dazzle/manager";
import type { ImapEntry, Imaps } from "./imaps.ts";
import { askManagers, type Reach } from "./managers.ts";
import type { Subject, Suspicion } from "./problems.ts";

/** What is read may be written anew, and deleted, meanwhile. */
const ATTEMPTS_MAX = 4;

/** The imaps once more, from the fragments alone, held against what the managers say. */
export class LoggedCheck {
  readonly #reach: Reach;
  readonly #imaps: Imaps;
  readonly #logs: ReadableLogs;
  readonly #runCacheBytes: number;
  #trimmed = new Map<number, number>();
  /** Why slots can't be read from the logs, by member. */
  readonly unreadable = new Map<MemberId, string>();

  constructor(reach: Reach, imaps: Imaps, limits: Limits, logger: Logger) {
    this.#reach = reach;
    this.#imaps = imaps;
    this.#runCacheBytes = limits.runCacheBytes;
    const shared = { ...reach, ports: { clock: reach.clock, logger }, limits };
    const reader = new LogReader(shared);
    const list = async (log: number, after: number) => {
      const listing = await listLog(shared, log, after);
      return { ...listing, trimmedTo: Math.max(listing.trimmedTo, this.#trimmed.get(log) ?? 0) };
    };
    this.#logs = {
      list,
      recover: async (log) => this.#stable(log, await list(log, 0)),
      summary: (log, sequence, group, groupVersion) => reader.summary(log, sequence, group, groupVersion),
      read: (address) => reader.read(address),
    };
  }

  /** Up to where a log is decided, or, of one that goes on, can be read by now. */
  #stable(log: number, { sequences, trimmedTo }: LogListing): RecoveredLog {
    const row = findLog(this.#reach.map.current, log);
    const places = new Map(sequences.map((segment) => [segment.sequence, segment]));
    if (row !== undefined && row.end !== null) return { end: row.end, trimmedTo, places };
    if (row?.state !== "live") throw new DazzleError("notReady", `log ${log} is being brought to its end`);
    let end = trimmedTo;
    for (const { sequence, fragments, dataFragments } of sequences) if (sequence === end + 1 && fragments >= dataFragments) end = sequence;
    return { end, trimmedTo, places };
  }

  /** `again`: only these entries. */
  async look(again: readonly Suspicion[] | null, begin: (total: number) => () => void): Promise<Suspicion[]> {
    const only = again === null ? null : new Set(again.map(({ subject }) => subject.key as string));
    const concerned = again === null ? null : new Set(again.map(({ subject }) => subject.slot as number));
    await this.#reach.map.refresh();
    const bySlots = slotsByManager(this.#reach.map.current, concerned);
    const done = begin(bySlots.size);
    const found: Suspicion[] = [];
    for (const [member, slots] of bySlots) {
      try {
        for (const [slot, imap] of await this.#read(slots))
          for await (const suspicion of differences(slot, this.#imaps, imap)) {
            if (only === null || only.has(suspicion.subject.key as string)) found.push(suspicion);
          }
        this.unreadable.delete(member);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        this.unreadable.set(member, error.message);
      }
      done();
    }
    return found;
  }

  async #read(slots: readonly number[]): Promise<Map<number, Imap>> {
    for (let attempt = 1; ; attempt++) {
      for (const { logs, trimmedTo } of await askManagers(this.#reach, "logProgress"))
        for (const [index, log] of logs.entries()) this.#trimmed.set(log, Math.max(this.#trimmed.get(log) ?? 0, trimmedTo[index] ?? 0));
      try {
        return await loggedImaps({ ...this.#reach, logs: this.#logs, runCacheBytes: this.#runCacheBytes }, slots);
      } catch (error) {
        if (!isDazzleError(error) || attempt === ATTEMPTS_MAX) throw error;
        await this.#reach.map.refresh();
      }
    }
  }
}

function slotsByManager(map: ClusterMap, concerned: ReadonlySet<number> | null): Map<MemberId, number[]> {
  const bySlots = new Map<MemberId, number[]>();
  for (const [slot, { manager }] of map.slots.entries()) {
    if (manager === null || (concerned !== null && !concerned.has(slot))) continue;
    const slots = bySlots.get(manager);
    if (slots === undefined) bySlots.set(manager, [slot]);
    else slots.push(slot);
  }
  return bySlots;
}

/** Entries of a slot that one of both does not have, or has otherwise. */
async function* differences(slot: number, imaps: Imaps, logged: Imap): AsyncGenerator<Suspicion> {
  const served = imaps.entries(slot, FIRST_KEY, KEYS_END)[Symbol.asyncIterator]();
  const written = logged.everything(FIRST_KEY, undefined)[Symbol.asyncIterator]();
  let [one, other] = [await served.next(), await written.next()];
  while (!one.done || !other.done) {
    const order = one.done ? 1 : other.done ? -1 : one.value[0].compare(other.value[0]);
    const [is, was] = [order <= 0 ? one.value : undefined, order >= 0 ? other.value : undefined] as [ImapEntry?, ImapEntry?];
    if (is === undefined || was === undefined || !is[1].equals(was[1])) yield differs(slot, is, was);
    if (order <= 0) one = await served.next();
    if (order >= 0) other = await written.next();
  }
}

function differs(slot: number, is: ImapEntry | undefined, was: ImapEntry | undefined): Suspicion {
  const key = (is ?? (was as ImapEntry))[0];
  const how =
    is === undefined ? "the manager does not have it" : was === undefined ? "the logs do not have it" : "the manager has another one";
  const evidence = [is, was].map((entry) => (entry === undefined ? "-" : `${entry[1].length}.${checksum(entry[1])}`)).join(" ");
  const { what, ...of } = subjectOf(key);
  return { problem: "notAsLogged", subject: { ...of, slot, key: key.toString("hex") }, seen: `${what}: ${how}`, evidence };
}

function subjectOf(key: Buffer): Subject & { readonly what: string } {
  const id = keyId(key);
  switch (key[0]) {
    case EntryKind.inode:
      return { ino: id, what: "the index node" };
    case EntryKind.entry:
      return { ino: id, what: `the name ${JSON.stringify(keyName(key))} in it` };
    case EntryKind.extents:
      return { ino: id, what: `the extents of region ${keyNumber(key)}` };
    case EntryKind.attribute:
      return { ino: id, what: `the attribute ${JSON.stringify(keyName(key))}` };
    case EntryKind.live:
      return { log: id, sequence: keyNumber(key), what: "the live bytes" };
    default:
      return { ino: id, what: "that it was removed" };
  }
}
