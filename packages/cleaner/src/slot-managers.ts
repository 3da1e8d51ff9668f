import {
  DazzleError,
  ErrorCode,
  isDazzleError,
  type MemberId,
  MOVES_MAX,
  type Move,
  type Piece,
  packMoves,
  packPieces,
  sleep,
  slotOf,
  unpackPieces,
} from "@dazzle/core";
import type { CleanerOptions } from "./options.ts";

/** A manager need not answer at once: what it moves it makes stable before. */
const ANSWER_DEADLINE_MS = 10_000;
/** Slots may be on their way between managers for so long. */
const DEADLINE_MS = 60_000;
const RETRY_MS = 200;

/** A stable segment of a cleaner's log. */
export interface Target {
  readonly log: number;
  readonly sequence: number;
  readonly group: number;
  readonly groupVersion: number;
  /** Of the same log. */
  readonly trimmedTo: number;
}

/** What cleaners ask the managers: each of what is its, again where that is another's by now. */
export class SlotManagers {
  readonly #options: Pick<CleanerOptions, "map" | "peers" | "ports">;

  constructor(options: Pick<CleanerOptions, "map" | "peers" | "ports">) {
    this.#options = options;
  }

  /** Which pieces of a segment files still have, cut to what is still there. Rejects as the last refusal, after a while. */
  async stillAt(log: number, sequence: number, pieces: readonly Piece[], signal: AbortSignal): Promise<Piece[]> {
    const live: Piece[] = [];
    await this.#ask(pieces, signal, async (manager, some) => {
      const options = { deadlineMs: ANSWER_DEADLINE_MS, signal, tail: [packPieces(some)] };
      const { tail } = await this.#options.peers.call(manager, "stillAt", { log, sequence }, options);
      for (const part of unpackPieces(Buffer.concat(tail))) live.push(part);
    });
    return live;
  }

  /** Moves blocks into a stable segment of this cleaner's log. Resolves when every manager concerned has that in its stable log, with the bytes that moved.
   * Rejects `expelled` where the log is not live any more, otherwise as the last refusal, after a while. */
  async relocate(target: Target, moves: readonly Move[], signal: AbortSignal): Promise<number> {
    let moved = 0;
    await this.#ask(moves, signal, async (manager, some) => {
      const options = { deadlineMs: ANSWER_DEADLINE_MS, signal, tail: [packMoves(some)] };
      moved += (await this.#options.peers.call(manager, "relocate", { ...target }, options)).reply.bytes;
    });
    return moved;
  }

  /** Tells every manager how far this cleaner's log is trimmed; who does not hear it learns it with what moves next. */
  async tellTrimmed(log: number, trimmedTo: number, signal: AbortSignal): Promise<void> {
    const { map, peers, ports } = this.#options;
    const managers = new Set(map.current.slots.flatMap(({ manager }) => (manager === null ? [] : [manager])));
    const told = [...managers].map((manager) =>
      peers.call(manager, "cleanerTrimmed", { log, trimmedTo }, { deadlineMs: ANSWER_DEADLINE_MS, signal }),
    );
    for (const answer of await Promise.allSettled(told))
      if (answer.status === "rejected")
        ports.logger("info", "a manager was not told how far a cleaner's log is trimmed", { log, reason: answer.reason.message });
  }

  async #ask<T extends Piece>(
    all: readonly T[],
    signal: AbortSignal,
    ask: (manager: MemberId, some: readonly T[]) => Promise<void>,
  ): Promise<void> {
    const { map, ports } = this.#options;
    const deadlineMs = ports.clock.nowMs() + DEADLINE_MS;
    for (let left = all; left.length > 0; ) {
      const asked = this.#dealt(left);
      const answers = await Promise.allSettled(asked.map(({ manager, some }) => askOf(manager, some, ask)));
      left = asked.flatMap(({ some }, index) => (answers[index]?.status === "rejected" ? some : []));
      if (left.length === 0) return;
      const reasons = answers.flatMap((answer) => (answer.status === "rejected" ? [answer.reason as unknown] : []));
      const final = reasons.find((reason) => !isDazzleError(reason) || ErrorCode[reason.code].retry === "never");
      if (final !== undefined) throw final;
      if (ports.clock.nowMs() >= deadlineMs) throw reasons[0];
      await sleep(ports.clock, RETRY_MS, signal);
      await map.refresh().catch(() => {});
    }
  }

  /** By who manages them, in messages of a bounded size. */
  #dealt<T extends Piece>(pieces: readonly T[]): { readonly manager: MemberId | null; readonly some: T[] }[] {
    const { slots } = this.#options.map.current;
    const open = new Map<MemberId | null, T[]>();
    const dealt: { readonly manager: MemberId | null; readonly some: T[] }[] = [];
    for (const piece of pieces) {
      const manager = slots[slotOf(piece.ino)]?.manager ?? null;
      let some = open.get(manager);
      if (some === undefined || some.length >= MOVES_MAX) {
        some = [];
        open.set(manager, some);
        dealt.push({ manager, some });
      }
      some.push(piece);
    }
    return dealt;
  }
}

async function askOf<T>(
  manager: MemberId | null,
  some: readonly T[],
  ask: (manager: MemberId, some: readonly T[]) => Promise<void>,
): Promise<void> {
  if (manager === null) throw new DazzleError("notReady", "a slot has no manager");
  await ask(manager, some);
}
