import { type Attributes, assert, type Caller, type FileSystem, joined, totalBytes } from "@dazzle/core";
import { directoryOf, MODEL_ROOT, type ModelNode, type NodeId, nodeOf, type State } from "./state.ts";

export const S_IFMT = 0o170000;
export const S_IFDIR = 0o040000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const KIND_BY_TYPE: ReadonlyMap<number, ModelNode["kind"]> = new Map([
  [S_IFDIR, "directory"],
  [S_IFREG, "file"],
  [S_IFLNK, "symlink"],
]);

const READ_BYTES = 256 * 1024;
const ENTRIES_A_CALL = 7;

/** What a filesystem has under one index number. */
export interface ObservedNode {
  readonly attributes: Attributes;
  readonly extended: ReadonlyMap<string, Buffer>;
  readonly bytes: Buffer;
  readonly target: string;
  readonly entries: ReadonlyMap<string, number>;
}

/** A tree as a filesystem shows it. */
export interface Observed {
  readonly root: number;
  readonly nodes: ReadonlyMap<number, ObservedNode>;
}

/** Reads everything below the index number `root`. Gives every reference back. */
export async function observe(fileSystem: FileSystem, root: number, caller: Caller): Promise<Observed> {
  const nodes = new Map<number, ObservedNode>();
  const references = new Map<number, number>();
  const queue = [root];
  for (const ino of queue) {
    if (nodes.has(ino)) continue;
    const node = await observeNode(fileSystem, ino, caller, references);
    nodes.set(ino, node);
    queue.push(...node.entries.values());
  }
  for (const [ino, count] of references) fileSystem.forget(ino, count);
  return { root, nodes };
}

async function observeNode(fileSystem: FileSystem, ino: number, caller: Caller, references: Map<number, number>): Promise<ObservedNode> {
  const { attributes } = await fileSystem.getAttributes(caller, ino, undefined);
  const kind = KIND_BY_TYPE.get(attributes.mode & S_IFMT);
  const extended = new Map<string, Buffer>();
  for (const name of await fileSystem.listExtendedAttributes(caller, ino))
    extended.set(name, Buffer.from(await fileSystem.getExtendedAttribute(caller, ino, name)));
  const entries = new Map<string, number>();
  if (kind === "directory") {
    for (const name of await namesOf(fileSystem, ino, caller)) {
      const child = (await fileSystem.lookup(caller, ino, name)).attributes.ino;
      assert(child !== 0, `${name} is in the listing of ${ino} and can be looked up`);
      references.set(child, (references.get(child) ?? 0) + 1);
      entries.set(name, child);
    }
  }
  const bytes = kind === "file" ? await bytesOf(fileSystem, ino, caller) : Buffer.alloc(0);
  const target = kind === "symlink" ? await fileSystem.readLink(caller, ino) : "";
  return { attributes, extended, bytes, target, entries };
}

/** The names in a directory, each once, read a few at a time. */
export async function namesOf(fileSystem: FileSystem, ino: number, caller: Caller): Promise<string[]> {
  const handle = await fileSystem.openDirectory(caller, ino);
  const names: string[] = [];
  let cookie = 0;
  for (;;) {
    const rows = await fileSystem.readDirectory(caller, ino, handle, cookie, ENTRIES_A_CALL, false);
    const last = rows.at(-1);
    if (last === undefined) break;
    cookie = last.cookie;
    names.push(...rows.map((row) => row.name).filter((name) => name !== "." && name !== ".."));
  }
  fileSystem.releaseDirectory(ino, handle);
  assert(new Set(names).size === names.length, `the listing of ${ino} has every name once: ${names.join(" ")}`);
  return names;
}

async function bytesOf(fileSystem: FileSystem, ino: number, caller: Caller): Promise<Buffer> {
  const { handle } = await fileSystem.open(caller, ino, 0);
  const pieces: Buffer[] = [];
  for (let offset = 0; ; ) {
    const piece = Buffer.from(joined(await fileSystem.read(caller, ino, handle, offset, READ_BYTES)));
    pieces.push(piece);
    offset += piece.byteLength;
    if (piece.byteLength < READ_BYTES) break;
  }
  await fileSystem.flush(caller, ino, handle, 0n);
  await fileSystem.release(ino, handle, undefined);
  assert(totalBytes(pieces) < 2 ** 30, "a file of a simulation fits into memory");
  return Buffer.concat(pieces);
}

/** How the tree differs from a state, a line each; empty where it doesn't. `known`: the index numbers of nodes. Stops at `limit`. */
export function differences(state: State, observed: Observed, known: ReadonlyMap<NodeId, number>, limit: number): string[] {
  const found: string[] = [];
  const inoById = new Map<NodeId, number>();
  const idByIno = new Map<number, NodeId>();
  const queue: Array<readonly [path: string, id: NodeId, ino: number]> = [["/", MODEL_ROOT, observed.root]];
  for (const [path, id, ino] of queue) {
    if (found.length >= limit) break;
    if (inoById.has(id) || idByIno.has(ino)) {
      if (inoById.get(id) !== ino) found.push(`${path} is ${ino}, and another link of it ${inoById.get(id)}`);
      continue;
    }
    inoById.set(id, ino);
    idByIno.set(ino, id);
    const expectedIno = known.get(id);
    if (expectedIno !== undefined && expectedIno !== ino) found.push(`${path} was ${expectedIno} and is ${ino}`);
    const has = observed.nodes.get(ino);
    assert(has !== undefined, `${ino} was observed`);
    const difference = nodeDifference(nodeOf(state, id), has);
    if (difference !== undefined) {
      found.push(`${path} ${difference}`);
      continue;
    }
    if (nodeOf(state, id).kind !== "directory") continue;
    const entries = directoryOf(state, id).entries;
    for (const name of new Set([...entries.keys(), ...has.entries.keys()])) {
      const [wanted, there] = [entries.get(name), has.entries.get(name)];
      if (wanted === undefined) found.push(`${path}${name} should not be there`);
      else if (there === undefined) found.push(`${path}${name} is missing`);
      else queue.push([nodeOf(state, wanted).kind === "directory" ? `${path}${name}/` : `${path}${name}`, wanted, there]);
    }
  }
  return found;
}

/** The index numbers of a tree that matches the state. */
export function numbersOf(state: State, observed: Observed): Map<NodeId, number> {
  const numbers = new Map([[MODEL_ROOT, observed.root]]);
  for (const [id, ino] of numbers) {
    const node = nodeOf(state, id);
    if (node.kind !== "directory") continue;
    for (const [name, child] of node.entries) numbers.set(child, observed.nodes.get(ino)?.entries.get(name) as number);
  }
  return numbers;
}

/** What of the attributes is not as the model has it. */
export function attributesDifference(node: ModelNode, attributes: Attributes): string | undefined {
  const kind = KIND_BY_TYPE.get(attributes.mode & S_IFMT);
  if (kind !== node.kind) return `is a ${kind}, not a ${node.kind}`;
  if ((attributes.mode & 0o7777) !== node.mode) return `has the mode ${attributes.mode.toString(8)}, not ${node.mode.toString(8)}`;
  if (attributes.uid !== node.uid || attributes.gid !== node.gid)
    return `belongs to ${attributes.uid}:${attributes.gid}, not ${node.uid}:${node.gid}`;
  if (node.mtimeNs !== undefined && attributes.mtimeNs !== node.mtimeNs) return `was changed at ${attributes.mtimeNs}, not ${node.mtimeNs}`;
  if (node.kind === "directory") return undefined;
  if (attributes.nlink !== node.links) return `has ${attributes.nlink} links, not ${node.links}`;
  const size = node.kind === "file" ? node.content.size : node.target.length;
  if (attributes.size !== size) return `has ${attributes.size} bytes, not ${size}`;
  return undefined;
}

function nodeDifference(node: ModelNode, has: ObservedNode): string | undefined {
  const attributes = attributesDifference(node, has.attributes);
  if (attributes !== undefined) return attributes;
  if (node.kind === "symlink" && has.target !== node.target) return `leads to ${has.target}, not ${node.target}`;
  if (node.kind === "file") {
    const at = node.content.difference(has.bytes);
    if (at !== undefined) return `differs at byte ${at}: ${excerpt(has.bytes, at)}, not ${excerpt(node.content.read(at, 8), 0)}`;
  }
  for (const name of new Set([...node.attributes.keys(), ...has.extended.keys()])) {
    const [wanted, there] = [node.attributes.get(name), has.extended.get(name)];
    if (wanted === undefined || there === undefined || !wanted.equals(there)) return `differs in the extended attribute ${name}`;
  }
  return undefined;
}

function excerpt(bytes: Buffer, at: number): string {
  return bytes.subarray(at, at + 8).toString("hex") || "the end";
}
