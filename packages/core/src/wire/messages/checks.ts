import { type Empty, message } from "./row.ts";

/** What managers answer to who checks the filesystem. */
export const CheckMessage = {
  /** What a slot's imap holds behind the key `after` ("": from the first) and before `to` ("": to the last), in key order, at most `limit` entries and about
   * as much as a message should carry; `more`: there is another page. Keys are latin1. Tail of the reply: a block of a sorted run. A page is not of one
   * moment: each entry is as it was at some time after the request came. Rejects `staleMap` where the slot is not here. */
  imapPage: message<{ slot: number; after: string; to: string; limit: number }, { more: boolean }>({
    id: 71,
    since: 1,
    request: ["slot", "after", "to", "limit"],
    reply: ["more"],
    idempotent: true,
  }),
  /** By log, as far as this manager knows: the last sequence that any slot here has applied, and up to where the log is trimmed. The manager's own log is
   * among them. What the manager had applied when it was asked is in its stable log when it answers. */
  logProgress: message<Empty, { logs: readonly number[]; applied: readonly number[]; trimmedTo: readonly number[] }>({
    id: 72,
    since: 1,
    request: [],
    reply: ["logs", "applied", "trimmedTo"],
    idempotent: true,
  }),
  /** The segments of managers' logs in which sorted runs of the slots here lie, ascending by log. */
  runSegments: message<Empty, { logs: readonly number[]; sequences: readonly number[] }>({
    id: 73,
    since: 1,
    request: [],
    reply: ["logs", "sequences"],
    idempotent: true,
  }),
  /** Puts entries of a slot's imap, as one logged record, where all of them still are as they were seen: none changes where one does not. `ino`: whose tokens are taken back before,
   * so that nobody has a part in it who does not see it; 0: nobody's. `seen` and `put` are lengths of values, by key, -1: no such entry. Keys are latin1. The tail has what was
   * seen, and then what is put, one value behind the other. Answers when it is stable. Rejects `staleMap`, `badMessage`, and `timedOut` where a token does not come back. */
  amend: message<
    { ino: number; slot: number; keys: readonly string[]; seen: readonly number[]; put: readonly number[] },
    { done: boolean }
  >({
    id: 86,
    since: 1,
    request: ["ino", "slot", "keys", "seen", "put"],
    reply: ["done"],
    idempotent: true,
  }),
} as const;
