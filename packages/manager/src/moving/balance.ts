import { assert, type ClusterMap, type MemberId, SLOTS } from "@dazzle/core";

/** A manager that is up. */
export interface LiveManager {
  readonly member: MemberId;
  /** Its incarnation's log. */
  readonly log: number;
  /** It is being drained: it gives all its slots away. */
  readonly leaving: boolean;
}

/** Slots that go from one manager to another. */
export interface SlotMove {
  readonly slots: readonly number[];
  readonly from: MemberId;
  readonly to: MemberId;
}

/** Slots that move together: they pause together. */
const SLOTS_A_MOVE = 8;

/** Whose incarnation a slot is with: the last log of its chain; 0 where it never had any. */
export function holderOf(map: ClusterMap, slot: number): number {
  return map.slots[slot]?.chain.at(-1)?.log ?? 0;
}

/** How many slots each manager should have, so that they are spread evenly and as few as possible move: who has most keeps one more where
 * the number does not divide. */
function shares(managers: readonly LiveManager[], owned: ReadonlyMap<number, readonly number[]>): Map<number, number> {
  const staying = managers.filter(({ leaving }) => !leaving);
  const has = ({ log }: LiveManager) => owned.get(log)?.length ?? 0;
  const byCount = [...staying].sort((one, other) => has(other) - has(one) || one.member - other.member);
  const base = Math.floor(SLOTS / staying.length);
  const wanted = new Map(byCount.map(({ log }, index) => [log, base + (index < SLOTS % staying.length ? 1 : 0)]));
  for (const { log, leaving } of managers) if (leaving) wanted.set(log, 0);
  return wanted;
}

/** Whether slots should be spread anew: a manager has joined, or one is leaving. What somebody moved by hand stays. */
export function isUneven(map: ClusterMap, managers: readonly LiveManager[]): boolean {
  const staying = managers.filter(({ leaving }) => !leaving);
  const counts = new Map(managers.map(({ log }) => [log, 0]));
  for (let slot = 0; slot < SLOTS; slot++) {
    const log = holderOf(map, slot);
    counts.set(log, (counts.get(log) ?? 0) + 1);
  }
  return managers.some(({ log, leaving }) => {
    const count = counts.get(log) as number;
    return leaving ? count > 0 : count < SLOTS / staying.length / 2;
  });
}

/** The moves after which the slots of these managers are spread evenly. None where they are, where nobody stays, and while a slot is with nobody of them. */
export function balancingMoves(map: ClusterMap, managers: readonly LiveManager[]): SlotMove[] {
  if (!managers.some(({ leaving }) => !leaving)) return [];
  const owned = new Map(managers.map(({ log }): [number, number[]] => [log, []]));
  for (let slot = 0; slot < SLOTS; slot++) {
    const slots = owned.get(holderOf(map, slot));
    if (slots === undefined) return [];
    slots.push(slot);
  }
  const wanted = shares(managers, owned);
  const spare = managers.flatMap(({ log, member }) => {
    const slots = owned.get(log) as number[];
    return slots.slice(wanted.get(log) as number).map((slot) => ({ slot, from: member }));
  });
  const moves: SlotMove[] = [];
  for (const { log, member: to } of managers) {
    const missing = (wanted.get(log) as number) - (owned.get(log) as number[]).length;
    for (const { slot, from } of missing > 0 ? spare.splice(0, missing) : []) {
      const last = moves.at(-1);
      if (last?.from === from && last.to === to && last.slots.length < SLOTS_A_MOVE) (last.slots as number[]).push(slot);
      else moves.push({ slots: [slot], from, to });
    }
  }
  assert(spare.length === 0, "what one manager has too many another has too few");
  return moves;
}

/** The slots of managers that are gone, spread over those that are up: to whoever has the fewest. */
export function spread(map: ClusterMap, slots: readonly number[], managers: readonly LiveManager[]): Map<number, LiveManager> {
  const staying = managers.filter(({ leaving }) => !leaving);
  const heirs = staying.length > 0 ? staying : managers;
  const counts = new Map(heirs.map(({ log }) => [log, 0]));
  for (let slot = 0; slot < SLOTS; slot++) {
    const count = counts.get(holderOf(map, slot));
    if (count !== undefined) counts.set(holderOf(map, slot), count + 1);
  }
  const to = new Map<number, LiveManager>();
  for (const slot of slots) {
    const [least] = [...heirs].sort(
      (one, other) => (counts.get(one.log) as number) - (counts.get(other.log) as number) || one.member - other.member,
    );
    if (least === undefined) break;
    to.set(slot, least);
    counts.set(least.log, (counts.get(least.log) as number) + 1);
  }
  return to;
}
