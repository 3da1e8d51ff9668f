import { type Empty, message } from "./row.ts";

/** What mounts answer to managers. */
export const MountMessage = {
  /** Give a token back, or down to shared: what is dirty under it is stable and applied, and the kernel has dropped it, when this is answered. */
  revoke: message<{ ino: number; keepShared: boolean }, Empty>({
    id: 50,
    since: 1,
    request: ["ino", "keepShared"],
    reply: [],
    idempotent: true,
  }),
  /** For tests and tools: make everything durable that was done before (`dazzle sync`). */
  syncMount: message<Empty, { sequence: number }>({ id: 51, since: 1, request: [], reply: ["sequence"], idempotent: true }),
} as const;
