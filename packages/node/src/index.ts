export { type Genesis, MachineNode, type MachineNodeOptions } from "./machine-node.ts";
