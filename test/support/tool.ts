import { createHash } from "node:crypto";
import { existsSync, readFileSync, renameSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { requirePrograms } from "./programs.ts";
import { ok } from "./run.ts";

/** The C helper (tool.c), compiled at its first use; the binary is named by the source's hash, so a changed source is compiled anew. */
export function tool(): Promise<string> {
  return compile(join(import.meta.dirname, "tool.c"));
}

/** The library that takes fdatasync out of a process (no-sync.c), for LD_PRELOAD. */
export function noSyncLibrary(): Promise<string> {
  return compile(join(import.meta.dirname, "no-sync.c"), ["-shared", "-fPIC"]);
}

/** Compiles a C file, once, and answers the path of what came out. */
export async function compile(source: string, flags: readonly string[] = []): Promise<string> {
  requirePrograms("cc");
  const digest = createHash("sha256").update(readFileSync(source)).digest("hex").slice(0, 16);
  const target = join(tmpdir(), `dazzle-${basename(source, ".c")}-${digest}`);
  if (existsSync(target)) return target;
  const building = `${target}.${process.pid}`;
  await ok("cc", ["-O2", "-Wall", ...flags, "-o", building, source, "-ldl", "-lpthread"]);
  renameSync(building, target);
  return target;
}
