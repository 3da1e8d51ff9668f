import type { ExecutionContext } from "ava";
import type { Result } from "./run.ts";

/** One clear line on standard error, without a stack, and the exit code. */
export function refuses(t: ExecutionContext<unknown>, result: Result, code: number, says: RegExp): void {
  t.false(result.timedOut, "it ends");
  const lines = result.stderr.trimEnd().split("\n");
  t.is(lines.length, 1, result.stderr);
  t.regex(lines[0] as string, says);
  t.notRegex(result.stderr, /^\s+at |node:internal|\[object/m);
  t.is(result.code, code, result.stderr);
}
