import type { Stats } from "node:fs";
import { type FileHandle, lstat, open } from "node:fs/promises";

const CALL_DEADLINE_MS = 60_000;

/** A call's outcome in a form that compares: its value, or the errno's name. */
export type Outcome = { readonly value: unknown } | { readonly errno: string };

/** Ends with an error where a call on a mount does not: nothing may hang. */
export async function outcomeOf(what: string, call: () => Promise<unknown>): Promise<Outcome> {
  let timer: NodeJS.Timeout | undefined;
  const hung = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} has not ended after ${CALL_DEADLINE_MS} ms`)), CALL_DEADLINE_MS);
  });
  try {
    return { value: await Promise.race([call(), hung]) };
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    // Both are allowed for a directory that is not empty.
    return { errno: code === "EEXIST" ? "ENOTEMPTY|EEXIST" : code === "ENOTEMPTY" ? "ENOTEMPTY|EEXIST" : code };
  } finally {
    clearTimeout(timer);
  }
}

export function same(one: Outcome, other: Outcome): boolean {
  return shown(one) === shown(other);
}

/** In one line; long bytes are cut in the middle by their length alone. */
export function shown(outcome: Outcome): string {
  return JSON.stringify(outcome, (_key, value: unknown) => {
    if (typeof value === "bigint") return `${value}n`;
    if (typeof value === "object" && value !== null && (value as { type?: unknown }).type === "Buffer")
      return Buffer.from(value as unknown as Buffer).toString("latin1");
    return value;
  });
}

/** What a model can know of a file: not its number nor its times. */
export function comparable(stats: Stats): unknown {
  const { mode, size, nlink } = stats;
  const directory = stats.isDirectory();
  return { mode: mode.toString(8), size: directory ? "a directory's" : size, nlink: directory ? "a directory's" : nlink };
}

/** All that two mounts must agree on. */
export async function identity(path: string): Promise<unknown> {
  const { ino, mode, size, nlink, uid, gid, mtimeNs, ctimeNs } = await lstat(path, { bigint: true });
  return { ino, mode, size, nlink, uid, gid, mtimeNs, ctimeNs };
}

export async function readAt(handle: FileHandle, position: number, length: number): Promise<string> {
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(length), 0, length, position);
  return buffer.toString("latin1", 0, bytesRead);
}

export async function writeWhole(path: string, flags: string | number, bytes: string, position: number | null): Promise<void> {
  const handle = await open(path, flags);
  try {
    await handle.write(bytes, position, "latin1");
  } finally {
    await handle.close();
  }
}
