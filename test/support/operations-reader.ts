import { type Dirent, readdirSync, readFileSync } from "node:fs";
import { join, relative } from "node:path";
import { GRANULE_BYTES, operationOf, type Tree } from "./operations.ts";
import { script } from "./script.ts";

/** The tree below `root` in the checker's terms, read by a process of its own. */
export async function readTree(root: string, seed: number): Promise<Tree> {
  const text = await script(import.meta.filename, [root, String(seed)], { timeoutMs: 300_000 });
  return new Map(JSON.parse(text) as [string, readonly number[] | null][]);
}

export function readTreeNow(root: string, seed: number): Tree {
  const tree: Tree = new Map();
  for (const entry of entriesBelow(root)) {
    const path = join(entry.parentPath, entry.name);
    tree.set(relative(root, path), entry.isDirectory() ? null : granulesOf(readFileSync(path), seed));
  }
  return tree;
}

/** None where `root` is not there: a mount that was killed at once had not made it durable, and whoever knows that something had been says so. */
function entriesBelow(root: string): Dirent[] {
  try {
    return readdirSync(root, { recursive: true, withFileTypes: true });
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" && path === root) return [];
    throw error;
  }
}

function granulesOf(bytes: Buffer, seed: number): number[] {
  const granules = [];
  for (let at = 0; at < bytes.length; at += GRANULE_BYTES) {
    granules.push(operationOf(seed, bytes.subarray(at, at + GRANULE_BYTES), at / GRANULE_BYTES));
  }
  return granules;
}

if (process.argv[1] === import.meta.filename) {
  const [root = "", seed = ""] = process.argv.slice(2);
  process.stdout.write(JSON.stringify([...readTreeNow(root, Number(seed))]));
}
