import {
  appendFileSync,
  closeSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  renameSync,
  rmdirSync,
  statSync,
  unlinkSync,
} from "node:fs";
import { join } from "node:path";

/** hammer.ts DIRECTORY SEED COUNT: so many operations on few names, of which many fail as they must. Prints what failed otherwise. */
const [root = "", seedText = "", countText = ""] = process.argv.slice(2);
const EXPECTED = new Set(["ENOENT", "EEXIST", "ENOTDIR", "EISDIR", "ENOTEMPTY", "EPERM", "EINVAL"]);
/** What is removed again and again by others between being found and being looked at. libuv has no name for it. */
const ESTALE = 116;
const buffer = Buffer.alloc(10_000);
let state = Number(seedText);

function below(bound: number): number {
  state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
  return (state >>> 8) % bound;
}

function path(): string {
  return join(root, below(2) === 0 ? "p" : "q", "abc"[below(3)] as string);
}

const OPERATIONS: ReadonlyArray<() => unknown> = [
  () => closeSync(openSync(path(), "a")),
  () => mkdirSync(path()),
  () => rmdirSync(path()),
  () => unlinkSync(path()),
  () => renameSync(path(), path()),
  () => linkSync(path(), path()),
  () => readdirSync(join(root, "p"), { withFileTypes: true }).map(({ name }) => statSync(join(root, "p", name))),
  () => statSync(path()),
  () => appendFileSync(path(), "more\n"),
  () => {
    const file = openSync(join(root, "p"), "r");
    closeSync(file);
  },
  () => {
    const file = openSync(path(), "r");
    try {
      readSync(file, buffer, 0, buffer.length, 0);
    } finally {
      closeSync(file);
    }
  },
];

for (let count = Number(countText); count > 0; count--) {
  const index = below(OPERATIONS.length);
  try {
    OPERATIONS[index]?.();
  } catch (error) {
    const { code = "", errno } = error as NodeJS.ErrnoException;
    if (!EXPECTED.has(code) && errno !== -ESTALE) console.log(`operation ${index}: ${String(error)}`);
  }
}
