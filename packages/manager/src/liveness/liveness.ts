import {
  ALL_SLOTS,
  type Clock,
  type ClusterMap,
  findLog,
  isDazzleError,
  type Logger,
  type MapCache,
  type MemberId,
  NO_SLOTS,
  type Peers,
  SLOTS,
  type SlotMask,
} from "@dazzle/core";
import type { Journal } from "../journal.ts";
import type { RunSegments } from "../run-segments.ts";
import type { ShardHost } from "../shard/shard-host.ts";
import { Audit } from "./audit.ts";
import { LiveHere } from "./live-here.ts";
import { LiveInCluster } from "./live-in-cluster.ts";
import { SegmentDeleter, WHOLE_LOG } from "./segment-deleter.ts";

/** Who, of all managers, looks after a log that nobody writes any more, or that is a mount's. */
export function decider(map: ClusterMap, log: number): MemberId | null {
  return map.slots[log % SLOTS]?.manager ?? null;
}

/** What is needed of all logs, and what is not: what the shards here stop needing, and what is trimmed, is offered, judged by the whole cluster,
 * and deleted. */
export class Liveness {
  readonly #map: MapCache;
  readonly #member: MemberId;
  readonly #journal: Journal;
  readonly #host: ShardHost;
  readonly here: LiveHere;
  readonly deleter: SegmentDeleter;
  readonly audit: Audit;
  #trimmedOwn = 0;
  readonly #endListening: () => void;

  constructor(options: {
    map: MapCache;
    member: MemberId;
    peers: Peers;
    clock: Clock;
    logger: Logger;
    journal: Journal;
    host: ShardHost;
    segments: RunSegments;
  }) {
    this.#map = options.map;
    this.#member = options.member;
    this.#journal = options.journal;
    this.#host = options.host;
    const trimmedTo = (log: number) => this.trimmedTo(log);
    this.here = new LiveHere({ ...options, trimmedTo });
    const cluster = new LiveInCluster({ ...options, here: this.here });
    const judge: LiveInCluster["judge"] = (log, segments, silent) => cluster.judge(log, segments, silent);
    this.deleter = new SegmentDeleter({
      ...options,
      events: {
        judge,
        neededHere: (log, segments) => this.here.needed(log, segments),
        trimmedTo,
        overflowed: (member) => this.audit.server(member),
      },
    });
    this.audit = new Audit({
      ...options,
      deleter: this.deleter,
      events: { judge, isLogLive: (log) => cluster.isLogLive(log), trimmedTo, decides: (log) => this.#decides(log) },
    });
    this.#endListening = this.#map.onChange((map) => this.#forgetLeft(map));
  }

  #decides(log: number): boolean {
    const map = this.#map.current;
    const row = findLog(map, log);
    return row?.kind === "manager" && row.state === "live" ? log === this.#journal.log : decider(map, log) === this.#member;
  }

  /** Up to where a log is trimmed, as far as it is known here: of the log of another manager that goes on, only its writer knows. */
  trimmedTo(log: number): number {
    const map = this.#map.current;
    if (log === this.#journal.log) return this.#journal.trimmedTo;
    const row = findLog(map, log);
    if (row === undefined) return log < map.nextLog ? WHOLE_LOG : 0;
    if (row.state === "closed") return WHOLE_LOG;
    return row.kind === "manager" ? 0 : this.#host.progress(log).trimmedTo;
  }

  /** The last live bytes of a segment went from a shard, or the last bytes of sorted runs. */
  emptied(log: number, sequence: number, slots: SlotMask): void {
    this.deleter.offer(log, sequence, slots);
  }

  /** A mount's or a cleaner's log is trimmed up to here: what became empty before can go. */
  trimmed(log: number, to: number): void {
    const trimmed = this.#host.progress(log).trim(to);
    if (trimmed === undefined) {
      this.audit.log(log);
      return;
    }
    const decides = this.#decides(log);
    for (const [sequence, slots] of trimmed) {
      const isKnown = slots.low !== 0 || slots.high !== 0;
      // A segment that concerns no slot here concerns another's, or nobody's.
      if (isKnown || decides) this.deleter.offer(log, sequence, isKnown ? slots : ALL_SLOTS);
    }
  }

  /** A mount's log is closed. What lies past its end was applied by nobody, so that nobody offers it. */
  closed(log: number, end: number): void {
    this.trimmed(log, end);
    if (this.#decides(log)) this.audit.log(log, end);
  }

  /** A checkpoint is stable: the manager's own log may be trimmed further. */
  checkpointed(): void {
    const { log, trimmedTo } = this.#journal;
    for (let sequence = this.#trimmedOwn + 1; sequence <= trimmedTo; sequence++) this.deleter.offer(log, sequence, NO_SLOTS);
    this.#trimmedOwn = trimmedTo;
  }

  /** What left the map is told from nothing new any more (rule 28). */
  #forgetLeft(map: ClusterMap): void {
    const known = new Set(map.logs.map(({ id }) => id as number));
    const left = new Set<number>();
    const forget = (log: number) => {
      if (!known.has(log) && log < map.nextLog) left.add(log);
    };
    for (const shard of this.#host.shards) for (const log of [...shard.applied.keys(), ...shard.holds]) forget(log);
    for (const { log } of this.#host.progressOfLogs) forget(log);
    if (left.size === 0) return;
    // Where it fails, the next change of the map finds them again.
    this.#host.forget([...left]).catch((error: unknown) => {
      if (!isDazzleError(error)) throw error;
    });
  }

  close(): void {
    this.#endListening();
    this.deleter.close();
    this.audit.close();
  }
}
