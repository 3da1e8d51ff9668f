import {
  type Group,
  type GroupServer,
  type GroupVersionRow,
  isDazzleError,
  type ListedFragment,
  type LogRow,
  type MemberId,
  placeOf,
  type StoreId,
} from "@dazzle/core";
import { adoptAt, listRange, memberName, type ServerListing } from "./listing.ts";
import { type HeldSet, LogEvidence } from "./log-end.ts";
import { turnOf } from "./move-turn.ts";
import type { LogOptions } from "./options.ts";
import { isGone, outdatedVersions } from "./outdated.ts";

/** Sequences of a log that are looked at together. */
const PAGE_SEQUENCES = 1_000;
/** Tasks that one look finds, of either kind: a later look finds the rest. */
const TASKS_MAX = 10_000;

/** What managers say of some of a log's segments. */
export interface Needed {
  /** Null where not all could be asked. */
  readonly live: ReadonlySet<number> | null;
  readonly trimmedTo: number;
}

export interface MoveOptions extends LogOptions {
  /** The storage server whose fragments are looked through. */
  readonly self: MemberId;
  readonly needed: (log: LogRow, sequences: readonly number[]) => Promise<Needed>;
}

/** A segment that this server moves. */
export interface MoveTask {
  readonly log: number;
  readonly sequence: number;
  readonly payloadBytes: number;
  /** Empty where it is whole under a version that stays. */
  readonly readable: readonly HeldSet[];
  /** The loss of one more server loses it. */
  readonly isExposed: boolean;
  /** Versions older than where it is whole, or comes to be, under which fragments of it lie. */
  readonly superseded: readonly number[];
  readonly stableSequence: number;
  readonly trimmedTo: number;
}

export interface MoveScan {
  /** Exposed ones first; not all where there are more. */
  readonly tasks: readonly MoveTask[];
  /** All that this server has to move. */
  readonly segments: number;
  readonly bytes: number;
  /** By obsolete version: segments of which this server holds something under it that somebody may need. Exact as of a time when it took nothing under that version any more: 0 stays 0. */
  readonly held: ReadonlyMap<number, number>;
  /** Whether this server vouches for what it lists of the group's logs: else it may have had more. */
  readonly vouched: boolean;
  /** Segments that somebody may need, of which too little is left anywhere. */
  readonly lost: number;
  /** Segments whose deletion is under way. */
  readonly dead: number;
  /** What is waited for. */
  readonly waits: readonly string[];
}

/** Looks through what `self` holds under the obsolete versions of a group: what of the outdated ones it is to move, each segment being the task of one of
 * those that hold a fragment of it. `copyDead`: also what nobody needs any more. Rejects where its own server can't be listed. */
export async function scanGroup(options: MoveOptions, group: Group, copyDead: boolean): Promise<MoveScan> {
  const scan = new Scan(options, group, copyDead);
  await scan.begin();
  // Without what managers' logs hold nothing of the others is found.
  const logs = options.map.current.logs.filter(({ groups }) => groups.includes(group.id));
  for (const isManager of [true, false]) for (const log of logs) if ((log.kind === "manager") === isManager) await scan.log(log);
  return scan.result;
}

interface Page {
  readonly log: LogRow;
  /** By sequence, the versions under which its server holds something. */
  readonly own: ReadonlyMap<number, ReadonlySet<number>>;
  readonly evidence: LogEvidence;
  readonly fragments: ReadonlyMap<number, readonly ListedFragment[]>;
  readonly needed: Needed;
  readonly trimmedTo: number;
  /** So many answer that of each set that was ever whole they have enough to read it, if it was not deleted. */
  readonly enoughAnswer: boolean;
}

class Scan {
  readonly #options: MoveOptions;
  readonly #group: Group;
  readonly #copyDead: boolean;
  readonly #outdated: ReadonlyMap<number, GroupVersionRow>;
  readonly #obsolete: ReadonlySet<number>;
  readonly #servers: readonly GroupServer[];
  readonly #gone: ReadonlySet<StoreId>;
  readonly #silent = new Set<StoreId>();
  readonly #waits = new Set<string>();
  readonly #held = new Map<number, number>();
  #vouched = true;
  readonly #exposed: MoveTask[] = [];
  readonly #others: MoveTask[] = [];
  #segments = 0;
  #bytes = 0;
  #lost = 0;
  #dead = 0;

  constructor(options: MoveOptions, group: Group, copyDead: boolean) {
    const map = options.map.current;
    this.#options = options;
    this.#group = group;
    this.#copyDead = copyDead;
    this.#outdated = new Map(outdatedVersions(map, group).map((row) => [row.version, row]));
    this.#obsolete = new Set(group.versions.slice(0, -1).map(({ version }) => version));
    for (const version of this.#obsolete) this.#held.set(version, 0);
    const all = new Map(group.versions.flatMap(({ servers }) => servers.map((server) => [server.store, server])));
    this.#gone = new Set([...all.values()].filter((server) => isGone(map, server)).map(({ store }) => store));
    this.#servers = [...all.values()].filter(({ store }) => !this.#gone.has(store));
  }

  get result(): MoveScan {
    const tasks = [...this.#exposed, ...this.#others];
    const waits = [...this.#waits, ...(this.#dead > 0 ? [`${this.#dead} segments that nobody needs are deleted`] : [])];
    const told = { held: this.#held, vouched: this.#vouched, lost: this.#lost, dead: this.#dead };
    return { tasks, segments: this.#segments, bytes: this.#bytes, ...told, waits };
  }

  /** From then on nobody who answers takes anything under an obsolete version. */
  async begin(): Promise<void> {
    const { self } = this.#options;
    await Promise.all(
      this.#servers.map(async (server) => {
        try {
          await adoptAt(this.#options, server);
        } catch (error) {
          if (!isDazzleError(error) || server.member === self) throw error;
          this.#silent.add(server.store);
        }
      }),
    );
  }

  async log(log: LogRow): Promise<void> {
    const { self } = this.#options;
    for (let after = 0; ; ) {
      const { listing: own, last, more } = await listRange(this.#options, self, log.id, after, Number.MAX_SAFE_INTEGER, PAGE_SEQUENCES);
      const sequences = new Set<number>();
      this.#vouched &&= own.vouched;
      for (const fragment of own.fragments)
        if (this.#isObsolete(fragment) && (log.end === null || fragment.sequence <= log.end)) sequences.add(fragment.sequence);
      if (sequences.size > 0) await this.#page(log, own, [...sequences], after, last);
      if (!more) return;
      after = last;
    }
  }

  #isObsolete({ group, groupVersion }: ListedFragment): boolean {
    return group === this.#group.id && this.#obsolete.has(groupVersion);
  }

  async #page(log: LogRow, listing: ServerListing, sequences: readonly number[], after: number, through: number): Promise<void> {
    const listings = await this.#listings(log, listing, after, through);
    const needed = await this.#options.needed(log, sequences);
    const versions = this.#group.versions.map((row) => ({ group: this.#group.id, row, lastSequence: Number.MAX_SAFE_INTEGER }));
    const evidence = new LogEvidence(versions, listings, this.#gone, needed.trimmedTo);
    const fragments = new Map<number, ListedFragment[]>();
    for (const { fragments: told } of listings.values())
      for (const fragment of told) {
        if (fragment.group !== this.#group.id) continue;
        const known = fragments.get(fragment.sequence);
        if (known === undefined) fragments.set(fragment.sequence, [fragment]);
        else known.push(fragment);
      }
    const own = new Map(sequences.map((sequence) => [sequence, new Set<number>()]));
    for (const fragment of listing.fragments) if (this.#isObsolete(fragment)) own.get(fragment.sequence)?.add(fragment.groupVersion);
    const trimmedTo = log.state === "closed" ? (log.end ?? 0) : evidence.trimmedTo;
    const page: Page = { log, own, evidence, fragments, needed, trimmedTo, enoughAnswer: this.#enoughAnswer(listings) };
    for (const sequence of sequences) this.#segment(page, sequence);
  }

  /** By store, of those that answer. */
  async #listings(log: LogRow, own: ServerListing, after: number, through: number): Promise<Map<StoreId, ServerListing>> {
    const listings = new Map<StoreId, ServerListing>();
    const asked = this.#servers.filter(({ store }) => !this.#silent.has(store));
    await Promise.all(
      asked.map(async ({ member, store }) => {
        try {
          const listing = member === this.#options.self ? own : (await listRange(this.#options, member, log.id, after, through)).listing;
          listings.set(store, listing);
        } catch (error) {
          if (!isDazzleError(error)) throw error;
          this.#silent.add(store);
        }
      }),
    );
    return listings;
  }

  /** Who is wanted is waited for all the same. */
  #enoughAnswer(listings: ReadonlyMap<StoreId, ServerListing>): boolean {
    const { wanted } = this.#group;
    return this.#group.versions
      .filter(({ servers }) => servers.some(({ store }) => this.#silent.has(store)))
      .every(({ servers, parityFragments }) => {
        const missing = servers.filter(({ store }) => listings.get(store)?.vouched !== true);
        return missing.length <= parityFragments && missing.every(({ member, store }) => this.#gone.has(store) || !wanted.includes(member));
      });
  }

  #segment(page: Page, sequence: number): void {
    const { log, own, evidence, fragments, needed, trimmedTo, enoughAnswer } = page;
    const there = fragments.get(sequence) ?? [];
    const { readable, awaited } = evidence.verdict(sequence);
    const isUnneeded = needed.live !== null && !needed.live.has(sequence) && sequence <= trimmedTo;
    if (readable.length === 0 && awaited.length === 0) {
      // With several groups this may be a set that was given up, of a segment that lies in another.
      if (log.groups.length === 1 && !isUnneeded) this.#lost++;
      return;
    }
    // It was never whole here, or was deleted: these are remains.
    if (readable.length === 0 && enoughAnswer) return;
    for (const version of own.get(sequence) ?? []) this.#held.set(version, (this.#held.get(version) ?? 0) + 1);
    const superseded = versionsOf(there).filter((version) => this.#outdated.has(version));
    if (superseded.length === 0 || !this.#isOwn(sequence, there, Math.max(...superseded))) return;
    // An older set may have been given up for one that is outdated now, and be deleted at any time: only newer ones count.
    const staying = readable.filter(({ version }) => version.row.version > Math.max(...superseded));
    const isWhole = staying.some(({ complete }) => complete);
    const wait = this.#waitFor(page, sequence, superseded, readable, staying, isWhole);
    if (wait !== undefined) {
      this.#waits.add(wait);
      return;
    }
    if (!isWhole && isUnneeded && !this.#copyDead) {
      this.#dead++;
      return;
    }
    const payloadBytes = there[0]?.payloadBytes ?? 0;
    const isExposed = !isWhole && readable.every(({ indices, dataFragments }) => indices.size === dataFragments);
    const tasks = isExposed ? this.#exposed : this.#others;
    this.#segments++;
    this.#bytes += isWhole ? 0 : payloadBytes;
    if (tasks.length >= TASKS_MAX) return;
    tasks.push({
      ...{ log: log.id, sequence, payloadBytes, isExposed, trimmedTo },
      superseded: isWhole ? superseded : versionsOf(there).filter((version) => this.#obsolete.has(version)),
      readable: isWhole ? [] : readable,
      stableSequence: Math.max(evidence.stableSequence, trimmedTo),
    });
  }

  /** Whether it is this server's turn, of those that have a fragment under the newest of the versions: so all of them move as much, whoever is missing. */
  #isOwn(sequence: number, there: readonly ListedFragment[], version: number): boolean {
    const { servers, parityFragments } = this.#outdated.get(version) as GroupVersionRow;
    const held = there.filter((one) => one.groupVersion === version);
    const { dataFragments } = held[0] as ListedFragment;
    // Where a fragment lies goes round with the sequence.
    const turn = Math.floor(sequence / servers.length);
    const indices = held.map(({ index }) => index);
    const index = turnOf(turn, dataFragments + parityFragments, indices);
    return servers[placeOf(sequence, index, servers.length)]?.member === this.#options.self;
  }

  #waitFor(
    { log, evidence, trimmedTo }: Page,
    sequence: number,
    superseded: readonly number[],
    readable: readonly HeldSet[],
    staying: readonly HeldSet[],
    isWhole: boolean,
  ): string | undefined {
    const rows = superseded.map((version) => this.#outdated.get(version) as GroupVersionRow);
    const unfrozen = rows.find(({ frozen }) => frozen === null);
    if (unfrozen !== undefined) return `version ${unfrozen.version} is not frozen yet`;
    if (isWhole)
      return sequence <= trimmedTo
        ? undefined
        : `log ${log.id} is trimmed to ${trimmedTo}, not yet to what lies under version ${rows[0]?.version}`;
    // What of a log that has not ended was held under a frozen version stays the log's, and its payload is decided.
    const isDecided =
      log.end !== null || sequence <= trimmedTo || (log.state === "live" && rows.some(({ frozen }) => sequence <= (frozen?.[log.id] ?? 0)));
    if (!isDecided) return `log ${log.id} is ${log.state} and trimmed to ${trimmedTo}, not yet to ${sequence}`;
    if (readable.length === 0) return `${this.#names(evidence.verdict(sequence).awaited)} may have what of segments is missing`;
    // It may be whole there, with what a server holds that is away and comes back.
    const silent = staying.length === 0 ? [] : this.#servers.filter(({ store }) => this.#silent.has(store));
    const isPending = staying.some(({ version }) =>
      version.row.servers.some((server) => silent.some(({ store }) => store === server.store)),
    );
    return isPending ? `${this.#names(silent)} does not answer` : undefined;
  }

  #names(servers: readonly GroupServer[]): string {
    return servers.map(({ member }) => memberName(this.#options, member)).join(", ");
  }
}

function versionsOf(fragments: readonly ListedFragment[]): number[] {
  return [...new Set(fragments.map(({ groupVersion }) => groupVersion))];
}
