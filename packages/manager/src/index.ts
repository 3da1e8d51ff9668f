export { managerHandlers } from "./handlers.ts";
export { type LogAccess, stripedLogs } from "./log-access.ts";
export { Manager, type ManagerOptions } from "./manager.ts";
export { Acceptor, FIRST_BALLOT } from "./map/acceptor.ts";
export { keeperHandlers } from "./map/handlers.ts";
export { initialMap } from "./map/initial-map.ts";
export { type ManagerStatus, managerStatus } from "./status.ts";
