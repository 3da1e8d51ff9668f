import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";

export interface RunOptions {
  readonly timeoutMs?: number;
  readonly cwd?: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly input?: string | Buffer;
  /** "ignore" throws standard output away. */
  readonly output?: "ignore";
  readonly uid?: number;
  readonly gid?: number;
}

export interface Result {
  /** Null where the command was killed. */
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
  readonly elapsedMs: number;
}

const TIMEOUT_MS = 120_000;

/** Runs a command to its end, or kills its process group at the time-out. Answers even where the killed command hangs in the
 * kernel, as one that waits for a filesystem which does not answer may. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<Result> {
  const started = performance.now();
  const child = start(command, args, options, ["pipe", options.output ?? "pipe", "pipe"]);
  const stdout: Buffer[] = [];
  const stderr: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => stdout.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => stderr.push(chunk));
  child.stdin?.on("error", () => {});
  child.stdin?.end(options.input ?? "");
  return new Promise((resolve, reject) => {
    let timedOut = false;
    const finish = (code: number | null) => {
      clearTimeout(timer);
      resolve({
        code,
        stdout: Buffer.concat(stdout).toString(),
        stderr: Buffer.concat(stderr).toString(),
        timedOut,
        elapsedMs: performance.now() - started,
      });
    };
    const timer = setTimeout(() => {
      timedOut = true;
      signalGroup(child, "SIGKILL");
      setTimeout(() => finish(null), 1_000).unref();
    }, options.timeoutMs ?? TIMEOUT_MS);
    child.on("error", reject);
    child.on("close", finish);
  });
}

/** As `run`; throws with what the command said where it fails. Answers its standard output. */
export async function ok(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const result = await run(command, args, options);
  if (result.code === 0) return result.stdout;
  const end = result.timedOut ? `did not end within ${options.timeoutMs ?? TIMEOUT_MS} ms` : `exit code ${result.code}`;
  throw new Error(`${[command, ...args].join(" ").slice(0, 500)}: ${end}\n${result.stdout.slice(-2_000)}\n${result.stderr.slice(-4_000)}`);
}

/** A command that goes on beside the test, in a process group of its own. */
export function start(command: string, args: readonly string[], options: RunOptions, stdio: SpawnOptions["stdio"]): ChildProcess {
  return spawn(command, args, {
    stdio,
    detached: true,
    env: { ...process.env, ...options.environment },
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.uid === undefined ? {} : { uid: options.uid }),
    ...(options.gid === undefined ? {} : { gid: options.gid }),
  });
}

export function signalGroup(child: ChildProcess, signal: NodeJS.Signals): void {
  if (child.pid === undefined || child.exitCode !== null) return;
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It ended in between.
  }
}
