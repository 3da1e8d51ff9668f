export type { DepartureStatus } from "./leaving.ts";
export { type Genesis, MachineNode, type MachineNodeOptions } from "./machine-node.ts";
