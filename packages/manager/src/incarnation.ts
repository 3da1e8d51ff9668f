import {
  assert,
  type ChainLink,
  CLOCK_DRIFT,
  type Clock,
  type ClusterMap,
  findLog,
  type GroupId,
  isDazzleError,
  type Limits,
  type Logger,
  type LogId,
  type LogRow,
  type MapCache,
  type MemberId,
  type SlotRow,
  sleep,
} from "@dazzle/core";
import type { LogAccess } from "./log-access.ts";

/** From so many links on a slot opens only once they have left its chain. */
export const CHAIN_LONG = 4;
/** At so many an incarnation adds its own only once the logs in the chain are ended. */
const CHAIN_MAX = 16;

export interface IncarnationOptions {
  readonly map: MapCache;
  readonly member: MemberId;
  readonly process: string;
  readonly group: GroupId;
  readonly logs: LogAccess;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly limits: Limits;
}

/** Takes a log for a manager's new incarnation, and higher terms for every slot that is with its member; expels the member's managers before: all in
 * one compare-and-swap. Answers the log. */
export async function takeIncarnation(options: IncarnationOptions): Promise<LogId> {
  const { map, member, process, group } = options;
  await map.refresh();
  if (longestChain(map.current, member) >= CHAIN_MAX) await endEarlier(options);
  const firstLog = map.current.nextLog;
  // An answer may get lost: a log of this process that is not older than this attempt is its own.
  const own = () => map.current.logs.find((row) => row.id >= firstLog && row.kind === "manager" && row.process === process);
  await map.change((now) => {
    if (own() !== undefined) return undefined;
    const log = now.nextLog as LogId;
    return {
      ...now,
      nextLog: log + 1,
      logs: [
        ...withoutManagersOf(now, member),
        { id: log, kind: "manager" as const, member, process, state: "live" as const, groups: [group], end: null, label: "" },
      ],
      slots: now.slots.map((slot) => (slot.manager === member ? handedTo(slot, member, log, null) : slot)),
    };
  });
  const row = own();
  assert(row !== undefined, "the new log is in the map");
  return row.id;
}

function withoutManagersOf({ logs }: ClusterMap, member: MemberId): LogRow[] {
  return logs.map((row) => (row.kind === "manager" && row.member === member && row.state === "live" ? { ...row, state: "expelled" } : row));
}

function longestChain({ slots }: ClusterMap, member: MemberId): number {
  return Math.max(0, ...slots.map(({ manager, chain }) => (manager === member ? chain.length : 0)));
}

/** Many incarnations ended before they had read their chains: their logs are ended without another one, and those that hold nothing leave the chains,
 * once nobody can serve under them any more. */
async function endEarlier({ map, member, logs, clock, logger, limits }: IncarnationOptions): Promise<void> {
  const before = await map.change((now) => ({ ...now, logs: withoutManagersOf(now, member) }));
  await sleep(clock, limits.managerLeaseMs * (1 + CLOCK_DRIFT));
  const chained = before.slots.flatMap(({ manager, chain }) => (manager === member ? chain.map(({ log }) => log) : []));
  try {
    for (const log of new Set(chained)) if (findLog(map.current, log)?.state !== "live") await logs.recover(log);
  } catch (error) {
    if (!isDazzleError(error)) throw error;
    logger("warning", "the chains of logs before this one stay long for now", { reason: error.message });
  }
  const isEmpty = (now: ClusterMap, { log }: ChainLink) => {
    const row = findLog(now, log);
    return row?.state === "ended" && row.end === 0;
  };
  await map.change((now) => ({
    ...now,
    // The last link says who holds the slot.
    slots: now.slots.map((slot) =>
      slot.manager === member
        ? { ...slot, chain: slot.chain.filter((link, index) => index === slot.chain.length - 1 || !isEmpty(now, link)) }
        : slot,
    ),
  }));
}

/** Links before the own log's that hold nothing of some slots leave long chains. `needed`: by slot, its term and the links that hold something. */
export async function shortenChains(map: MapCache, log: number, needed: ReadonlyMap<number, NeededLinks>): Promise<void> {
  const shortened = (slot: SlotRow, number: number): SlotRow => {
    const known = needed.get(number);
    if (known === undefined || slot.term !== known.term || slot.chain.length <= CHAIN_LONG || slot.chain.at(-1)?.log !== log) return slot;
    const isNeeded = (link: ChainLink) =>
      link.log === log || known.links.some((other) => other.log === link.log && other.term === link.term);
    const chain = slot.chain.filter(isNeeded);
    return chain.length === slot.chain.length ? slot : { ...slot, chain };
  };
  const change = (now: ClusterMap) => {
    const slots = now.slots.map(shortened);
    return slots.every((slot, number) => slot === now.slots[number]) ? undefined : { ...now, slots };
  };
  if (change(map.current) !== undefined) await map.change(change);
}

export interface NeededLinks {
  readonly term: number;
  readonly links: readonly ChainLink[];
}

/** The slot with a new owner under a new term. `end`: the last segment of the log before that holds something of the slot, where that log goes on. */
export function handedTo(slot: SlotRow, manager: MemberId, log: number, end: number | null): SlotRow {
  const term = slot.term + 1;
  const before = slot.chain.map((link, index) => (index === slot.chain.length - 1 && end !== null ? { ...link, end } : link));
  return { manager, term, chain: [...before, { log: log as LogId, term, end: null }] };
}

/** After a checkpoint of some slots (with their terms) became stable in `log`: the logs before leave their chains, and managers' logs that are ended and
 * in no chain any more are closed. Answers the closed ones. */
export async function leaveChain(map: MapCache, log: number, terms: ReadonlyMap<number, number>): Promise<number[]> {
  let closed: number[] = [];
  await map.change((now: ClusterMap) => {
    closed = [];
    const slots = now.slots.map((slot, number) => {
      const isLast = slot.chain.at(-1)?.log === log && slot.term === terms.get(number);
      return isLast && slot.chain.length > 1 ? { ...slot, chain: slot.chain.slice(-1) } : slot;
    });
    const chained = new Set(slots.flatMap((slot) => slot.chain.map((link) => link.log as number)));
    const logs = now.logs.map((row) => {
      if (row.kind !== "manager" || row.state !== "ended" || chained.has(row.id)) return row;
      closed.push(row.id);
      return { ...row, state: "closed" as const };
    });
    return closed.length === 0 && now.slots.every((slot, index) => slot === slots[index]) ? undefined : { ...now, slots, logs };
  });
  return closed.filter((id) => findLog(map.current, id)?.state === "closed");
}

/** Whether logs before this one stand in the slot's chain. */
export function isChained(map: ClusterMap, slot: number, term: number): boolean {
  const row = map.slots[slot];
  return row !== undefined && row.term === term && row.chain.length > 1;
}

/** Whether a manager's log is ended that stands in no chain. */
export function isUnchained({ logs, slots }: ClusterMap): boolean {
  return logs.some(
    ({ id, kind, state }) => kind === "manager" && state === "ended" && !slots.some(({ chain }) => chain.some(({ log }) => log === id)),
  );
}
