export { isAnother } from "./admitted-store.ts";
export { type DepartureStatus, takerOf } from "./departure.ts";
export { isTakenOut } from "./leaving.ts";
export { type Genesis, MachineNode, type MachineNodeOptions } from "./machine-node.ts";
export type { RebuildStatus } from "./rebuild.ts";
export type { ScrubStatus } from "./scrub.ts";
export { waitingServers } from "./spare-servers.ts";
