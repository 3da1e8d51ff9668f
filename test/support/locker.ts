import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { start } from "./run.ts";
import { until } from "./until.ts";
import { isRunning, signal, type Workspace } from "./workspace.ts";

/** A process that takes and drops locks as it is told. Its requests are lines of `locks` in tool.c. */
export class Locker {
  readonly #child: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  constructor(workspace: Workspace, tool: string) {
    this.#child = start(tool, ["locks"], { environment: workspace.environment }, ["pipe", "pipe", "inherit"]);
    if (this.#child.stdout === null) throw new Error("a locker answers");
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  get #pid(): number {
    if (this.#child.pid === undefined) throw new Error("the locker did not start");
    return this.#child.pid;
  }

  /** One request; resolves with its answer, "ended" where the process ends. One at a time. */
  async ask(request: string): Promise<string> {
    this.#child.stdin?.write(`${request}\n`);
    const { value, done } = await this.#answers.next();
    return done ? "ended" : value;
  }

  interrupt(): void {
    signal(this.#pid, "SIGUSR1");
  }

  async kill(): Promise<void> {
    signal(this.#pid, "SIGKILL");
    await until("a locker to be gone", 30_000, () => !isRunning(this.#pid));
  }
}
