import { assert, type ClusterMap, findLog, type GroupId, type LogId, type MapCache, type MemberId } from "@dazzle/core";

/** A manager's new incarnation in the map. */
export interface Incarnation {
  readonly log: LogId;
  /** The logs before this one that hold what its slots' shards are made of, oldest first. */
  readonly chain: readonly number[];
  /** By slot. */
  readonly terms: ReadonlyMap<number, number>;
}

/** Takes a log and higher terms for every slot of `member`, and expels the managers before, in one compare-and-swap. */
export async function takeIncarnation(options: { map: MapCache; member: MemberId; process: string; group: number }): Promise<Incarnation> {
  const { map, member, process, group } = options;
  await map.refresh();
  const firstLog = map.current.nextLog;
  // An answer may get lost: a log of this process that is not older than this attempt is its own.
  const own = () => map.current.logs.find((row) => row.id >= firstLog && row.kind === "manager" && row.process === process);
  await map.change((now) => {
    if (own() !== undefined) return undefined;
    const log = now.nextLog as LogId;
    const chained = new Set(now.slots.flatMap((slot) => (slot.manager === member ? slot.chain.map((link) => link.log) : [])));
    const expelled = now.logs.map((row) => (chained.has(row.id) && row.state === "live" ? { ...row, state: "expelled" as const } : row));
    return {
      ...now,
      nextLog: log + 1,
      logs: [
        ...expelled,
        { id: log, kind: "manager" as const, member, process, state: "live" as const, groups: [group as GroupId], end: null, label: "" },
      ],
      slots: now.slots.map((slot) =>
        slot.manager === member ? { ...slot, term: slot.term + 1, chain: [...slot.chain, { log, term: slot.term + 1, end: null }] } : slot,
      ),
    };
  });
  const row = own();
  assert(row !== undefined, "the new log is in the map");
  const terms = new Map<number, number>();
  const chain = new Set<number>();
  for (const [slot, { manager, term, chain: links }] of map.current.slots.entries()) {
    if (manager !== member) continue;
    terms.set(slot, term);
    for (const link of links) if (link.log !== row.id) chain.add(link.log);
  }
  return { log: row.id, chain: [...chain].sort((one, other) => one - other), terms };
}

/** After a stable checkpoint in `log`: the logs before leave the chain, and those in no chain any more are closed. Answers the closed ones. */
export async function leaveChain(map: MapCache, member: MemberId, log: number): Promise<number[]> {
  let closed: number[] = [];
  await map.change((now: ClusterMap) => {
    closed = [];
    const slots = now.slots.map((slot) =>
      slot.manager === member && slot.chain.length > 1 ? { ...slot, chain: slot.chain.filter((link) => link.log === log) } : slot,
    );
    const chained = new Set(slots.flatMap((slot) => slot.chain.map((link) => link.log as number)));
    const logs = now.logs.map((row) => {
      if (row.kind !== "manager" || row.state !== "ended" || chained.has(row.id)) return row;
      closed.push(row.id);
      return { ...row, state: "closed" as const };
    });
    return closed.length === 0 && now.slots.every((slot, index) => slot.chain.length === slots[index]?.chain.length)
      ? undefined
      : { ...now, slots, logs };
  });
  return closed.filter((id) => findLog(map.current, id)?.state === "closed");
}
