import { type Empty, message } from "./row.ts";

/** What mounts answer to managers. */
export const MountMessage = {
  /** Give a token back, or down to shared: what is dirty under it is stable and applied, and the kernel has dropped it, when this is answered.
   * Another mount wants regions `from` to `to` (all of the file but for a writer of a part): a mount that writes beside those may keep the range
   * that it answers; an empty one is nothing. `grant` counts the manager's revokes: what it granted under a lower count, and is not here yet, is
   * void. Answers whether the mount has the file open. */
  revoke: message<
    { ino: number; keepShared: boolean; from: number; to: number; slot: number; term: number; grant: number },
    { open: boolean; from: number; to: number }
  >({
    id: 22,
    since: 1,
    request: ["ino", "keepShared", "from", "to", "slot", "term", "grant"],
    reply: ["open", "from", "to"],
    idempotent: true,
  }),
  /** Whether the mount is changing the first of these objects just now: then the tail is its index node. Answers which of them all it has shared from now
   * on: those that are applied, and not in use. `grant`: as for `revoke`. */
  peekHolder: message<
    { inos: readonly number[]; slot: number; term: number; grant: number },
    { changing: boolean; shared: readonly number[] }
  >({
    id: 58,
    since: 1,
    request: ["inos", "slot", "term", "grant"],
    reply: ["changing", "shared"],
    idempotent: true,
  }),
  /** From another mount: bytes of a segment, as the tail, that are in this mount's memory. `checksum`: of all of them. Rejects `fragmentMissing` where they
   * are not. */
  peerRead: message<{ log: number; sequence: number; offset: number; length: number }, { checksum: number }>({
    id: 52,
    since: 1,
    request: ["log", "sequence", "offset", "length"],
    reply: ["checksum"],
    idempotent: true,
  }),
  /** For tests and tools: make everything durable that was done before (`dazzle sync`). */
  syncMount: message<Empty, { sequence: number }>({ id: 51, since: 1, request: [], reply: ["sequence"], idempotent: true }),
  /** From a slot's new owner: it opens the slot under this term, and waits for the mount's `claims` and what it has unstable there. Answered at once. */
  slotOpening: message<{ slot: number; term: number }, Empty>({ id: 53, since: 1, request: ["slot", "term"], reply: [], idempotent: true }),
} as const;
