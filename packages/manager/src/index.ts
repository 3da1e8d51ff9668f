export { managerHandlers } from "./handlers.ts";
export { type LogAccess, stripedLogs } from "./log-access.ts";
export { Manager, type ManagerOptions } from "./manager.ts";
export { checkMap, checkSuccessor } from "./map/check-map.ts";
export { initialMap } from "./map/initial-map.ts";
export { keeperHandlers } from "./map/keeper-handlers.ts";
export { LocalMapStore } from "./map/local-map-store.ts";
export { type ManagerStatus, managerStatus } from "./status.ts";
