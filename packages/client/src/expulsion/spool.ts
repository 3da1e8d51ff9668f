import { type Disk, isDazzleError } from "@dazzle/core";
import type { Unsaved, UnsavedFile } from "./unsaved.ts";

/** A file system takes no path that is much longer. */
const PATH_BYTES_MAX = 3_000;
const LIST_FILE = "what-was-lost.txt";

export interface Spooled {
  readonly files: number;
  readonly bytes: number;
  readonly names: number;
}

/** Keeps what a mount could not save, for people: `LOG/what-was-lost.txt` lists it, and `LOG/files/PATH` holds the written ranges of a file at
 * their places, zeros between them. */
export async function writeSpool(disk: Disk, log: number, title: string, unsaved: Unsaved): Promise<Spooled> {
  const directory = String(log);
  const lines: string[] = [title, ""];
  let [files, bytes] = [0, 0];
  for (const path of unsaved.made) lines.push(`made     ${readable(path)}`);
  for (const path of unsaved.removed) lines.push(`removed  ${readable(path)}`);
  for (const file of unsaved.files) {
    if (file.ranges.length === 0) {
      lines.push(`changed  ${readable(file.path)} (its attributes or its size: ${file.size} bytes)`);
      continue;
    }
    const place = await writeFile(disk, directory, file, files);
    const ranges = file.ranges.map((range) => `${range.offset}-${range.offset + range.bytes.byteLength - 1}`);
    lines.push(`wrote    ${readable(file.path)}: bytes ${ranges.join(", ")} of ${file.size}, kept in ${place}`);
    files++;
    for (const range of file.ranges) bytes += range.bytes.byteLength;
  }
  await disk.makeDirectory(directory);
  await disk.replace(`${directory}/${LIST_FILE}`, Buffer.from(`${lines.join("\n")}\n`));
  return { files, bytes, names: unsaved.made.length + unsaved.removed.length };
}

async function writeFile(disk: Disk, directory: string, file: UnsavedFile, number: number): Promise<string> {
  const path = `files/${readable(file.path)}`;
  try {
    if (Buffer.byteLength(path) > PATH_BYTES_MAX) return await write(disk, directory, `by-number/${number}`, file);
    return await write(disk, directory, path, file);
  } catch (error) {
    // A name that this disk can't have, or a directory where a file was before.
    if (!isDazzleError(error, "diskFailed", "invalid", "nameTooLong", "notDirectory", "isDirectory", "exists")) throw error;
    return await write(disk, directory, `by-number/${number}`, file);
  }
}

async function write(disk: Disk, directory: string, path: string, file: UnsavedFile): Promise<string> {
  const full = `${directory}/${path}`;
  const parent = full.slice(0, full.lastIndexOf("/"));
  await disk.makeDirectory(parent);
  const opened = await disk.open(full, { create: true });
  try {
    for (const { offset, bytes } of file.ranges) await opened.write([bytes], offset);
    await opened.truncate(file.size);
    await opened.sync();
  } finally {
    await opened.close();
  }
  await disk.syncDirectory(parent);
  return path;
}

/** A path as text: names are bytes, and those that are no UTF-8, or would break a line, are shown by their numbers. */
function readable(path: string): string {
  const bytes = Buffer.from(path, "latin1");
  const text = bytes.toString("utf8");
  const isText = Buffer.from(text, "utf8").equals(bytes);
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what it looks for
  const unwanted = isText ? /[\x00-\x1f\x7f%]/g : /[\x00-\x1f\x7f-\xff%]/g;
  return (isText ? text : path).replace(unwanted, (character) => `%${character.charCodeAt(0).toString(16).padStart(2, "0")}`);
}
