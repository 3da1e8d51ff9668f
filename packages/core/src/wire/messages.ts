import { CheckMessage } from "./messages/checks.ts";
import { CleanerMessage } from "./messages/cleaners.ts";
import { CleaningMessage } from "./messages/cleaning.ts";
import { GroupMessage } from "./messages/groups.ts";
import { KeeperMessage } from "./messages/keepers.ts";
import { LockMessage } from "./messages/locks.ts";
import { ManagerMessage } from "./messages/managers.ts";
import { MemberMessage } from "./messages/members.ts";
import { MountMessage } from "./messages/mounts.ts";
import type { MessageRow } from "./messages/row.ts";
import { StorageMessage } from "./messages/storage.ts";

export const PROTOCOL_VERSION = 1;

/** Every message there is. Numbers are never reused. */
export const Message = {
  ...MemberMessage,
  ...KeeperMessage,
  ...StorageMessage,
  ...ManagerMessage,
  ...MountMessage,
  ...LockMessage,
  ...CheckMessage,
  ...CleanerMessage,
  ...CleaningMessage,
  ...GroupMessage,
} as const;

export type { CleaningTally } from "./messages/cleaners.ts";
export type { GroupChange } from "./messages/groups.ts";
export type { Vote } from "./messages/keepers.ts";
export type { DeclaredLocks, LockOutcome, LockRow, WaitRow } from "./messages/locks.ts";
export type { SlotsProgress } from "./messages/managers.ts";
export type { MessageRow } from "./messages/row.ts";
export type { Durability, ListedFragment, StoreStatus } from "./messages/storage.ts";

export type MessageName = keyof typeof Message;
export type Request<Name extends MessageName> =
  (typeof Message)[Name] extends MessageRow<infer Shape extends object, infer _Reply> ? Shape : never;
export type Reply<Name extends MessageName> =
  (typeof Message)[Name] extends MessageRow<infer _Request, infer Shape extends object> ? Shape : never;
