import { BLOCK_BYTES, decodeDeltas, decodeSections, ROOT } from "@dazzle/core";
import type { LogWriter } from "@dazzle/log";
import { isDirectory, isRegular, type Node } from "../node.ts";

/** Written bytes of a file, in memory. */
export interface UnsavedRange {
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface UnsavedFile {
  readonly path: string;
  readonly size: number;
  /** Ascending; empty where only its attributes, or its size, were changed. */
  readonly ranges: readonly UnsavedRange[];
}

/** What a mount did that is in no log: what would be lost with its memory. Paths are names with "/" between, a character a byte. */
export interface Unsaved {
  /** Index numbers of everything that was changed, and whether it is a directory. */
  readonly changed: ReadonlyMap<number, boolean>;
  readonly files: readonly UnsavedFile[];
  readonly made: readonly string[];
  readonly removed: readonly string[];
}

/** What lies behind sequence `saved` of a mount's log: sealed (with the transactions of sealed segments), or not even that. */
export function collectUnsaved(options: {
  readonly nodes: Iterable<Node>;
  readonly writer: LogWriter;
  readonly transactions: ReadonlyMap<number, Uint8Array>;
  readonly saved: number;
}): Unsaved {
  const nodes = [...options.nodes];
  const paths = new Paths(nodes);
  const changed = nodes.filter((node) => node.dirty || node.lastSequence > options.saved);
  const files: UnsavedFile[] = [];
  for (const node of changed) {
    if (!isRegular(node.inode.mode) || node.removed) continue;
    files.push({ path: paths.of(node.ino), size: node.inode.size, ranges: rangesOf(node, options.writer, options.saved) });
  }
  return {
    changed: new Map(changed.map((node) => [node.ino, isDirectory(node.inode.mode)])),
    files: files.sort((one, other) => (one.path < other.path ? -1 : 1)),
    ...changedNames(options, nodes, paths),
  };
}

function rangesOf(node: Node, writer: LogWriter, saved: number): UnsavedRange[] {
  const ranges: UnsavedRange[] = [];
  for (const { log, sequence, block, offset, length } of node.extents.between(0, Number.MAX_SAFE_INTEGER)) {
    if (log !== writer.log || sequence <= saved) continue;
    const start = block * BLOCK_BYTES;
    const bytes = writer.read(sequence, offset, Math.min(length, Math.max(0, node.inode.size - start)));
    if (bytes !== undefined && bytes.length > 0) ranges.push({ offset: start, bytes });
  }
  return ranges;
}

/** Names by their directory, in the order in which they were changed; the last state of each counts. */
function changedNames(
  { transactions, saved }: { transactions: ReadonlyMap<number, Uint8Array>; saved: number },
  nodes: readonly Node[],
  paths: Paths,
): { made: string[]; removed: string[] } {
  const last = new Map<string, { readonly firstMade: boolean; readonly made: boolean }>();
  const note = (directory: number, name: string, made: boolean) => {
    const path = paths.in(directory, name);
    last.set(path, { firstMade: last.get(path)?.firstMade ?? made, made });
  };
  for (const sequence of [...transactions.keys()].sort((one, other) => one - other)) {
    if (sequence <= saved) continue;
    for (const section of decodeSections(transactions.get(sequence) as Uint8Array)) {
      for (const delta of decodeDeltas(section.bytes))
        if (delta.kind === "putEntry" || delta.kind === "removeEntry") note(delta.ino, delta.name, delta.kind === "putEntry");
    }
  }
  for (const node of nodes) for (const [name, child] of node.directory?.dirty ?? []) note(node.ino, name, child !== null);
  const made = [...last].filter(([, state]) => state.made).map(([path]) => path);
  // What was made and removed again is nothing to tell of.
  const removed = [...last].filter(([, state]) => !state.made && !state.firstMade).map(([path]) => path);
  return { made: made.sort(), removed: removed.sort() };
}

/** Paths of index numbers, as far as the names in memory tell. */
class Paths {
  readonly #places = new Map<number, { readonly parent: number; readonly name: string }>();

  constructor(nodes: readonly Node[]) {
    for (const node of nodes) for (const [name, { ino }] of node.directory?.names ?? []) this.#places.set(ino, { parent: node.ino, name });
  }

  of(ino: number): string {
    const names: string[] = [];
    for (let at = ino; at !== ROOT; ) {
      const place = this.#places.get(at);
      names.push(place?.name ?? `number-${at}`);
      // A ring would be a mistake elsewhere; the path is for people.
      if (place === undefined || names.length > DEPTH_MAX) break;
      at = place.parent;
    }
    return names.reverse().join("/");
  }

  in(directory: number, name: string): string {
    const path = this.of(directory);
    return path === "" ? name : `${path}/${name}`;
  }
}

const DEPTH_MAX = 1_000;
