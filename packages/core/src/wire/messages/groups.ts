import { message } from "./row.ts";

/** What is asked of a stripe group. Members by name. */
export interface GroupChange {
  readonly group: string;
  readonly change: "create" | "add" | "remove" | "replace" | "parity";
  /** `create`: all, `add` and `remove`: one, `replace`: the old and the new, `parity`: none. */
  readonly servers: readonly string[];
  /** For `create` and `parity`. */
  readonly parity: number;
  /** Also where less parity is left than before, or segments are lost. */
  readonly force: boolean;
}

/** Stripe groups while they are used. */
export const GroupMessage = {
  /** Any member puts the group's new version into the map; what lies under older ones is moved in the background. Answers the group's current version: as it was
   * where that was done before and things are still being moved. `lost`: how many segments are lost with the store that a server had which is replaced by itself, -1
   * where nobody can tell. Rejects `invalid`, `exists`, `notFound` and `unreachable`, with what is in the way. */
  changeGroup: message<GroupChange, { version: number; lost: number }>({
    id: 110,
    since: 1,
    request: ["group", "change", "servers", "parity", "force"],
    reply: ["version", "lost"],
    idempotent: true,
  }),
  /** As `changeGroup` with `create`, for a group of at most so many data fragments. (A row of its own: who does not know of that must not make another group.) */
  createGroup: message<{ group: string; servers: readonly string[]; parity: number; data: number }, { version: number; lost: number }>({
    id: 112,
    since: 1,
    request: ["group", "servers", "parity", "data"],
    reply: ["version", "lost"],
    idempotent: true,
  }),
  /** The operator's word that what a server stores never comes back: its groups go on without it, and nobody waits for it. The member may stay. Answers how many
   * segments are lost with it, -1 where nobody can tell, also where that was done before and what is left is still being moved. Rejects `invalid` where somebody reaches it, where it is a group's last, and, but for `force`, where
   * segments are lost or a group has less parity without it. */
  declareLost: message<{ server: string; force: boolean }, { lost: number }>({
    id: 69,
    since: 1,
    request: ["server", "force"],
    reply: ["lost"],
    idempotent: true,
  }),
  /** Of how many segments the asked server holds something under an obsolete version that may still be needed. 0 stays 0. `vouched`: it had no others; false where
   * something of the group's logs rotted there that nobody can name. Rejects `notReady` while it has not looked, `diskFailed` where it can't look. */
  heldUnder: message<{ group: number; version: number }, { store: string; segments: number; vouched: boolean }>({
    id: 116,
    since: 1,
    request: ["group", "version"],
    reply: ["store", "segments", "vouched"],
    idempotent: true,
  }),
} as const;
