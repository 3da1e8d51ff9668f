export * from "./fragment.ts";
export * from "./fragment-store.ts";
export * from "./handlers.ts";
export * from "./reaches.ts";
export * from "./record-header.ts";
export * from "./self-admission.ts";
export * from "./stored-bytes.ts";
export type { DamagedFragment, Upkeep, UpkeepTarget } from "./upkeep.ts";
