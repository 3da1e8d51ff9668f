import { DazzleError } from "@dazzle/core";
import type { Journal } from "../journal.ts";
import { type LogAccess, SEGMENTS_UNASKED } from "../log-access.ts";

/** Of the room, what a merge that begins may need: others write meanwhile. */
const BEGIN_SHARE = 3 / 4;
/** What may be written before the servers are asked again, if that is more: this share of the room beyond what is needed. */
const SPARE_SHARE = 1 / 64;

/** After a merge that was given up for lack of room so large a one is not begun: twice as long each time. */
const PAUSE_MS = 30_000;
const PAUSE_MAX_MS = 480_000;

/** The room for merges. What a merge reads is freed only when it is done, and what is sealed can't be taken back; so it is written while all that is left of it fits, and given up
 * before anything is placed that does not. */
export class MergeRoom {
  readonly #journal: Journal;
  readonly #logs: Pick<LogAccess, "room">;
  /** As last told, less what was written since. */
  #bytes = 0;
  /** Small merges are done also where there is no room to spare: else runs would pile up, one with each checkpoint. */
  #leastBytes = 0;
  /** Of the present merge, at most. */
  #leftBytes = 0;
  #unaskedBytes = 0;

  constructor(journal: Journal, logs: Pick<LogAccess, "room">) {
    this.#journal = journal;
    this.#logs = logs;
  }

  /** How large a merge may be that begins now; after `ask`. */
  get mergeBytes(): number {
    return Math.max(this.#leastBytes, BEGIN_SHARE * this.#bytes);
  }

  /** Asks the servers. What was written before is on them then. */
  async ask(): Promise<void> {
    await this.#journal.settle();
    const { bytes, leastBytes, segmentBytes } = await this.#logs.room(this.#journal.group);
    this.#bytes = bytes;
    this.#leastBytes = leastBytes;
    this.#unaskedBytes = Math.max(SEGMENTS_UNASKED * segmentBytes, SPARE_SHARE * (bytes - this.#leftBytes));
  }

  /** A merge that writes at most so many bytes. */
  begin(bytes: number): void {
    this.#leftBytes = bytes;
  }

  /** Before each record. Rejects `noSpace` where it is not to be written. */
  take(length: number): Promise<void> | undefined {
    if (length <= this.#unaskedBytes) {
      this.#spend(length);
      return undefined;
    }
    return this.ask().then(() => {
      if (Math.max(this.#bytes, this.#leastBytes) < Math.max(length, this.#leftBytes))
        throw new DazzleError("noSpace", `the servers have room for ${this.#bytes} bytes, and ${this.#leftBytes} are left to be written`);
      this.#spend(length);
    });
  }

  #spend(length: number): void {
    this.#bytes -= length;
    this.#leftBytes = Math.max(0, this.#leftBytes - length);
    this.#unaskedBytes -= length;
  }
}

/** How large merges may be, after one for which there was less room than it looked: who tries it over and over writes for nothing. */
export class MergeLimit {
  #givenUpBytes = Number.POSITIVE_INFINITY;
  #untilMs = 0;
  #pauseMs = PAUSE_MS;

  bytes(nowMs: number): number {
    return nowMs < this.#untilMs ? this.#givenUpBytes / 2 : Number.POSITIVE_INFINITY;
  }

  givenUp(bytes: number, nowMs: number): void {
    this.#givenUpBytes = bytes;
    this.#untilMs = nowMs + this.#pauseMs;
    this.#pauseMs = Math.min(PAUSE_MAX_MS, 2 * this.#pauseMs);
  }

  done(bytes: number): void {
    if (bytes >= this.#givenUpBytes) this.#pauseMs = PAUSE_MS;
  }
}
