import { type Empty, message } from "./row.ts";

/** What managers answer to cleaners. None of these needs a lock: a client's write always wins (rule 25). */
export const CleaningMessage = {
  /** The cleaner's log is trimmed up to here: everything that was to move into it is answered. Told to every manager. */
  cleanerTrimmed: message<{ log: number; trimmedTo: number }, Empty>({
    id: 23,
    since: 1,
    request: ["log", "trimmedTo"],
    reply: [],
    idempotent: true,
  }),
  /** Segments of a log, by sequence after `after`, at most `limit`, with the bytes that the asked manager's slots name of each. It speaks for `slots`, under these
   * `terms`, and with the map of that version. `trimmedTo`: up to where the log is trimmed, as far as it knows. */
  liveBytes: message<
    { log: number; after: number; limit: number },
    {
      readonly version: number;
      readonly trimmedTo: number;
      readonly more: boolean;
      readonly sequences: readonly number[];
      readonly bytes: readonly number[];
      readonly slots: readonly number[];
      readonly terms: readonly number[];
    }
  >({
    id: 24,
    since: 1,
    request: ["log", "after", "limit"],
    reply: ["version", "trimmedTo", "more", "sequences", "bytes", "slots", "terms"],
    idempotent: true,
  }),
  /** Which of these pieces of a segment files still have. Tail: `packPieces`; of the reply too, cut to what is still there. Rejects `staleMap` where a
   * slot is not here. */
  stillAt: message<{ log: number; sequence: number }, Empty>({
    id: 25,
    since: 1,
    request: ["log", "sequence"],
    reply: [],
    idempotent: true,
  }),
  /** Moves blocks into a stable segment of a cleaner's log, each where it still is at its old address. Tail: `packMoves`. Answered when that is stable, with the bytes that are
   * named there now. Some may be moved where it rejects: `staleMap` where a slot is not here, `expelled` where the log is not live, `invalid` where its
   * segment is trimmed. `trimmedTo`: as for `cleanerTrimmed`, of this log. */
  relocate: message<{ log: number; sequence: number; group: number; groupVersion: number; trimmedTo: number }, { readonly bytes: number }>({
    id: 26,
    since: 1,
    request: ["log", "sequence", "group", "groupVersion", "trimmedTo"],
    reply: ["bytes"],
    idempotent: true,
  }),
} as const;
