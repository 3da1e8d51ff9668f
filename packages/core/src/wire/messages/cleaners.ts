import { message } from "./row.ts";

/** What a cleaner did with segments. Bytes are of payloads, without parity. */
export interface CleaningTally {
  /** Segments of which nothing lives any more. */
  readonly segments: number;
  /** Segments that could not be cleaned. */
  readonly skipped: number;
  readonly bytesRead: number;
  /** What its own segments took, with their summaries. */
  readonly bytesWritten: number;
  /** What the cleaned segments took, less what was written. */
  readonly bytesWon: number;
}

/** What cleaners answer. */
export const CleanerMessage = {
  /** A group's leader has segments of the group cleaned. Answered when everything that lived in them has moved, with what could not: those are left as
   * they are. `groupVersions` is a hint, by segment; `skippedRetry`, by skipped segment: trying it again soon can help. What is full, so that moving it would win nothing, is left as
   * it is as well, but for `always`, by segment. Rejects `notReady` where the member can't clean now. */
  cleanSegments: message<
    {
      group: number;
      logs: readonly number[];
      sequences: readonly number[];
      groupVersions: readonly number[];
      always: readonly boolean[];
    },
    {
      bytesRead: number;
      bytesWritten: number;
      skippedLogs: readonly number[];
      skippedSequences: readonly number[];
      skippedRetry: readonly boolean[];
      fullLogs: readonly number[];
      fullSequences: readonly number[];
    }
  >({
    id: 115,
    since: 1,
    request: ["group", "logs", "sequences", "groupVersions", "always"],
    reply: ["bytesRead", "bytesWritten", "skippedLogs", "skippedSequences", "skippedRetry", "fullLogs", "fullSequences"],
    idempotent: true,
  }),
  /** Asks the leader of a group to clean without pauses, until `until` of what its segments take lives or nothing is left to win. `id` names who asks, who
   * must say so again every few seconds; `stop`: not any more. Several may ask at once. Answers how far it is since that `id` first asked here;
   * where nothing was cleaned or looked at for `hinderedMs` up to when that was last tried, `hindrance` says why. */
  clean: message<
    { id: string; group: number; until: number; stop: boolean },
    CleaningTally & { stored: number; storedBytes: number; liveBytes: number; done: boolean; hindrance: string; hinderedMs: number }
  >({
    id: 114,
    since: 1,
    request: ["id", "group", "until", "stop"],
    reply: [
      "segments",
      "skipped",
      "bytesRead",
      "bytesWritten",
      "bytesWon",
      "stored",
      "storedBytes",
      "liveBytes",
      "done",
      "hindrance",
      "hinderedMs",
    ],
    idempotent: true,
  }),
} as const;
