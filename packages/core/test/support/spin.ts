import { execFile } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const DEPTH = "-m1000000";
const MEMORY_MIB = 2_000;
const run = promisify(execFile);

export interface Checked {
  /** The first thing that fails in some interleaving, in pan's words; undefined: nothing does. */
  readonly failed: string | undefined;
  /** How many states were looked at. */
  readonly states: number;
}

/** What a model in Promela with these definitions (`NAME` or `NAME=value`) does in all its interleavings: what is asserted, and, unless `ends` is false, that nobody
 * waits for ever but where the model says so. Rejects where not all of them could be tried. */
export function checkSafety(model: URL, definitions: readonly string[] = [], { ends = false } = {}): Promise<Checked> {
  return check(model, definitions, ["-DSAFETY"], ends ? [] : ["-E"]);
}

/** Whether every fair execution passes through a state labelled `progress` again and again: a process that can always go on does. */
export function checkProgress(model: URL, definitions: readonly string[] = []): Promise<Checked> {
  return check(model, definitions, ["-DNP", "-DNFAIR=3"], ["-l", "-f"]);
}

async function check(model: URL, definitions: readonly string[], compile: readonly string[], options: readonly string[]): Promise<Checked> {
  const cwd = mkdtempSync(join(tmpdir(), "dazzle-model-"));
  try {
    await run("spin", ["-a", ...definitions.map((name) => `-D${name}`), fileURLToPath(model)], { cwd });
    await run("cc", ["-O1", "-w", ...compile, `-DMEMLIM=${MEMORY_MIB}`, "-o", "pan", "pan.c"], { cwd });
    const { stdout } = await run(join(cwd, "pan"), [DEPTH, ...options], { cwd, maxBuffer: 2 ** 24 }).catch(
      (error) => error as { stdout: string },
    );
    const failed = /^pan:1: (.*?) \(at depth/m.exec(stdout)?.[1];
    const isWhole = !/Search not completed|max search depth too small/.test(stdout);
    if (!/errors: \d/.test(stdout) || (failed === undefined && !(isWhole && /errors: 0/.test(stdout)))) throw new Error(stdout);
    return { failed, states: Number(/(\d+) states, stored/.exec(stdout)?.[1]) };
  } finally {
    rmSync(cwd, { recursive: true });
  }
}
