import type { LockRange } from "../../filesystem.ts";
import type { LockKind } from "../../held-locks.ts";
import { type Empty, message } from "./row.ts";

/** A lock that a mount's process holds. `owner` is the kernel's name of it, in hexadecimal. */
export interface LockRow {
  readonly kind: LockKind;
  readonly owner: string;
  readonly start: number;
  readonly end: number;
  readonly write: boolean;
  readonly pid: number;
}

/** A lock that it waits for. `number`: of the request that asked. */
export interface WaitRow extends LockRow {
  readonly number: number;
}

/** All that a mount holds and waits for on one file, as of its request `number`. */
export interface DeclaredLocks {
  readonly ino: number;
  readonly number: number;
  readonly held: readonly LockRow[];
  readonly waits: readonly WaitRow[];
}

/** `conflict` and `deadlock` change nothing, but that flock's lock is lost when it can't be converted at once. */
export type LockOutcome = "granted" | "waiting" | "conflict" | "deadlock";

/** Advisory locks. A mount has one request about a file under way at a time, and numbers its requests. What a manager
 * does to a mount's locks of a file happened in the order of `order`. */
export const LockMessage = {
  /** Takes, changes or drops a lock. `delegated`: until `returnLocks` the mount decides about the file's locks itself. */
  lock: message<
    {
      mount: number;
      ino: number;
      number: number;
      kind: LockKind;
      owner: string;
      start: number;
      end: number;
      type: LockRange["type"];
      pid: number;
      wait: boolean;
    },
    { outcome: LockOutcome; order: number; delegated: boolean }
  >({
    id: 46,
    since: 1,
    request: ["mount", "ino", "number", "kind", "owner", "start", "end", "type", "pid", "wait"],
    reply: ["outcome", "order", "delegated"],
    idempotent: true,
  }),
  /** The first of fcntl's locks that is in the way; `unlock` where there is none. `pid` 0: of another mount's process. */
  testLock: message<
    { mount: number; ino: number; owner: string; start: number; end: number; type: LockRange["type"] },
    { start: number; end: number; type: LockRange["type"]; pid: number }
  >({
    id: 47,
    since: 1,
    request: ["mount", "ino", "owner", "start", "end", "type"],
    reply: ["start", "end", "type", "pid"],
    idempotent: true,
  }),
  /** What the mount holds and waits for on these files, and nothing else: whatever it was granted beyond is free. Comes first
   * after the mount has opened, then of all its files; `more`: another message goes on. Rejects `staleMap` where the manager has not all of them. */
  declareLocks: message<{ mount: number; files: readonly DeclaredLocks[]; more: boolean }, Empty>({
    id: 91,
    since: 1,
    request: ["mount", "files", "more"],
    reply: [],
    idempotent: true,
  }),
  /** To the mount: its request `number`, last declared by `declared`, has its lock. Ignored where it does not wait any more. */
  lockGranted: message<{ ino: number; number: number; declared: number; order: number; slot: number; term: number }, Empty>({
    id: 55,
    since: 1,
    request: ["ino", "number", "declared", "order", "slot", "term"],
    reply: [],
    idempotent: true,
  }),
  /** To the mount: from now on the manager decides about the file's locks. Answers those that the mount's processes hold. */
  returnLocks: message<{ ino: number; slot: number; term: number }, { held: readonly LockRow[] }>({
    id: 56,
    since: 1,
    request: ["ino", "slot", "term"],
    reply: ["held"],
    idempotent: true,
  }),
} as const;
