import { parseArgs } from "node:util";
import { logText, ScenarioError } from "./scenario/outcome.ts";
import { OPERATIONS, runScenario } from "./scenario/scenario.ts";

const USAGE = "npm run sim -- [--seed N] [--seeds N] [--operations N] [--managers N] [--verbose]";

/** A whole number that an option gives. */
function whole(name: string, text: string): number {
  if (/^\d+$/.test(text)) return Number(text);
  console.error(`--${name} takes a whole number, not ${text}\n${USAGE}`);
  process.exit(2);
}

function readOptions() {
  try {
    const { values } = parseArgs({
      options: {
        seed: { type: "string", default: "1" },
        seeds: { type: "string", default: "1" },
        operations: { type: "string", default: String(OPERATIONS) },
        managers: { type: "string", default: "1" },
        verbose: { type: "boolean", default: false },
      },
    });
    return values;
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exit(2);
  }
}

const values = readOptions();
const first = whole("seed", values.seed);
const operations = whole("operations", values.operations);
const managers = whole("managers", values.managers);
const totals = new Map<string, number>();
let failed = 0;
for (let seed = first; seed < first + whole("seeds", values.seeds); seed++) {
  const onTrace = (line: string) => console.log(`  ${line}`);
  const onLog = (line: Parameters<typeof logText>[0]) => console.log(`    ${logText(line)}`);
  const onOperation = (line: string) => console.log(`      ${line}`);
  const startedMs = performance.now();
  try {
    const result = await runScenario({ seed, operations, managers, ...(values.verbose ? { onTrace, onLog, onOperation } : {}) });
    for (const [what, count] of result.counts) totals.set(what, (totals.get(what) ?? 0) + count);
    const tookMs = Math.round(performance.now() - startedMs);
    const fingerprint = result.fingerprint.toString(16);
    console.log(
      `seed ${seed} passed: ${operations} operations, ${Math.round(result.virtualMs)} ms simulated in ${tookMs} ms, ${fingerprint}`,
    );
  } catch (error) {
    if (!(error instanceof ScenarioError)) throw error;
    failed++;
    console.error(error.message);
  }
}
if (values.verbose) for (const [what, count] of [...totals].sort()) console.log(`${what} ${count}`);
if (failed > 0) console.error(`${failed} seeds failed`);
process.exitCode = failed > 0 ? 1 : 0;
