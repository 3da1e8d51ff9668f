import type { ChildProcess } from "node:child_process";
import { readFileSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import type { ClusterMachine } from "./machine-cluster.ts";
import { checkPrefix } from "./operations.ts";
import { readTree } from "./operations-reader.ts";
import { signalGroup } from "./run.ts";
import { startScript } from "./script.ts";
import { isRunning, type Workspace } from "./workspace.ts";

const WRITER = new URL("./operations-writer.ts", import.meta.url).pathname;

/** A tree of files that somebody writes at a mount, of which every byte and every name is known, and what of it must survive. */
export class Load {
  readonly name: string;
  readonly seed: number;
  readonly #list: string;
  readonly #writer: ChildProcess;
  /** Operations that have returned, once they are known to be durable. */
  #returned = 0;

  private constructor(name: string, seed: number, list: string, writer: ChildProcess) {
    this.name = name;
    this.seed = seed;
    this.#list = list;
    this.#writer = writer;
  }

  static async begin(workspace: Workspace, machine: ClusterMachine, seed: number): Promise<Load> {
    const name = `load-${seed}`;
    await mkdir(machine.path(name));
    const list = workspace.file(`${name}.list`);
    const args = [machine.path(name), list, String(seed)];
    return new Load(name, seed, list, startScript(WRITER, args, { environment: workspace.environment }));
  }

  /** Why an operation failed, where one has. */
  get failure(): string | undefined {
    return /^failed .*$/m.exec(this.#text)?.[0];
  }

  get running(): boolean {
    return isRunning(this.#writer.pid as number);
  }

  get operations(): number {
    return this.#last("begun");
  }

  /** Operations up to this one must be there. */
  get least(): number {
    return Math.max(this.#returned, this.#last("synced"));
  }

  /** Ends the writer. */
  async end(): Promise<void> {
    const ended = new Promise<void>((resolve) => {
      if (this.#writer.exitCode !== null || this.#writer.signalCode !== null) resolve();
      else this.#writer.once("exit", () => resolve());
    });
    signalGroup(this.#writer, "SIGKILL");
    await ended;
  }

  /** Everything that has returned is durable. */
  allSynced(): void {
    this.#returned = Math.max(0, this.operations - 1);
  }

  /** Looks at the tree at any mount. Answers what is wrong; "": nothing. Rejects where it can't be read. */
  async check(machine: ClusterMachine): Promise<string> {
    return checkPrefix(this.seed, await readTree(machine.path(this.name), this.seed), this.least, this.operations).complaint;
  }

  get #text(): string {
    try {
      return readFileSync(this.#list, "latin1");
    } catch {
      return "";
    }
  }

  #last(word: string): number {
    const text = this.#text;
    const at = text.lastIndexOf(`${word} `);
    return at < 0 ? 0 : Number(text.slice(at).split(/\s/)[1]);
  }
}
