import { type Empty, message } from "./row.ts";

/** What every member answers. */
export const MemberMessage = {
  /** The first request on a connection. `clusterId` is "" where the caller is to learn it, `member` 0 where it is none. Rejects `wrongCluster`,
   * `wrongVersion`. */
  hello: message<{ clusterId: string; protocol: number; member: number; process: string }, { clusterId: string; member: number }>({
    id: 1,
    since: 1,
    request: ["clusterId", "protocol", "member", "process"],
    reply: ["clusterId", "member"],
    idempotent: true,
  }),

  /** Whether it is certain that a process of that member's machine is gone. */
  vouchGone: message<{ process: string }, { gone: boolean }>({ id: 60, since: 1, request: ["process"], reply: ["gone"], idempotent: true }),
  /** Whether the member asked reaches a storage server's store, and its disk is not stalled: asked by a writer that gets nowhere with it (rule 32). */
  reaches: message<{ member: number; store: string }, { reached: boolean }>({
    id: 61,
    since: 1,
    request: ["member", "store"],
    reply: ["reached"],
    idempotent: true,
  }),
  /** One role's state, for people: a JSON document. */
  status: message<Empty, { document: unknown }>({ id: 62, since: 1, request: [], reply: ["document"], idempotent: true }),
  /** Is anybody there: answered by the connection itself, whatever its process is busy with. */
  ping: message<Empty, Empty>({ id: 63, since: 1, request: [], reply: [], idempotent: true }),
  /** A machine becomes a member, by compare-and-swap. Rejects `exists` where the name or an address is in use, `notReady` while the
   * cluster has no group yet. */
  join: message<{ name: string; addresses: readonly string[]; roles: readonly string[] }, { member: number }>({
    id: 64,
    since: 1,
    request: ["name", "addresses", "roles"],
    reply: ["member"],
    idempotent: false,
  }),
  /** A member begins to leave; that member does the rest itself. Rejects `invalid` where it can't, with what is in the way; `force`: also where the group
   * has less parity without it. */
  leave: message<{ member: number; force: boolean }, Empty>({
    id: 65,
    since: 1,
    request: ["member", "force"],
    reply: [],
    idempotent: true,
  }),
  /** A member that has begun to leave stays. Rejects `invalid` where it does not leave. */
  stay: message<{ member: number }, Empty>({ id: 66, since: 1, request: ["member"], reply: [], idempotent: true }),
  /** Any member begins to take out one that never answers again: what that stored is rebuilt from the others. Answers how many segments are lost with
   * it. Rejects `invalid` where somebody reaches it, where the others can't do without it, and, but for `force`, where segments are lost or the group has
   * less parity without it. */
  takeOut: message<{ member: number; force: boolean }, { lost: number }>({
    id: 67,
    since: 1,
    request: ["member", "force"],
    reply: ["lost"],
    idempotent: true,
  }),
} as const;
