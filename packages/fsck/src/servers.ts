import {
  type CallResult,
  type Clock,
  isDazzleError,
  type ListedFragment,
  type MapCache,
  type MemberId,
  type Peers,
  sleep,
} from "@dazzle/core";

const PAGE_SEQUENCES = 1_000;
const DEADLINE_MS = 10_000;
const RETRY_MS = 500;
/** How long a server need not answer until it is gone on without it. */
const PATIENCE_MS = 10_000;

export interface HeldFragment extends ListedFragment {
  readonly member: MemberId;
}

/** What a log's headers tell, as far as servers were asked. */
export interface Told {
  stableSequence: number;
  trimmedTo: number;
}

/** A server that does not answer, or serves another store than its group lists: what it holds is not known. */
export class SilentServer extends Error {
  readonly member: MemberId;

  constructor(member: MemberId, reason: string) {
    super(reason);
    this.member = member;
  }
}

/** The storage servers of all groups. */
export class Servers {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #clock: Clock;
  /** Why those don't answer that don't. */
  readonly silent = new Map<MemberId, string>();

  constructor(options: { map: MapCache; peers: Peers; clock: Clock }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#clock = options.clock;
  }

  get members(): readonly MemberId[] {
    const { groups } = this.#map.current;
    const all = groups.flatMap(({ versions }) => versions.flatMap(({ servers }) => servers.map(({ member }) => member)));
    return [...new Set(all)].filter((member) => !this.silent.has(member));
  }

  nameOf(member: MemberId): string {
    return this.#map.current.members.find(({ id }) => id === member)?.name ?? `member ${member}`;
  }

  /** The logs of which any server that answers holds anything. */
  async logs(): Promise<Set<number>> {
    const logs = new Set<number>();
    await Promise.all(
      this.members.map(async (member) => {
        try {
          const { reply } = await this.ask(member, () => this.#peers.call(member, "listLogs", {}, { deadlineMs: DEADLINE_MS }));
          for (const log of reply.logs) logs.add(log);
        } catch (error) {
          if (!(error instanceof SilentServer)) throw error;
          this.silent.set(member, error.message);
        }
      }),
    );
    return logs;
  }

  /** The store that a server serves. Rejects `SilentServer`. */
  async storeOf(member: MemberId): Promise<string> {
    return (await this.ask(member, () => this.#peers.call(member, "stat", {}, { deadlineMs: DEADLINE_MS }))).reply.store;
  }

  /** What a server holds of a log above `after`, ascending. Throws `SilentServer`. */
  async *held(member: MemberId, log: number, above: number, told: Told): AsyncGenerator<HeldFragment> {
    for (let after = above, more = true; more; ) {
      const request = { log, after, limit: PAGE_SEQUENCES };
      const { reply } = await this.ask(member, () => this.#peers.call(member, "list", request, { deadlineMs: DEADLINE_MS }));
      told.stableSequence = Math.max(told.stableSequence, reply.stableSequence);
      told.trimmedTo = Math.max(told.trimmedTo, reply.trimmedTo);
      for (const fragment of reply.fragments) yield { ...fragment, member };
      const last = reply.fragments.at(-1);
      more = reply.more && last !== undefined;
      after = last?.sequence ?? after;
    }
  }

  /** The first bytes of a fragment, to the end of a block, with their checksums. Rejects `fragmentMissing`, `fragmentDamaged`, `SilentServer`. */
  read({ member, log, sequence, group, groupVersion, index }: HeldFragment, length: number): Promise<CallResult<"read">> {
    const request = { log, sequence, group, groupVersion, index, offset: 0, length };
    return this.ask(member, () => this.#peers.call(member, "read", request, { deadlineMs: DEADLINE_MS }));
  }

  async ask<Answer>(member: MemberId, question: () => Promise<Answer>): Promise<Answer> {
    for (const beganMs = this.#clock.nowMs(); ; ) {
      try {
        return await question();
      } catch (error) {
        if (!isDazzleError(error)) throw error;
        if (error.code === "wrongStore") throw new SilentServer(member, error.detail);
        if (error.retry === "never") throw error;
        if (this.#clock.nowMs() - beganMs > PATIENCE_MS) throw new SilentServer(member, error.message);
        await sleep(this.#clock, RETRY_MS);
      }
    }
  }
}
