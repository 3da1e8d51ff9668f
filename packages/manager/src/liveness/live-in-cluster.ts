import {
  type ClusterMap,
  findLog,
  hasSlot,
  isDazzleError,
  type Logger,
  type LogRow,
  type MapCache,
  type MemberId,
  type Peers,
  type Reply,
  type SlotMask,
} from "@dazzle/core";
import type { LiveHere, Segment } from "./live-here.ts";

/** Segments in one question. */
export const ASKED_MAX = 1_000;
const DEADLINE_MS = 10_000;

/** `dead`: trimmed, and nobody needs anything in it, for ever. `live`: somebody does, or it is not trimmed; who finds that changed asks anew.
 * `open`: somebody who must be heard did not answer, or a slot is on its way between managers. */
export type Verdict = "dead" | "live" | "open";

type Answer = Reply<"liveAmong">;

/** What every manager says of segments, taken together: none is deleted on the word of one (rules 24, 25). */
export class LiveInCluster {
  readonly #here: LiveHere;
  readonly #map: MapCache;
  readonly #peers: Peers;
  readonly #logger: Logger;
  readonly #member: MemberId;

  constructor(options: { here: LiveHere; map: MapCache; peers: Peers; logger: Logger; member: MemberId }) {
    this.#here = options.here;
    this.#map = options.map;
    this.#peers = options.peers;
    this.#logger = options.logger;
    this.#member = options.member;
  }

  /** By sequence. At most `ASKED_MAX` segments, each once. Whoever empties a segment last finds it empty everywhere: of two who ask at the
   * same time, at least one has emptied it before the other looked. That it is trimmed must be known before anybody looks, or who needs nothing of it had maybe yet
   * to apply it: what only the answers tell to be trimmed is asked about once more. Who is `silent` is not asked; who does not answer becomes it. */
  async judge(log: number, segments: readonly Segment[], silent: Set<MemberId>): Promise<Map<number, Verdict>> {
    const known = this.#here.trimmedTo(log);
    const { found, trimmedTo } = await this.#ask(log, segments, known, silent);
    const late = segments.filter(({ sequence }) => sequence > known && found.get(sequence) === "dead");
    if (late.length === 0) return found;
    return new Map([...found, ...(await this.#ask(log, late, trimmedTo, silent)).found]);
  }

  /** One round of answers. `known`: the log is trimmed so far at least. */
  async #ask(
    log: number,
    segments: readonly Segment[],
    known: number,
    silent: Set<MemberId>,
  ): Promise<{ readonly found: Map<number, Verdict>; readonly trimmedTo: number }> {
    const own = await this.#here.answer(log, segments);
    const liveHere = new Set(own.live);
    const left = segments.filter(({ sequence }) => !liveHere.has(sequence));
    if (left.length === 0) return { found: new Map(segments.map(({ sequence }) => [sequence, "live"])), trimmedTo: known };
    const { answers, silentWriter } = await this.#askOthers(log, left, silent);
    answers.push(own);
    // Slots may have changed hands before the segments were trimmed: the terms that count are those of the newest map that anybody here had.
    await this.#map.reach(Math.max(...answers.map(({ version }) => version)));
    const trimmedTo = Math.max(known, ...answers.map((answer) => answer.trimmedTo));
    return { found: verdicts(this.#map.current, segments, answers, silentWriter, trimmedTo), trimmedTo };
  }

  /** Whether anybody needs anything of a log that is closed. */
  async isLogLive(log: number): Promise<Verdict> {
    const own = await this.#here.answer(log, []);
    if (own.live.length > 0) return "live";
    const { answers } = await this.#askOthers(log, [], new Set());
    answers.push(own);
    await this.#map.reach(Math.max(...answers.map(({ version }) => version)));
    if (answers.some(({ live }) => live.length > 0)) return "live";
    return uncovered(this.#map.current, answers).length > 0 ? "open" : "dead";
  }

  async #askOthers(
    log: number,
    segments: readonly Segment[],
    silent: Set<MemberId>,
  ): Promise<{ answers: Answer[]; silentWriter: boolean }> {
    const map = this.#map.current;
    const members = new Set<MemberId>();
    for (const { manager } of map.slots) if (manager !== null) members.add(manager);
    const writer = liveWriter(findLog(map, log));
    if (writer !== undefined) members.add(writer);
    members.delete(this.#member);
    const answers: Answer[] = [];
    let silentWriter = false;
    const asking = [...members].map(async (member) => {
      const asked = segments.filter(({ slots }) => member === writer || concerns(map, slots, member));
      if (asked.length === 0 && segments.length > 0) return;
      const answer = silent.has(member) ? undefined : await this.#askOne(member, log, asked);
      if (answer !== undefined) {
        answers.push(answer);
        return;
      }
      silent.add(member);
      silentWriter ||= member === writer;
    });
    await Promise.all(asking);
    return { answers, silentWriter };
  }

  async #askOne(member: MemberId, log: number, segments: readonly Segment[]): Promise<Answer | undefined> {
    const sequences = segments.map(({ sequence }) => sequence);
    const low = segments.map(({ slots }) => slots.low);
    const high = segments.map(({ slots }) => slots.high);
    try {
      const { reply } = await this.#peers.call(member, "liveAmong", { log, sequences, low, high }, { deadlineMs: DEADLINE_MS });
      return reply;
    } catch (error) {
      if (!isDazzleError(error)) throw error;
      this.#logger("info", "a manager does not say which segments it needs", { member, log, reason: error.message });
      return undefined;
    }
  }
}

/** A manager that still writes the log knows how far it is trimmed. */
function liveWriter(row: LogRow | undefined): MemberId | undefined {
  return row?.kind === "manager" && row.state === "live" ? row.member : undefined;
}

/** Sorted runs may lie in a segment of whatever slot: with no slots, all are asked. */
function isOf(slots: SlotMask, slot: number): boolean {
  return (slots.low === 0 && slots.high === 0) || hasSlot(slots, slot);
}

function concerns(map: ClusterMap, slots: SlotMask, member: MemberId): boolean {
  return map.slots.some(({ manager }, slot) => manager === member && isOf(slots, slot));
}

/** The slots that nobody spoke for under the map's term or a later one. */
function uncovered(map: ClusterMap, answers: readonly Answer[]): number[] {
  const covered = new Map<number, number>();
  for (const { slots, terms } of answers)
    for (const [index, slot] of slots.entries()) covered.set(slot, Math.max(covered.get(slot) ?? 0, terms[index] ?? 0));
  return map.slots.flatMap(({ term }, slot) => ((covered.get(slot) ?? 0) < term ? [slot] : []));
}

function verdicts(
  map: ClusterMap,
  segments: readonly Segment[],
  answers: readonly Answer[],
  silentWriter: boolean,
  trimmedTo: number,
): Map<number, Verdict> {
  const live = new Set(answers.flatMap((answer) => answer.live));
  const open = uncovered(map, answers);
  return new Map(
    segments.map(({ sequence, slots }): [number, Verdict] => {
      if (live.has(sequence)) return [sequence, "live"];
      if (silentWriter) return [sequence, "open"];
      if (sequence > trimmedTo) return [sequence, "live"];
      return [sequence, open.some((slot) => isOf(slots, slot)) ? "open" : "dead"];
    }),
  );
}
