import type { ChildProcess } from "node:child_process";
import { ok, type RunOptions, start } from "./run.ts";

export const REPOSITORY = new URL("../..", import.meta.url).pathname;

/** Of node, to run a TypeScript file of the tests in `REPOSITORY`. */
export function nodeArguments(file: string, args: readonly string[]): string[] {
  return [`--import=${import.meta.resolve("tsx")}`, "--conditions=dazzle-source", file, ...args];
}

/** Runs a TypeScript file of the tests in a process of its own and answers its standard output. */
export function script(file: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  return ok(process.execPath, nodeArguments(file, args), { cwd: REPOSITORY, ...options });
}

/** The same, beside the test: standard input and output are pipes. */
export function startScript(file: string, args: readonly string[], options: RunOptions = {}): ChildProcess {
  return start(process.execPath, nodeArguments(file, args), { cwd: REPOSITORY, ...options }, ["pipe", "pipe", "inherit"]);
}
