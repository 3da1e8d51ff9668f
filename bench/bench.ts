import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Cluster } from "../test/support/cluster.ts";
import { ok, start } from "../test/support/run.ts";
import { compile } from "../test/support/tool.ts";
import { Workspace } from "../test/support/workspace.ts";
import type { BenchOptions } from "./options.ts";
import { ProcessorClock, type ProcessorTime } from "./processor-time.ts";
import type { Figure } from "./report.ts";

const LOAD_TIMEOUT_MS = 3_600_000;

export interface Loop {
  readonly done: number;
  readonly seconds: number;
}

export interface Latencies {
  readonly medianMs: number;
  readonly p99Ms: number;
  readonly maxMs: number;
}

/** What the phases share: the cluster, a directory on the local disk beside it, the loops in C, and the figures so far. */
export class Bench {
  readonly options: BenchOptions;
  readonly workspace: Workspace;
  readonly cluster: Cluster;
  readonly localDirectory: string;
  readonly figures: Figure[] = [];
  readonly #load: string;

  private constructor(options: BenchOptions, workspace: Workspace, load: string) {
    this.options = options;
    this.workspace = workspace;
    this.cluster = new Cluster(workspace, { nodes: options.nodes, ...(options.engine === undefined ? {} : { engine: options.engine }) });
    this.localDirectory = workspace.directory("local");
    this.#load = load;
  }

  static async start(options: BenchOptions): Promise<Bench> {
    const bench = new Bench(options, new Workspace(options.parent), await compile(join(import.meta.dirname, "load.c"), ["-lpthread"]));
    await bench.cluster.up();
    return bench;
  }

  /** A new directory in the mount, or on the local disk. */
  directory(side: "dazzle" | "local", name: string): string {
    const path = join(side === "dazzle" ? this.cluster.mountpoint : this.localDirectory, name);
    mkdirSync(path);
    return path;
  }

  async loop(...args: (string | number)[]): Promise<Loop> {
    return JSON.parse(await ok(this.#load, args.map(String), { timeoutMs: LOAD_TIMEOUT_MS })) as Loop;
  }

  async append(path: string, count: number): Promise<Latencies> {
    return JSON.parse(await ok(this.#load, ["append", path, String(count)], { timeoutMs: LOAD_TIMEOUT_MS })) as Latencies;
  }

  /** The share of one CPU that a spinning process gets: how far the figures can be trusted. */
  async share(): Promise<number> {
    return (JSON.parse(await ok(this.#load, ["spin", "0.5"])) as { share: number }).share;
  }

  /** Runs `body` while a file is written over and over. */
  async beside<T>(path: string, mib: number, body: () => Promise<T>): Promise<T> {
    const child = start(this.#load, ["stream", path, String(mib)], { environment: this.workspace.environment }, "ignore");
    const ended = new Promise((resolve) => child.once("exit", resolve));
    try {
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      return await body();
    } finally {
      child.kill("SIGKILL");
      await ended;
    }
  }

  /** CPU seconds of the cluster's processes while `body` runs. */
  async clocked<T>(body: () => Promise<T>): Promise<{ result: T; processorTime: ProcessorTime }> {
    const clock = await ProcessorClock.start(this.cluster);
    const result = await body();
    return { result, processorTime: clock.read() };
  }

  figure(row: Partial<Figure> & Pick<Figure, "workload" | "unit" | "better" | "dazzle">): void {
    this.figures.push({ local: [], goal: undefined, peer: undefined, processorTime: undefined, bytes: undefined, ...row });
  }
}

export function progress(line: string): void {
  process.stderr.write(`${line}\n`);
}
