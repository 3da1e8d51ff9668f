import { ALL_SLOTS, type LogRow, type MapCache, type MemberId, NO_SLOTS, type Peers } from "@dazzle/core";
import type { Needed } from "@dazzle/log";

const ASK_DEADLINE_MS = 20_000;
/** Segments that a manager is asked about at once. */
const SEGMENTS_MAX = 1_000;

/** What the managers need of a log's segments, and up to where they know it to be trimmed. That a segment is trimmed must be known before anybody looks, or who needs nothing of it had maybe yet
 * to apply it (rule 25): what only the answers tell to be trimmed is asked about once more. */
export async function askNeeded(map: MapCache, peers: Peers, log: LogRow, sequences: readonly number[]): Promise<Needed> {
  const known = log.state === "closed" ? (log.end ?? 0) : 0;
  const { live, trimmedTo: told } = await askAll(map, peers, log, sequences);
  const late = sequences.filter((sequence) => sequence > known && sequence <= told && live?.has(sequence) === false);
  const again = late.length === 0 ? [] : (await askAll(map, peers, log, late)).live;
  // Of a log that is closed there they know no end.
  const last = sequences.reduce((one, other) => Math.max(one, other), log.end ?? 0);
  return { live: live === null || again === null ? null : new Set([...live, ...again]), trimmedTo: Math.min(Math.max(known, told), last) };
}

async function askAll(map: MapCache, peers: Peers, log: LogRow, sequences: readonly number[]): Promise<Needed> {
  const live = new Set<number>();
  let trimmedTo = 0;
  let isWhole = true;
  for (let at = 0; at < sequences.length; at += SEGMENTS_MAX) {
    const part = await askSome(map, peers, log, sequences.slice(at, at + SEGMENTS_MAX));
    for (const sequence of part.live ?? []) live.add(sequence);
    isWhole &&= part.live !== null;
    trimmedTo = Math.max(trimmedTo, part.trimmedTo);
  }
  return { live: isWhole ? live : null, trimmedTo };
}

async function askSome(map: MapCache, peers: Peers, log: LogRow, sequences: readonly number[]): Promise<Needed> {
  // Managers' logs hold no file's bytes.
  const mask = log.kind === "manager" ? NO_SLOTS : ALL_SLOTS;
  const request = { log: log.id, sequences, low: sequences.map(() => mask.low), high: sequences.map(() => mask.high) };
  const managers = new Set<MemberId>();
  let isManaged = true;
  for (const { manager } of map.current.slots)
    if (manager === null) isManaged = false;
    else managers.add(manager);
  const answers = await Promise.allSettled(
    [...managers].map(async (manager) => (await peers.call(manager, "liveAmong", request, { deadlineMs: ASK_DEADLINE_MS })).reply),
  );
  const told = answers.flatMap((answer) => (answer.status === "fulfilled" ? [answer.value] : []));
  // Slots may have changed hands before the segments were trimmed: the terms that count are those of the newest map that anybody here had.
  await map.reach(Math.max(0, ...told.map(({ version }) => version)));
  // A slot on its way between managers is nobody's answer; one that has moved on is not its former manager's.
  const terms = new Map<number, number>();
  for (const reply of told)
    for (const [index, slot] of reply.slots.entries()) terms.set(slot, Math.max(terms.get(slot) ?? 0, reply.terms[index] ?? 0));
  const isWhole =
    isManaged && told.length === managers.size && map.current.slots.every(({ term }, slot) => (terms.get(slot) ?? -1) >= term);
  return {
    live: isWhole ? new Set(told.flatMap((reply) => reply.live)) : null,
    trimmedTo: Math.max(0, ...told.map((reply) => reply.trimmedTo)),
  };
}
