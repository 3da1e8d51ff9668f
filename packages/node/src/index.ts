export type { DepartureStatus } from "./leaving.ts";
export { type Genesis, MachineNode, type MachineNodeOptions } from "./machine-node.ts";
export type { ScrubStatus } from "./scrub.ts";
