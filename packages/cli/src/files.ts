import { readFile } from "node:fs/promises";
import { dirname } from "node:path";
import { openDisk } from "@dazzle/runtime";
import { failure } from "./output.ts";

/** A JSON file of ours; undefined where there is none. */
export async function readJson(path: string): Promise<Record<string, unknown> | undefined> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw failure(`${path} can't be read: ${message}`);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  } catch {
    // Told below, with the path.
  }
  throw failure(`${path} is damaged: it is no JSON object`);
}

/** Replaces the file whole, durably. */
export async function writeJson(path: string, value: object): Promise<void> {
  const directory = dirname(path);
  const disk = await openDisk(directory);
  await disk.replace(path.slice(directory.length + 1), Buffer.from(`${JSON.stringify(value, undefined, 2)}\n`));
}
