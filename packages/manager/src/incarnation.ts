import { assert, type ClusterMap, findLog, type GroupId, type LogId, type MapCache, type MemberId, type SlotRow } from "@dazzle/core";

/** Takes a log for a manager's new incarnation, and higher terms for every slot that is with its member; expels the member's managers before: all in
 * one compare-and-swap. Answers the log. */
export async function takeIncarnation(options: { map: MapCache; member: MemberId; process: string; group: number }): Promise<LogId> {
  const { map, member, process, group } = options;
  await map.refresh();
  const firstLog = map.current.nextLog;
  // An answer may get lost: a log of this process that is not older than this attempt is its own.
  const own = () => map.current.logs.find((row) => row.id >= firstLog && row.kind === "manager" && row.process === process);
  await map.change((now) => {
    if (own() !== undefined) return undefined;
    const log = now.nextLog as LogId;
    const expelled = now.logs.map((row) =>
      row.kind === "manager" && row.member === member && row.state === "live" ? { ...row, state: "expelled" as const } : row,
    );
    return {
      ...now,
      nextLog: log + 1,
      logs: [
        ...expelled,
        { id: log, kind: "manager" as const, member, process, state: "live" as const, groups: [group as GroupId], end: null, label: "" },
      ],
      slots: now.slots.map((slot) => (slot.manager === member ? handedTo(slot, member, log, null) : slot)),
    };
  });
  const row = own();
  assert(row !== undefined, "the new log is in the map");
  return row.id;
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
