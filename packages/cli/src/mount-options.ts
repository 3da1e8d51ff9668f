import type { EngineKind } from "@dazzle/fuse";
import { UsageError } from "./usage.ts";

const ENGINES = ["addon", "node", "auto"] as const satisfies readonly (EngineKind | "auto")[];

export interface MountFlags {
  readonly readOnly: boolean;
  readonly allowOther: boolean | undefined;
  readonly engine: EngineKind | "auto";
}

/** `-o` as mount(8) takes it: words between commas, the last one wins. */
export function mountFlags(options: readonly string[] | undefined, engine: string | undefined): MountFlags {
  let readOnly = false;
  let allowOther: boolean | undefined;
  for (const word of (options ?? []).flatMap((list) => list.split(","))) {
    if (word === "ro") readOnly = true;
    else if (word === "rw") readOnly = false;
    else if (word === "allow_other") allowOther = true;
    else if (word !== "defaults") throw new UsageError(`the mount option "${word}" is unknown: there are ro, rw, allow_other, defaults`);
  }
  return { readOnly, allowOther, engine: engineOf(engine) };
}

function engineOf(name = "auto"): EngineKind | "auto" {
  const engine = ENGINES.find((one) => one === name);
  if (engine === undefined) throw new UsageError(`--fuse-engine is one of ${ENGINES.join(", ")}, not "${name}"`);
  return engine;
}
