import { mkdir, open, stat } from "node:fs/promises";
import { dirname } from "node:path";

/** Makes a directory and those that lead to it; what it made is durable when it resolves. Node's own recursive mkdir never returns where the parent exists and refuses
 * with ENOENT, as /proc does. */
export async function makePath(path: string, mode: number): Promise<void> {
  try {
    await make(path, mode);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && (await stat(path)).isDirectory()) return;
    if (code !== "ENOENT" || dirname(path) === path) throw error;
    await makePath(dirname(path), mode);
    await make(path, mode).catch((again: NodeJS.ErrnoException) => {
      if (again.code !== "EEXIST") throw again;
    });
  }
}

async function make(path: string, mode: number): Promise<void> {
  await mkdir(path, { mode });
  const parent = await open(dirname(path), "r");
  try {
    await parent.sync();
  } finally {
    await parent.close();
  }
}
