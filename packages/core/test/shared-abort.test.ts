import { setImmediate } from "node:timers/promises";
import { sharedAbort } from "@dazzle/core";
import test from "ava";

test("any number of requests listen for one end, and nothing is said about it", async (t) => {
  const warnings: Error[] = [];
  process.on("warning", (warning) => warnings.push(warning));
  const { signal } = sharedAbort();
  for (let index = 0; index < 100; index++) signal.addEventListener("abort", () => {});
  await setImmediate();
  t.deepEqual(warnings, []);
});
