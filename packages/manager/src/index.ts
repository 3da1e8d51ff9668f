export { managerHandlers } from "./handlers.ts";
export type { Imap } from "./imap/imap.ts";
export {
  behindKey,
  behindPrefix,
  EntryKind,
  FIRST_KEY,
  idKey,
  KEYS_END,
  keyId,
  keyName,
  keyNumber,
  nameKey,
  numberKey,
} from "./imap/keys.ts";
export { LiveCount, type MiscountedSegment } from "./imap/live-count.ts";
export { RunBlock } from "./imap/run-block.ts";
export { packEntry, packLive, unpackEntry, unpackLive } from "./imap/values.ts";
export { type LogAccess, type ReadableLogs, stripedLogs } from "./log-access.ts";
export { Manager, type ManagerOptions } from "./manager.ts";
export { Acceptor, FIRST_BALLOT } from "./map/acceptor.ts";
export { keeperHandlers } from "./map/handlers.ts";
export { initialMap } from "./map/initial-map.ts";
export { keeperCandidates, wantedKeepers, withFormerKeepersRetired, withKeepersAsked, withKeepersJoined } from "./map/keeper-set.ts";
export { LeaseBook } from "./map/lease-book.ts";
export { type LeaseOptions, leaseLeftMs, leaseOver, ManagerLease } from "./map/manager-lease.ts";
export { loggedImaps } from "./shard/logged-imaps.ts";
export { type ManagerStatus, managerStatus } from "./status.ts";
