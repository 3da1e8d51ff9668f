import { type Empty, message } from "./row.ts";

/** What every member answers. */
export const MemberMessage = {
  hello: message<{ clusterId: string; protocol: number; member: number; process: string }, { clusterId: string; member: number }>({
    id: 1,
    since: 1,
    request: ["clusterId", "protocol", "member", "process"],
    reply: ["clusterId", "member"],
    idempotent: true,
  }),

  /** Whether it is certain that a process of that member's machine is gone. */
  vouchGone: message<{ process: string }, { gone: boolean }>({ id: 60, since: 1, request: ["process"], reply: ["gone"], idempotent: true }),
  /** Whether the member asked reaches a storage server's store, asked by a writer that does not (PROTOCOL rule 32). */
  reaches: message<{ member: number; store: string }, { reached: boolean }>({
    id: 61,
    since: 1,
    request: ["member", "store"],
    reply: ["reached"],
    idempotent: true,
  }),
  /** One role's state, for people: a JSON document. */
  status: message<Empty, { document: unknown }>({ id: 62, since: 1, request: [], reply: ["document"], idempotent: true }),
} as const;
