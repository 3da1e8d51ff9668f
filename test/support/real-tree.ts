import { cpSync, existsSync, mkdirSync, readdirSync, realpathSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { randomFrom } from "./operations.ts";

const REPOSITORY = new URL("../..", import.meta.url).pathname;
const SOURCES = ["/usr/include", join(REPOSITORY, "node_modules"), "/usr/share/perl5", "/usr/share/doc"];

export interface TreeSize {
  files: number;
  bytes: number;
}

/** Makes a tree of at least so many files and bytes out of what the machine has, topped up with made files. */
export function makeRealTree(target: string, least: TreeSize): TreeSize {
  mkdirSync(target, { recursive: true });
  const size = { files: 0, bytes: 0 };
  for (const source of SOURCES) {
    if (size.files >= least.files && size.bytes >= least.bytes) return size;
    if (!existsSync(source)) continue;
    const copy = join(target, source.replaceAll("/", "_"));
    cpSync(realpathSync(source), copy, { recursive: true, verbatimSymlinks: true });
    add(size, sizeOf(copy));
  }
  add(size, makeFiles(join(target, "made"), { files: least.files - size.files, bytes: least.bytes - size.bytes }));
  return size;
}

/** Files of many sizes, most of them small, as source trees have them. */
export function makeFiles(target: string, least: TreeSize): TreeSize {
  const random = randomFrom(1);
  const size = { files: 0, bytes: 0 };
  while (size.files < least.files || size.bytes < least.bytes) {
    const folder = join(target, `part-${size.files % 37}`, `section-${size.files % 11}`);
    mkdirSync(folder, { recursive: true });
    const bytes = random(20) === 0 ? random(1024 * 1024) : random(24 * 1024);
    writeFileSync(join(folder, `file-${size.files}.txt`), Buffer.alloc(bytes, `made file ${size.files}, ${bytes} bytes\n`));
    add(size, { files: 1, bytes });
  }
  return size;
}

function sizeOf(root: string): TreeSize {
  const size = { files: 0, bytes: 0 };
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) add(size, { files: 1, bytes: statSync(join(entry.parentPath, entry.name)).size });
  }
  return size;
}

function add(to: TreeSize, size: TreeSize): void {
  to.files += size.files;
  to.bytes += size.bytes;
}
