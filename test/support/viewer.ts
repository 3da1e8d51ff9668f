import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { start } from "./run.ts";
import { until } from "./until.ts";
import { isRunning, signal, type Workspace } from "./workspace.ts";

/** A file as a process sees it that had it open and mapped before. */
export interface View {
  readonly size: number;
  readonly links: number;
  readonly mode: number;
  readonly read: string;
  readonly mapped: string;
}

/** A process that holds a file open and mapped (`view` in tool.c). */
export class Viewer {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor(workspace: Workspace, tool: string, path: string) {
    this.#child = start(tool, ["view", path], { environment: workspace.environment }, ["pipe", "pipe", "inherit"]);
    if (this.#child.stdout === null) throw new Error("a viewer answers");
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** One at a time. */
  async look(): Promise<View> {
    this.#child.stdin?.write("\n");
    const { value, done } = await this.#lines.next();
    if (done) throw new Error("the viewer ended");
    const [size, links, mode, read, mapped] = value.split(" ") as [string, string, string, string, string];
    const text = (hexadecimal: string) => Buffer.from(hexadecimal, "hex").toString("latin1");
    return { size: Number(size), links: Number(links), mode: Number.parseInt(mode, 8), read: text(read), mapped: text(mapped) };
  }

  async close(): Promise<void> {
    const { pid } = this.#child;
    if (pid === undefined) return;
    signal(pid, "SIGKILL");
    await until("a viewer to be gone", 30_000, () => !isRunning(pid));
  }
}
