import { signalGroup } from "./run.ts";
import { startScript } from "./script.ts";
import type { StreamReport } from "./stream-writer.ts";
import type { Workspace } from "./workspace.ts";

const WRITER = new URL("./stream-writer.ts", import.meta.url).pathname;

/** A writer or reader of one large file, in a process of its own. */
export class Stream {
  readonly report: Promise<StreamReport>;
  readonly #waiters: { mib: number; resolve: () => void }[] = [];
  #writtenMib = 0;
  #lastMoveMs = performance.now();

  static write(workspace: Workspace, path: string, mib: number, mibPerSecond = 1_000_000): Stream {
    return new Stream(workspace, ["write", path, String(mib), String(mibPerSecond)]);
  }

  static read(workspace: Workspace, path: string): Promise<StreamReport> {
    return new Stream(workspace, ["read", path]).report;
  }

  private constructor(workspace: Workspace, args: readonly string[], timeoutMs = 300_000) {
    const child = startScript(WRITER, args, { environment: workspace.environment });
    let text = "";
    child.stdin?.end();
    child.stdout?.on("data", (chunk: Buffer) => {
      text += chunk.toString();
      this.#moveTo(Number(/at (\d+)\n(?![\s\S]*at \d+\n)/.exec(text)?.[1] ?? 0));
    });
    this.report = new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        signalGroup(child, "SIGKILL");
        reject(new Error(`${args.join(" ")}: not done within ${timeoutMs} ms, ${this.#writtenMib} MiB were`));
      }, timeoutMs);
      child.once("close", (code) => {
        clearTimeout(timer);
        for (const { resolve: release } of this.#waiters) release();
        const line = text.trim().split("\n").pop() ?? "";
        if (line.startsWith("{")) resolve(JSON.parse(line) as StreamReport);
        else reject(new Error(`${args.join(" ")} ended with ${code}`));
      });
    });
    this.report.catch(() => {});
  }

  /** How long ago the last 16 MiB were done. */
  get stillMs(): number {
    return performance.now() - this.#lastMoveMs;
  }

  get writtenMib(): number {
    return this.#writtenMib;
  }

  /** Resolves when so much is written, or at the end. */
  reached(mib: number): Promise<void> {
    if (this.#writtenMib >= mib) return Promise.resolve();
    return new Promise((resolve) => this.#waiters.push({ mib, resolve }));
  }

  #moveTo(mib: number): void {
    if (mib <= this.#writtenMib) return;
    this.#writtenMib = mib;
    this.#lastMoveMs = performance.now();
    for (const waiter of this.#waiters) if (waiter.mib <= mib) waiter.resolve();
  }
}
