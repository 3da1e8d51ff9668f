import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import test from "ava";

const MODEL = fileURLToPath(new URL("../model/register.pml", import.meta.url));
const DEPTH = "-m100000";
/** The model has no end: a keeper that is sent nothing more waits. */
const NO_END = "-E";
const run = promisify(execFile);

/** What the model with these definitions does in all its interleavings: what is asserted and fails, if something does, and how many states there are. */
async function check(rounds: number, ...definitions: string[]): Promise<{ failed: string | undefined; states: number }> {
  const cwd = mkdtempSync(join(tmpdir(), "dazzle-model-"));
  try {
    await run("spin", ["-a", `-DROUNDS=${rounds}`, ...definitions.map((name) => `-D${name}`), MODEL], { cwd });
    await run("cc", ["-O1", "-w", "-DSAFETY", "-DMEMLIM=2048", "-o", "pan", "pan.c"], { cwd });
    const { stdout } = await run(join(cwd, "pan"), [DEPTH, NO_END], { cwd, maxBuffer: 2 ** 24 }).catch(
      (error) => error as { stdout: string },
    );
    const states = Number(/(\d+) states, stored/.exec(stdout)?.[1]);
    const failed = /pan:1: assertion violated (.*) \(at depth/.exec(stdout)?.[1];
    const isWhole = !/Search not completed|max search depth too small/.test(stdout);
    if (!/errors: \d/.test(stdout) || (failed === undefined && !(isWhole && /errors: 0/.test(stdout)))) throw new Error(stdout);
    return { failed, states };
  } finally {
    rmSync(cwd, { recursive: true });
  }
}

test.serial("the register is one line of maps in every interleaving of its model, whose keepers change", async (t) => {
  t.timeout(1_200_000);
  const { failed, states } = await check(3);
  t.is(failed, undefined);
  t.true(states > 100_000);
});

test.serial("what the model's reader takes for decided is, and is of now", async (t) => {
  t.timeout(600_000);
  const { failed, states } = await check(2, "READER");
  t.is(failed, undefined);
  t.true(states > 100_000);
});

for (const [bug, rounds, definitions, what] of [
  ["a keeper answers before its promise is on disk", 3, ["FORGETS"], /line/],
  ["the new keepers decide the joint map without the former ones", 3, ["ALONE"], /line/],
  ["a map follows one that is not known to be decided", 3, ["HASTE"], /line/],
  ["a reader takes the first answer", 2, ["READER", "CREDULOUS"], /floor/],
] as const) {
  test.serial(`planted in the model, this is found: ${bug}`, async (t) => {
    t.timeout(600_000);
    t.regex((await check(rounds, ...definitions)).failed ?? "nothing", what);
  });
}
