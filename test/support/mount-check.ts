import type { ExecutionContext } from "ava";
import type { Cluster } from "./cluster.ts";

export type Context = ExecutionContext<unknown>;

export interface Files {
  readonly cluster: Cluster;
  readonly tool: string;
  /** A new directory in the mount. */
  directory(name: string): Promise<string>;
}

export type Check = (title: string, body: (t: Context, files: Files) => Promise<void>) => void;
