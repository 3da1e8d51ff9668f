/** The longest begin first, so that none of them runs alone at the end. */
const LONGEST = /\/seeds-\d+\.test\.ts$/;

export default {
  files: ["packages/*/test/**/*.test.ts", "test/**/*.test.ts"],
  extensions: { ts: "module" },
  nodeArguments: ["--import=tsx", "--conditions=dazzle-source"],
  workerThreads: false,
  timeout: "10m",
  concurrency: 2,
  sortTestFiles: (one, other) => Number(LONGEST.test(other)) - Number(LONGEST.test(one)) || (one < other ? -1 : 1),
};
