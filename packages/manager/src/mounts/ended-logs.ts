import {
  type ClusterMap,
  findLog,
  isDazzleError,
  type Logger,
  type MapCache,
  type MemberId,
  type Peers,
  type Reply,
  withLog,
} from "@dazzle/core";
import type { Journal } from "../journal.ts";
import type { LogAccess } from "../log-access.ts";
import type { Shard } from "../shard/shard.ts";
import type { ShardHost } from "../shard/shard-host.ts";
import { applyTail } from "./log-recovery.ts";

const DEADLINE_MS = 5_000;

/** Logs that are ended: what the slots here have of a mount's durably, and whether all slots have, wherever they are. Then a log is
 * closed in the map, and nobody needs its transactions any more (rule 13). A cleaner's has nothing to be applied: it is closed once nothing is moved into it any more. */
export class EndedLogs {
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #logger: Logger;
  readonly #logs: LogAccess;
  readonly #host: ShardHost;
  readonly #journal: Journal;
  readonly #member: MemberId;
  /** By log, by slot: the term under which the slot has the log durably up to its end, with nobody's tokens in the way. */
  readonly #settled = new Map<number, Map<number, number>>();
  readonly #closing = new Map<number, Promise<boolean>>();

  constructor(options: {
    map: MapCache;
    peers: Peers;
    logger: Logger;
    logs: LogAccess;
    host: ShardHost;
    journal: Journal;
    member: MemberId;
  }) {
    this.#map = options.map;
    this.#peers = options.peers;
    this.#logger = options.logger;
    this.#logs = options.logs;
    this.#host = options.host;
    this.#journal = options.journal;
    this.#member = options.member;
  }

  /** Logs that slots here have up to their end, and that are not seen closed yet. */
  get known(): Iterable<number> {
    return this.#settled.keys();
  }

  /** Whether every slot that is here now has the log up to its end. */
  isSettled(log: number): boolean {
    return this.#settled.has(log) && this.#unsettled(log).length === 0;
  }

  #unsettled(log: number): Shard[] {
    const settled = this.#settled.get(log);
    return [...this.#host.shards].filter(({ slot, term }) => settled?.get(slot) !== term);
  }

  /** Ends the log where nobody has, and applies what the slots here have not of it. Resolves when all of them have it durably and
   * `leaseEnded` has resolved. */
  async settle(log: number, leaseEnded: () => Promise<void>): Promise<void> {
    // Of a closed log every slot has everything, and its segments may be gone.
    while (!isClosed(this.#map.current, log) && !this.isSettled(log)) {
      const shards = this.#unsettled(log);
      const recovered = await this.#logs.recover(log);
      const complete = await applyTail({ logs: this.#logs, map: this.#map, host: this.#host, log, recovered, shards });
      await this.#journal.settle();
      // Before it is closed: a manager that takes a slot over now waits as well (rule 29).
      await leaseEnded();
      this.note(log, complete);
    }
  }

  /** These shards have the log durably up to its end. */
  note(log: number, shards: Iterable<Shard>): void {
    const settled = this.#settled.get(log) ?? new Map<number, number>();
    this.#settled.set(log, settled);
    for (const { slot, term } of shards) settled.set(slot, term);
  }

  /** For other managers. */
  async answer(log: number, end: number): Promise<Reply<"settled">> {
    const row = findLog(this.#map.current, log);
    const isEnded = row?.end === end;
    // What was let in while the log was live is moved when this turn comes.
    if (row?.kind === "cleaner") await this.#host.between(() => {});
    const settled = this.#settled.get(log);
    const has = ({ slot, term }: Shard) => row?.kind === "cleaner" || settled?.get(slot) === term;
    const shards = isEnded ? [...this.#host.shards].filter(has) : [];
    return { version: this.#map.version, slots: shards.map(({ slot }) => slot), terms: shards.map(({ term }) => term) };
  }

  /** Closes an ended log in the map where every slot has it up to its end. Answers whether it is closed. */
  close(log: number): Promise<boolean> {
    let closing = this.#closing.get(log);
    if (closing === undefined) {
      closing = this.#close(log).finally(() => this.#closing.delete(log));
      this.#closing.set(log, closing);
    }
    return closing;
  }

  async #close(log: number): Promise<boolean> {
    const row = findLog(this.#map.current, log);
    if (row?.state !== "ended" || row.end === null) return isClosed(this.#map.current, log);
    const { end } = row;
    const answers = [await this.answer(log, end), ...(await this.#askOthers(log, end))];
    await this.#map.reach(Math.max(...answers.map(({ version }) => version)));
    const terms = new Map<number, number>();
    for (const answer of answers) for (const [index, slot] of answer.slots.entries()) terms.set(slot, answer.terms[index] ?? 0);
    if (this.#map.current.slots.some(({ term }, slot) => (terms.get(slot) ?? 0) < term)) return false;
    await this.#map.change((map) => closedLog(map, log, end));
    this.#logger("info", "every slot has a log up to its end: it is closed", { log, end });
    return true;
  }

  async #askOthers(log: number, end: number): Promise<Array<Reply<"settled">>> {
    const members = new Set(this.#map.current.slots.flatMap(({ manager }) => (manager === null ? [] : [manager])));
    members.delete(this.#member);
    const answers = await Promise.all(
      [...members].map(async (member) => {
        try {
          return [(await this.#peers.call(member, "settled", { log, end }, { deadlineMs: DEADLINE_MS })).reply];
        } catch (error) {
          if (!isDazzleError(error)) throw error;
          return [];
        }
      }),
    );
    return answers.flat();
  }

  /** It is closed. */
  forget(log: number): void {
    this.#settled.delete(log);
  }
}

/** Whether a log is closed in the map, or was and left it. */
export function isClosed(map: ClusterMap, log: number): boolean {
  const row = findLog(map, log);
  return row === undefined ? log < map.nextLog : row.state === "closed";
}

function closedLog(map: ClusterMap, log: number, end: number): ClusterMap | undefined {
  const row = findLog(map, log);
  return row === undefined || row.state === "closed" ? undefined : withLog(map, log, { state: "closed", end: row.end ?? end });
}
