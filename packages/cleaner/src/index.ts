export { Cleaner } from "./cleaner.ts";
export { type GroupCleaning, type LeaderState, utilisation, writeCost } from "./group-leader.ts";
export { type Candidate, type Choice, choose, oldestFirst, type Policy, shortageOf } from "./policy.ts";
export { Shortage } from "./shortage.ts";
export type { Stock } from "./survey.ts";
