export { type Candidate, type Choice, choose, oldestFirst, type Policy, shortageOf } from "./policy.ts";
