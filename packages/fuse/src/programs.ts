import { type StdioOptions, spawn } from "node:child_process";

export interface ProgramResult {
  /** Undefined: the program isn't there. */
  readonly status: number | undefined;
  readonly errors: string;
}

/** Runs a program to its end. Never synchronously: while it runs, this process answers its own mount's requests. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: { inherit?: number; env?: Record<string, string> } = {},
): Promise<ProgramResult> {
  // A descriptor to inherit becomes the child's third.
  const stdio: StdioOptions = options.inherit === undefined ? ["ignore", "ignore", "pipe"] : ["ignore", "ignore", "pipe", options.inherit];
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { stdio, env: { ...process.env, LC_ALL: "C", ...options.env } });
    let errors = "";
    child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      errors = (errors + text).slice(0, 4096);
    });
    child.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") resolve({ status: undefined, errors: "" });
      else reject(error);
    });
    child.on("close", (status) => resolve({ status: status ?? 128, errors: errors.trim().replaceAll("\n", "; ") }));
  });
}
