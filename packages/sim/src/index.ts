export * from "./clock.ts";
export { type Disguise, SimCluster, type SimMount } from "./cluster.ts";
export * from "./counters.ts";
export * from "./disk.ts";
export * from "./drive.ts";
export { MismatchError } from "./model/checks.ts";
export { describe, History, pathsOf, type Recovery, RecoveryError } from "./model/history.ts";
export { differences, type Observed, observe } from "./model/observed.ts";
export { apply, initialState, MODEL_ROOT, type ModelNode, type NodeId, type Operation, Refused, type State } from "./model/state.ts";
export { Workload } from "./model/workload.ts";
export { type Action, DEFAULT_WEIGHTS, type WorkloadOptions } from "./model/workload-options.ts";
export * from "./network.ts";
export * from "./process.ts";
export * from "./random.ts";
export { DISTURBANCES, type Disturbance } from "./scenario/disturbances.ts";
export { SMALL_LIMITS } from "./scenario/limits.ts";
export {
  CRASHES,
  type Crash,
  runScenario,
  ScenarioError,
  type ScenarioOptions,
  type ScenarioResult,
} from "./scenario/scenario.ts";
export * from "./world.ts";
