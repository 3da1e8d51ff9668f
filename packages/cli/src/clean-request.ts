import { randomUUID } from "node:crypto";
import {
  type Address,
  type CleaningTally,
  type ClusterMap,
  type Group,
  isDazzleError,
  leadersOf,
  type Reply,
  type RpcPeer,
} from "@dazzle/core";
import { connectMember } from "./calls.ts";
import { failure } from "./output.ts";
import { newestMap, type Reach } from "./reach.ts";

const ANSWER_DEADLINE_MS = 5_000;
const ASK_MS = 500;
/** For so long nobody who could lead need answer before it is given up. */
const SILENCE_MS = 60_000;
/** And for so long whoever leads may get nowhere. */
const HINDERED_MS = 120_000;

/** What has come of a request so far. */
export interface CleanProgress extends CleaningTally {
  /** Of the group, as it is now: segments, and bytes of their payloads. */
  readonly stored: number;
  readonly storedBytes: number;
  readonly liveBytes: number;
  readonly done: boolean;
  /** Why it has got nowhere for `hinderedMs`; "" where it gets on. */
  readonly hindrance: string;
  readonly hinderedMs: number;
}

/** Whether it is given up. */
export function isHindered({ done, hindrance, hinderedMs }: CleanProgress): boolean {
  return !done && hindrance !== "" && hinderedMs >= HINDERED_MS;
}

/** A request that a group be cleaned now, at whoever leads it: another where that one has died. */
export class CleanRequest {
  readonly group: Group;
  readonly #reach: Reach;
  readonly #until: number;
  readonly #id = randomUUID();
  #map: ClusterMap;
  #leader: RpcPeer | null = null;
  /** What leaders before this one had told. */
  #before: CleaningTally = NOTHING;
  #last: Reply<"clean"> | null = null;

  constructor(reach: Reach, map: ClusterMap, group: Group, until: number) {
    this.#reach = reach;
    this.#map = map;
    this.group = group;
    this.#until = until;
  }

  /** Resolves when it is done, or `isStopped`, or `isHindered`. */
  async run(isStopped: () => boolean, shows: (progress: CleanProgress) => void): Promise<CleanProgress> {
    for (let heardMs = Date.now(); ; await new Promise((resolve) => setTimeout(resolve, ASK_MS))) {
      const stop = isStopped();
      const told = await this.#ask(stop);
      const progress = this.#progress;
      if (told !== undefined) {
        heardMs = Date.now();
        shows(progress);
      }
      if (stop || told?.done === true || isHindered(progress)) {
        if (!stop) await this.#ask(true);
        this.#leader?.close();
        return progress;
      }
      if (Date.now() - heardMs > SILENCE_MS)
        throw failure(`no cleaner of the group ${this.group.name} answers: it is cleaned when one is started again`);
    }
  }

  get #progress(): CleanProgress {
    const last = this.#last ?? { ...NOTHING, stored: 0, storedBytes: 0, liveBytes: 0, done: false, hindrance: "", hinderedMs: 0 };
    return { ...last, ...summed(this.#before, last) };
  }

  /** Undefined where nobody answers now. */
  async #ask(stop: boolean): Promise<Reply<"clean"> | undefined> {
    const request = { id: this.#id, group: this.group.id, until: this.#until, stop };
    try {
      this.#leader ??= await this.#connect();
      const { reply } = await this.#leader.call("clean", request, { deadlineMs: ANSWER_DEADLINE_MS });
      this.#last = reply;
      return reply;
    } catch (error) {
      if (!isDazzleError(error) || (error.retry === "never" && error.code !== "cancelled")) throw error;
      this.#leader?.close();
      this.#leader = null;
      this.#before = summed(this.#before, this.#last ?? NOTHING);
      this.#last = null;
      return undefined;
    }
  }

  async #connect(): Promise<RpcPeer> {
    this.#map = await newestMap(this.#reach).catch(() => this.#map);
    const leaders = leadersOf(this.#map, this.group.id);
    if (leaders.length === 0) throw failure("no member has the role cleaner: join a machine that has it");
    let reason: unknown;
    for (const id of leaders) {
      const address = this.#reach.near.get(id) ?? this.#map.members.find((row) => row.id === id)?.addresses[0];
      try {
        return await connectMember(address as Address, ANSWER_DEADLINE_MS);
      } catch (error) {
        reason = error;
      }
    }
    throw reason;
  }
}

const NOTHING: CleaningTally = { segments: 0, skipped: 0, bytesRead: 0, bytesWritten: 0, bytesWon: 0 };

export function summed(one: CleaningTally, other: CleaningTally): CleaningTally {
  return {
    segments: one.segments + other.segments,
    skipped: one.skipped + other.skipped,
    bytesRead: one.bytesRead + other.bytesRead,
    bytesWritten: one.bytesWritten + other.bytesWritten,
    bytesWon: one.bytesWon + other.bytesWon,
  };
}
