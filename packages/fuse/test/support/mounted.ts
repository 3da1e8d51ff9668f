import { spawn } from "node:child_process";
import { mkdtemp, rmdir } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FileSystem } from "@dazzle/core";
import type { ExecutionContext } from "ava";
import { type EngineKind, type Mount, type MountOptions, mountFileSystem } from "../../src/index.ts";

/** A directory of its own for each test, removed at its end; whatever is mounted there must be unmounted before. */
export async function temporaryDirectory(t: ExecutionContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "dazzle-fuse-"));
  t.teardown(() => rmdir(directory).catch(() => {}));
  return directory;
}

/** Mounts on the engine and makes sure that it is that one. Unmounted at the end of the test, however it ends. */
export async function mounted(
  t: ExecutionContext,
  engine: EngineKind,
  fileSystem: FileSystem,
  options: Partial<MountOptions> = {},
): Promise<{ mount: Mount; root: string; log: string[] }> {
  const directory = await temporaryDirectory(t);
  const log: string[] = [];
  const mountpoint = join(directory, "mount");
  const mount = await mountFileSystem(fileSystem, { mountpoint, engine, log: (line) => log.push(line), ...options });
  t.teardown(async () => {
    await mount.unmount();
    await rmdir(mountpoint);
  });
  t.is(mount.engine, engine);
  t.true(mount.connection > 0);
  return { mount, root: mountpoint, log };
}

export interface Outcome {
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly output: string;
  readonly errors: string;
}

export interface Running {
  readonly pid: number;
  readonly done: Promise<Outcome>;
  kill(signal: NodeJS.Signals): void;
  /** Resolves when the program has printed this. */
  printed(text: string): Promise<void>;
}

/** Starts a program. Operations on a mount are done by another process: this one must stay free to answer them. `cwd` must not be in a mount
 * of this process: spawn waits until the child has entered it. */
export function start(program: string, args: readonly string[], cwd = "/"): Running {
  const child = spawn(program, args, { cwd, stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let errors = "";
  let waiting: Array<{ text: string; resolve: () => void }> = [];
  child.stdout.setEncoding("utf8").on("data", (text: string) => {
    output += text;
    waiting = waiting.filter((wait) => {
      if (output.includes(wait.text)) wait.resolve();
      return !output.includes(wait.text);
    });
  });
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    errors += text;
  });
  const done = new Promise<Outcome>((resolve, reject) => {
    child.on("error", (error: NodeJS.ErrnoException) => {
      reject(error.code === "ENOENT" ? new Error(`the test needs the program ${program}`) : error);
    });
    child.on("close", (status, signal) => resolve({ status, signal, output, errors }));
  });
  return {
    pid: child.pid ?? 0,
    done,
    kill: (signal) => child.kill(signal),
    printed: async (text) => {
      if (output.includes(text)) return;
      const printed = new Promise<void>((resolve) => waiting.push({ text, resolve }));
      const ended = done.then((outcome) =>
        Promise.reject(new Error(`${program} ended without printing "${text}": ${JSON.stringify(outcome)}`)),
      );
      await Promise.race([printed, ended]);
    },
  };
}

export async function run(program: string, args: readonly string[], cwd = "/"): Promise<string> {
  const { status, signal, output, errors } = await start(program, args, cwd).done;
  if (status !== 0) throw new Error(`${program} ended with ${status ?? signal}: ${errors}`);
  return output;
}

/** Runs the function's source in another Node process, with `fs` to work with. Its result comes back as JSON. */
export async function elsewhere<Parameters extends unknown[], Result>(
  work: (fs: typeof import("node:fs"), ...parameters: Parameters) => Result,
  ...parameters: Parameters
): Promise<Awaited<Result>> {
  return JSON.parse(await run(process.execPath, ["-e", sourceOf(work, parameters)])) as Awaited<Result>;
}

/** The same, still running: it tells where it is with `console.log`. */
export function startElsewhere<Parameters extends unknown[]>(
  work: (fs: typeof import("node:fs"), ...parameters: Parameters) => unknown,
  ...parameters: Parameters
): Running {
  return start(process.execPath, ["-e", sourceOf(work, parameters)]);
}

function sourceOf(work: (...parameters: never[]) => unknown, parameters: unknown[]): string {
  // esbuild marks the names of functions with a helper of its own.
  return `
    globalThis.__name = (value) => value;
    Promise.resolve((${work.toString()})(require("node:fs"), ...${JSON.stringify(parameters)}))
      .then((result) => process.stdout.write(JSON.stringify(result ?? null) + "\\n"), (error) => { console.error(error); process.exit(1); });
  `;
}

/** Resolves once the condition holds; the runner's time limit ends a test in which it never does. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}
