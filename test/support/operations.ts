/** Numbered operations on a tree, all of them following from a seed: a writer carries them out, a checker knows what the tree is after
 * each. Every 1 KiB that is written says which operation wrote it, so that a file read back tells where each part of it comes from. */

export const GRANULE_BYTES = 1024;

export type Operation =
  | { readonly type: "mkdir" | "create" | "unlink"; readonly path: string }
  | { readonly type: "rename"; readonly path: string; readonly to: string }
  | { readonly type: "write"; readonly path: string; readonly granule: number; readonly count: number }
  | { readonly type: "truncate"; readonly path: string; readonly granules: number }
  | { readonly type: "fsync"; readonly path: string };

/** A file as the numbers of the operations that wrote its granules; a directory as null. */
export type Tree = Map<string, readonly number[] | null>;

/** What is seen where no operation's bytes are. */
export const ZEROS = -1;
export const GARBAGE = -2;

const FOLDERS = 8;
const FILES_MAX = 400;
const FILE_GRANULES_MAX = 8 * 1024;

export function randomFrom(seed: number): (bound: number) => number {
  let state = (seed ^ 0x9e3779b9) >>> 0;
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound;
  };
}

/** The operations of a seed, one after the other, numbered from 1; `tree` is what they have led to. */
export class OperationStream {
  readonly tree: Tree = new Map();
  number = 0;
  readonly #random: (bound: number) => number;
  readonly #files: string[] = [];
  #sinceSync = 0;

  constructor(seed: number) {
    this.#random = randomFrom(seed);
  }

  /** Chooses the next operation and applies it to `tree`. */
  next(): Operation {
    this.number++;
    const operation = this.number <= FOLDERS ? { type: "mkdir" as const, path: `folder-${this.number - 1}` } : this.#choose();
    apply(this.tree, operation, this.number);
    this.#keepFiles(operation);
    this.#sinceSync = operation.type === "fsync" ? 0 : this.#sinceSync + 1;
    return operation;
  }

  #choose(): Operation {
    const dice = this.#random(100);
    if (this.#files.length < 5 || (dice < 25 && this.#files.length < FILES_MAX)) return { type: "create", path: this.#newPath() };
    const path = this.#files[this.#random(this.#files.length)] as string;
    if (dice < 65) return this.#write(path);
    if (dice < 75) return { type: "rename", path, to: this.#random(2) === 0 ? this.#newPath() : this.#otherFile(path) };
    if (dice < 85) return { type: "unlink", path };
    if (dice < 90) return { type: "truncate", path, granules: this.#random(1 + (this.tree.get(path) as number[]).length) };
    return this.#sinceSync < 20 ? this.#write(path) : { type: "fsync", path: this.#random(3) === 0 ? folderOf(path) : path };
  }

  /** Mostly at the end, sometimes in the middle; small ones, and some of a MiB, so that several segments are under way at a cut. */
  #write(path: string): Operation {
    const length = (this.tree.get(path) as number[]).length;
    const wanted = this.#random(8) === 0 ? 256 + this.#random(769) : 1 + this.#random(64);
    const granule = this.#random(4) === 0 || length + wanted > FILE_GRANULES_MAX ? this.#random(length + 1) : length;
    return { type: "write", path, granule, count: Math.min(wanted, Math.max(1, FILE_GRANULES_MAX - granule)) };
  }

  #newPath(): string {
    return `folder-${this.#random(FOLDERS)}/file-${this.number}`;
  }

  #otherFile(path: string): string {
    const other = this.#files[this.#random(this.#files.length)] as string;
    return other === path ? this.#newPath() : other;
  }

  #keepFiles(operation: Operation): void {
    if (operation.type === "create") this.#files.push(operation.path);
    if (operation.type === "unlink" || operation.type === "rename") this.#files.splice(this.#files.indexOf(operation.path), 1);
    if (operation.type === "rename" && !this.#files.includes(operation.to)) this.#files.push(operation.to);
  }
}

export function folderOf(path: string): string {
  return path.slice(0, path.lastIndexOf("/"));
}

export function apply(tree: Tree, operation: Operation, number: number): void {
  switch (operation.type) {
    case "mkdir":
      tree.set(operation.path, null);
      return;
    case "create":
      tree.set(operation.path, []);
      return;
    case "unlink":
      tree.delete(operation.path);
      return;
    case "rename":
      tree.set(operation.to, tree.get(operation.path) as readonly number[]);
      tree.delete(operation.path);
      return;
    case "write":
      tree.set(operation.path, written(tree.get(operation.path) as readonly number[], operation.granule, operation.count, number));
      return;
    case "truncate":
      tree.set(operation.path, (tree.get(operation.path) as readonly number[]).slice(0, operation.granules));
      return;
    case "fsync":
  }
}

function written(old: readonly number[], granule: number, count: number, number: number): number[] {
  const now = old.slice();
  for (let index = granule; index < granule + count; index++) now[index] = number;
  return now;
}

/** The bytes that operation `number` writes at granule `index` of its file. */
export function granuleBytes(seed: number, number: number, index: number): Buffer {
  const line = `seed ${seed} operation ${number} granule ${index} `.padEnd(63, ".");
  return Buffer.alloc(GRANULE_BYTES, `${line}\n`);
}

/** Which operation wrote these bytes, as far as they are what it would have written there. */
export function operationOf(seed: number, bytes: Buffer, index: number): number {
  if (bytes.every((byte) => byte === 0)) return ZEROS;
  const match = /^seed (\d+) operation (\d+) granule (\d+) /.exec(bytes.toString("latin1", 0, 64));
  if (match === null) return GARBAGE;
  const number = Number(match[2]);
  return bytes.equals(granuleBytes(seed, number, index).subarray(0, bytes.length)) && bytes.length === GRANULE_BYTES ? number : GARBAGE;
}

export interface Verdict {
  /** After how many operations the tree is what was seen; undefined where it is after none of them. */
  readonly prefix: number | undefined;
  /** What is wrong, for people. */
  readonly complaint: string;
}

/**
 * Whether `seen` is the tree after some number of operations, at least `least` (all that was there when the last fsync returned) and at most `most`
 * (the last one begun). Of the operation after them, if it is a write, a first part may be there: an application's write is several blocks.
 */
export function checkPrefix(seed: number, seen: Tree, least: number, most: number): Verdict {
  const stream = new OperationStream(seed);
  const wrong = new Set<string>(seen.keys());
  let nearest = { number: 0, wrong: [...wrong] };
  for (;;) {
    if (stream.number >= least) {
      if (wrong.size === 0) return { prefix: stream.number, complaint: "" };
      if (wrong.size < nearest.wrong.length || nearest.number < least) nearest = { number: stream.number, wrong: [...wrong] };
    }
    if (stream.number >= most) break;
    const before = new Map(stream.tree);
    const wrongBefore = new Set(wrong);
    const operation = stream.next();
    for (const path of operation.type === "rename" ? [operation.path, operation.to] : [operation.path]) {
      if (sameFile(stream.tree.get(path), seen.get(path), stream.tree.has(path) === seen.has(path))) wrong.delete(path);
      else wrong.add(path);
    }
    if (stream.number > least && isPartly(operation, stream.number, before, seen, wrongBefore))
      return { prefix: stream.number - 1, complaint: "" };
  }
  return { prefix: undefined, complaint: complain(seed, seen, nearest, least, most) };
}

function sameFile(
  expected: readonly number[] | null | undefined,
  seen: readonly number[] | null | undefined,
  sameExistence: boolean,
): boolean {
  if (!sameExistence) return false;
  if (expected === null || seen === null || expected === undefined || seen === undefined) return expected === seen;
  return expected.length === seen.length && expected.every((number, index) => number === seen[index]);
}

function isPartly(operation: Operation, number: number, before: Tree, seen: Tree, wrongBefore: ReadonlySet<string>): boolean {
  if (operation.type !== "write" || wrongBefore.size !== 1 || !wrongBefore.has(operation.path)) return false;
  const [old, now] = [before.get(operation.path), seen.get(operation.path)];
  if (!old || !now) return false;
  for (let count = operation.count - 1; count > 0; count--) {
    if (sameFile(written(old, operation.granule, count, number), now, true)) return true;
  }
  return false;
}

function complain(seed: number, seen: Tree, nearest: { number: number; wrong: string[] }, least: number, most: number): string {
  const stream = new OperationStream(seed);
  while (stream.number < nearest.number) stream.next();
  const lines = nearest.wrong.slice(0, 10).map((path) => `  ${path}: ${difference(stream.tree.get(path), seen.get(path))}`);
  const head = `seed ${seed}: the tree is what it was after no operation from ${least} (fsync had returned) to ${most} (begun)`;
  return [`${head}; nearest is ${nearest.number}, where ${nearest.wrong.length} paths differ:`, ...lines].join("\n");
}

function difference(expected: readonly number[] | null | undefined, seen: readonly number[] | null | undefined): string {
  if (seen === undefined) return "is missing";
  if (expected === undefined) return "is there and should not be";
  if (expected === null || seen === null) return "is of the wrong kind";
  const at = expected.findIndex((number, index) => number !== seen[index]);
  if (at < 0) return `has ${seen.length} KiB and not ${expected.length}`;
  const found = seen[at];
  const what = found === undefined ? "ends" : found === ZEROS ? "is zeros" : found === GARBAGE ? "is garbage" : `is of operation ${found}`;
  return `at KiB ${at} of ${expected.length} it ${what}, not of operation ${expected[at]}`;
}
