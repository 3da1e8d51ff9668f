/** The longest begin first, so that none of them runs alone at the end. */
const LONGEST = /\/seeds-\d+\.test\.ts$/;

/** Less work on threads beside the main one: six seeds of 500 operations took a quarter less of the processors. */
const SPARING = ["--single-threaded-gc", "--max-semi-space-size=32", "--always-sparkplug", "--interrupt-budget=400000"];

export default {
  files: ["packages/*/test/**/*.test.ts", "test/**/*.test.ts"],
  extensions: { ts: "module" },
  nodeArguments: ["--import=tsx", "--conditions=dazzle-source", ...SPARING],
  workerThreads: false,
  timeout: "10m",
  concurrency: 2,
  sortTestFiles: (one, other) => Number(LONGEST.test(other)) - Number(LONGEST.test(one)) || (one < other ? -1 : 1),
};
