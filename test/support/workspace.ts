import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, realpathSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { requirePrograms, requireRoot } from "./programs.ts";

const MARK = "DAZZLE_TEST_ROOT";

/** A test's directory, and the promise that nothing in it outlives the test: a janitor process removes its processes, mounts, loop
 * devices and files at `close`, and also where the test was killed. */
export class Workspace {
  readonly path: string;
  readonly #janitor: ChildProcess;

  constructor(parent = tmpdir()) {
    requireRoot();
    requirePrograms("mount");
    this.path = mkdtempSync(join(realpathSync(parent), "dazzle-test-"));
    chmodSync(this.path, 0o755);
    const script = join(import.meta.dirname, "janitor.sh");
    this.#janitor = spawn("bash", [script, this.path], { stdio: ["pipe", "ignore", "ignore"], detached: true, cwd: "/" });
    this.#janitor.unref();
  }

  /** For the environment of every process started in the test. */
  get environment(): Record<string, string> {
    return { [MARK]: this.path };
  }

  file(...parts: string[]): string {
    return join(this.path, ...parts);
  }

  directory(...parts: string[]): string {
    const path = this.file(...parts);
    mkdirSync(path, { recursive: true });
    return path;
  }

  close(): Promise<void> {
    return new Promise((resolve) => {
      this.#janitor.ref();
      this.#janitor.once("exit", () => resolve());
      this.#janitor.stdin?.end();
    });
  }
}

/** The live processes that were started with this variable in their environment, or by one that was. */
export function processesWith(variable: string, value: string): number[] {
  const wanted = `${variable}=${value}`;
  const found: number[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(name)) continue;
    try {
      if (readFileSync(`/proc/${name}/environ`, "latin1").split("\0").includes(wanted)) found.push(Number(name));
    } catch {
      // It ended while we looked.
    }
  }
  return found;
}

export function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, "latin1"));
  } catch {
    return false;
  }
}

export function residentBytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
  if (line === null) throw new Error(`process ${pid} has no resident memory`);
  return Number(line[1]) * 1024;
}

/** Sends a signal where the process is still there. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // Gone already.
  }
}
