import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import { type Deferred, deferred } from "@dazzle/core";
import { processIdentity } from "@dazzle/runtime";
import { failure } from "./output.ts";
import { type Report, SUPERVISION_VARIABLE, type Supervision } from "./supervised.ts";

/** Threads for disk accesses: with parallel syncs 14 to 29% faster than the default of 4. */
const THREADS = "8";
/** Buffers received count as memory of the heap, which, small as it is, would be collected a hundred times a second. */
const HEAP_OPTION = "--initial-old-space-size=256";
const KILL_AFTER_MS = 2_000;

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** Another process of this program, in a session of its own, so that a Ctrl-C reaches only its starter. */
export class Child {
  readonly name: string;
  readonly pid: number;
  /** `Processes.self` of it. */
  readonly identity: string;
  readonly exited: Promise<Exit>;
  readonly #process: ChildProcess;
  readonly #ready: Deferred<Readonly<Record<string, unknown>>> = deferred();
  #running = true;

  /** Its output goes to the end of `logPath`. */
  static start(name: string, args: readonly string[], options: { readonly logPath: string; readonly supervision: Supervision }): Child {
    mkdirSync(dirname(options.logPath), { recursive: true });
    const log = openSync(options.logPath, "a", 0o600);
    try {
      const nodeArguments = process.execArgv.some((argument) => argument.startsWith("--initial-old-space-size"))
        ? process.execArgv
        : [...process.execArgv, HEAP_OPTION];
      const child = spawn(process.execPath, [...nodeArguments, process.argv[1] as string, ...args], {
        detached: true,
        stdio: ["ignore", log, log, "ipc"],
        env: { UV_THREADPOOL_SIZE: THREADS, ...process.env, [SUPERVISION_VARIABLE]: options.supervision },
      });
      return new Child(name, child, options.logPath);
    } finally {
      closeSync(log);
    }
  }

  private constructor(name: string, child: ChildProcess, logPath: string) {
    this.name = name;
    this.#process = child;
    this.pid = child.pid ?? 0;
    this.identity = processIdentity(this.pid) ?? "";
    this.exited = new Promise((resolve) => {
      child.once("error", (error) => {
        this.#ready.reject(failure(`${name} can't be started: ${error.message}`));
        resolve({ code: 1, signal: null });
      });
      child.once("exit", (code, signal) => {
        this.#running = false;
        this.#ready.reject(failure(`${name} ended before it was ready (${exitText({ code, signal })}): see ${logPath}`));
        resolve({ code, signal });
      });
    });
    child.on("message", (message: Report) => {
      if (message.type === "ready") this.#ready.resolve(message.fields);
      else this.#ready.reject(failure(message.line));
    });
  }

  get running(): boolean {
    return this.#running;
  }

  /** What it told when it was ready; rejects with its own line where it ended before. */
  get ready(): Promise<Readonly<Record<string, unknown>>> {
    return this.#ready.promise;
  }

  /** Lets it live on when this process ends. */
  leave(): void {
    if (this.#process.connected) this.#process.disconnect();
    this.#process.unref();
  }

  kill(signal: NodeJS.Signals): void {
    if (this.#running) this.#process.kill(signal);
  }

  /** Asks it to stop, and kills it after the deadline. Resolves to whether it ended by itself. */
  async stop(deadlineMs: number): Promise<boolean> {
    this.kill("SIGTERM");
    // A stopped process takes the signal only when it goes on.
    this.kill("SIGCONT");
    if (await endsWithin(this.exited, deadlineMs)) return true;
    this.kill("SIGKILL");
    await endsWithin(this.exited, KILL_AFTER_MS);
    return false;
  }
}

async function endsWithin(exited: Promise<unknown>, deadlineMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    timer = setTimeout(resolve, deadlineMs, false);
  });
  const ended = await Promise.race([exited.then(() => true), late]);
  clearTimeout(timer);
  return ended;
}

export function exitText({ code, signal }: Exit): string {
  return signal === null ? `exit status ${code}` : `signal ${signal}`;
}
