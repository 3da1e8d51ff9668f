export { addonFailure, clockBoottimeMs, loadAddon, preadNowait, punchHole, shutdownFilesystem } from "./addon.ts";
export { abortAndUnmount, Watchdog, type WatchdogOptions } from "./connection.ts";
export type { Counters } from "./counters.ts";
export type { EngineKind } from "./engine.ts";
export { checkMount, type Mount, type MountOptions, mountFileSystem } from "./mount.ts";
export { MountError } from "./mount-error.ts";
export { findMount, type MountTableRow, mountTable } from "./mount-table.ts";
export type { Notifier } from "./notifier.ts";
