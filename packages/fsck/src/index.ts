export { type FsckOptions, type FsckReport, fsck, type OnProgress } from "./fsck.ts";
export { type Finding, Problem, type Subject, type Suspicion } from "./problems.ts";
export type { Depth } from "./stripes.ts";
