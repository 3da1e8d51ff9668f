import { assert, type ErrorName, type RegionRange, regionsOf, unreachable, WHOLE_FILE } from "@dazzle/core";
import { Content } from "./content.ts";

/** A file's name in the model; the tree's root is 0. */
export type NodeId = number;
export const MODEL_ROOT: NodeId = 0;

export interface Owned {
  /** Permissions alone: `st_mode & 0o7777`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
}

interface Common extends Owned {
  /** Where somebody set it and nothing has changed it since. */
  readonly mtimeNs: bigint | undefined;
  readonly attributes: ReadonlyMap<string, Buffer>;
}

export interface FileNode extends Common {
  readonly kind: "file";
  readonly links: number;
  readonly content: Content;
}

export interface DirectoryNode extends Common {
  readonly kind: "directory";
  readonly entries: ReadonlyMap<string, NodeId>;
}

export interface SymlinkNode extends Common {
  readonly kind: "symlink";
  readonly links: number;
  readonly target: string;
}

export type ModelNode = FileNode | DirectoryNode | SymlinkNode;

/** Every node by id, unlinked ones too while they are open. Never changed: an operation makes a new one, which shares what it left alone. */
export type State = ReadonlyMap<NodeId, ModelNode>;

/** A change of the filesystem. `id` of what makes something is a new number. */
export type Operation =
  | ({ readonly kind: "create"; readonly id: NodeId; readonly parent: NodeId; readonly name: string } & Owned)
  | ({ readonly kind: "makeDirectory"; readonly id: NodeId; readonly parent: NodeId; readonly name: string } & Owned)
  | ({ readonly kind: "symlink"; readonly id: NodeId; readonly parent: NodeId; readonly name: string; readonly target: string } & Owned)
  | { readonly kind: "link"; readonly id: NodeId; readonly parent: NodeId; readonly name: string }
  | { readonly kind: "unlink"; readonly parent: NodeId; readonly name: string }
  | { readonly kind: "removeDirectory"; readonly parent: NodeId; readonly name: string }
  | {
      readonly kind: "rename";
      readonly parent: NodeId;
      readonly name: string;
      readonly newParent: NodeId;
      readonly newName: string;
      readonly flags: number;
    }
  | { readonly kind: "write"; readonly id: NodeId; readonly offset: number; readonly data: Buffer }
  | { readonly kind: "resize"; readonly id: NodeId; readonly size: number }
  | { readonly kind: "zero"; readonly id: NodeId; readonly offset: number; readonly length: number }
  | { readonly kind: "grow"; readonly id: NodeId; readonly end: number }
  | { readonly kind: "setMode"; readonly id: NodeId; readonly mode: number }
  | { readonly kind: "setOwner"; readonly id: NodeId; readonly uid: number; readonly gid: number }
  | { readonly kind: "setTime"; readonly id: NodeId; readonly mtimeNs: bigint }
  | { readonly kind: "setAttribute"; readonly id: NodeId; readonly name: string; readonly value: Buffer }
  | { readonly kind: "removeAttribute"; readonly id: NodeId; readonly name: string };

export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;

/** The operation must fail, with one of these errors. */
export class Refused extends Error {
  override name = "Refused";
  readonly codes: readonly ErrorName[];

  constructor(...codes: ErrorName[]) {
    super(`refused: ${codes.join(" or ")}`);
    this.codes = codes;
  }
}

export function initialState(root: Owned): State {
  return new Map([[MODEL_ROOT, directory(root)]]);
}

export function nodeOf(state: State, id: NodeId): ModelNode {
  const node = state.get(id);
  assert(node !== undefined, `the model has a node ${id}`);
  return node;
}

export function fileOf(state: State, id: NodeId): FileNode {
  const node = nodeOf(state, id);
  assert(node.kind === "file", `node ${id} is a file`);
  return node;
}

export function directoryOf(state: State, id: NodeId): DirectoryNode {
  const node = nodeOf(state, id);
  assert(node.kind === "directory", `node ${id} is a directory`);
  return node;
}

/** Every directory entry that leads to something, the tree's root first. */
export function* entriesOf(state: State): Generator<readonly [parent: NodeId, name: string, id: NodeId]> {
  const directories = [MODEL_ROOT];
  for (const parent of directories) {
    for (const [name, id] of directoryOf(state, parent).entries) {
      yield [parent, name, id];
      if (nodeOf(state, id).kind === "directory") directories.push(id);
    }
  }
}

/** What an operation reads or changes: all that a node is, or of a file nothing else than these regions (see `Token` "range"). */
export interface Touched {
  readonly id: NodeId;
  readonly regions: RegionRange;
}

export function whole(id: NodeId): Touched {
  return { id, regions: WHOLE_FILE };
}

export function touchedBy(state: State, operation: Operation): Touched[] {
  const child = (parent: NodeId, name: string) => {
    const id = directoryOf(state, parent).entries.get(name);
    return id === undefined ? [] : [whole(id)];
  };
  switch (operation.kind) {
    case "create":
    case "makeDirectory":
    case "symlink":
    case "link":
      return [whole(operation.id), whole(operation.parent), ...child(operation.parent, operation.name)];
    case "unlink":
    case "removeDirectory":
      return [whole(operation.parent), ...child(operation.parent, operation.name)];
    case "rename":
      return [
        whole(operation.parent),
        whole(operation.newParent),
        ...child(operation.parent, operation.name),
        ...child(operation.newParent, operation.newName),
      ];
    case "write":
      return [{ id: operation.id, regions: regionsOf(operation.offset, operation.data.byteLength) }];
    default:
      return [whole(operation.id)];
  }
}

/** The state after `operation`; throws `Refused` where it must fail. */
export function apply(state: State, operation: Operation): State {
  const draft = new Draft(state);
  switch (operation.kind) {
    case "create":
      draft.add(operation.parent, operation.name, operation.id);
      draft.set(operation.id, { ...owned(operation), kind: "file", links: 1, content: Content.empty });
      break;
    case "makeDirectory":
      draft.add(operation.parent, operation.name, operation.id);
      draft.set(operation.id, directory(operation));
      break;
    case "symlink":
      draft.add(operation.parent, operation.name, operation.id);
      draft.set(operation.id, { ...owned(operation), kind: "symlink", links: 1, target: operation.target });
      break;
    case "link":
      draft.add(operation.parent, operation.name, operation.id);
      draft.changeLinks(operation.id, 1);
      break;
    case "unlink":
      unlink(draft, operation.parent, operation.name);
      break;
    case "removeDirectory":
      removeDirectory(draft, operation.parent, operation.name);
      break;
    case "rename":
      rename(draft, operation);
      break;
    case "write":
      draft.setContent(operation.id, (content) => content.write(operation.offset, operation.data));
      break;
    case "resize":
      draft.setContent(operation.id, (content) => content.resize(operation.size));
      break;
    case "zero":
      draft.setContent(operation.id, (content) => content.zero(operation.offset, operation.length));
      break;
    case "grow":
      draft.setContent(operation.id, (content) => content.resize(Math.max(content.size, operation.end)));
      break;
    case "setMode":
      draft.set(operation.id, { ...draft.node(operation.id), mode: operation.mode });
      break;
    case "setOwner":
      draft.set(operation.id, { ...draft.node(operation.id), uid: operation.uid, gid: operation.gid });
      break;
    case "setTime":
      draft.set(operation.id, { ...draft.node(operation.id), mtimeNs: operation.mtimeNs });
      break;
    case "setAttribute":
    case "removeAttribute":
      changeAttribute(draft, operation.id, operation.name, operation.kind === "setAttribute" ? operation.value : undefined);
      break;
    default:
      return unreachable(operation);
  }
  return draft.state;
}

function unlink(draft: Draft, parent: NodeId, name: string): void {
  const id = draft.require(parent, name);
  if (draft.node(id).kind === "directory") throw new Refused("isDirectory", "notPermitted");
  draft.setEntry(parent, name, undefined);
  draft.changeLinks(id, -1);
}

function removeDirectory(draft: Draft, parent: NodeId, name: string): void {
  const id = draft.require(parent, name);
  const node = draft.node(id);
  if (node.kind !== "directory") throw new Refused("notDirectory");
  if (node.entries.size > 0) throw new Refused("notEmpty");
  draft.setEntry(parent, name, undefined);
  draft.delete(id);
}

function rename(draft: Draft, { parent, name, newParent, newName, flags }: Extract<Operation, { kind: "rename" }>): void {
  const moved = draft.require(parent, name);
  const replaced = draft.child(newParent, newName);
  if (flags === RENAME_EXCHANGE) {
    draft.setEntry(parent, name, draft.require(newParent, newName));
    draft.setEntry(newParent, newName, moved);
    return;
  }
  if (replaced !== undefined) {
    if (flags === RENAME_NOREPLACE) throw new Refused("exists");
    const [from, to] = [draft.node(moved), draft.node(replaced)];
    if (from.kind === "directory" && to.kind !== "directory") throw new Refused("notDirectory");
    if (from.kind !== "directory" && to.kind === "directory") throw new Refused("isDirectory");
    if (to.kind === "directory" && to.entries.size > 0) throw new Refused("notEmpty");
    if (to.kind === "directory") draft.delete(replaced);
    else draft.changeLinks(replaced, -1);
  }
  draft.setEntry(parent, name, undefined);
  draft.setEntry(newParent, newName, moved);
}

function changeAttribute(draft: Draft, id: NodeId, name: string, value: Buffer | undefined): void {
  const node = draft.node(id);
  const attributes = new Map(node.attributes);
  if (value !== undefined) attributes.set(name, value);
  else if (!attributes.delete(name)) throw new Refused("noAttribute");
  draft.set(id, { ...node, attributes });
}

function owned({ mode, uid, gid }: Owned): Common {
  return { mode, uid, gid, mtimeNs: undefined, attributes: new Map() };
}

function directory(owner: Owned): DirectoryNode {
  return { ...owned(owner), kind: "directory", entries: new Map() };
}

/** The next state while it is made. */
class Draft {
  readonly state: Map<NodeId, ModelNode>;

  constructor(before: State) {
    this.state = new Map(before);
  }

  /** Refuses where the node is not in this state: an operation before it was left out. */
  node(id: NodeId): ModelNode {
    const node = this.state.get(id);
    if (node === undefined) throw new Refused("notFound");
    return node;
  }

  set(id: NodeId, node: ModelNode): void {
    this.state.set(id, node);
  }

  delete(id: NodeId): void {
    this.state.delete(id);
  }

  child(parent: NodeId, name: string): NodeId | undefined {
    return this.#directory(parent).entries.get(name);
  }

  require(parent: NodeId, name: string): NodeId {
    const id = this.child(parent, name);
    if (id === undefined) throw new Refused("notFound");
    return id;
  }

  add(parent: NodeId, name: string, id: NodeId): void {
    if (this.child(parent, name) !== undefined) throw new Refused("exists");
    this.setEntry(parent, name, id);
  }

  setEntry(parent: NodeId, name: string, id: NodeId | undefined): void {
    const node = this.#directory(parent);
    const entries = new Map(node.entries);
    if (id === undefined) entries.delete(name);
    else entries.set(name, id);
    this.state.set(parent, { ...node, entries, mtimeNs: undefined });
  }

  changeLinks(id: NodeId, by: number): void {
    const node = this.node(id);
    if (node.kind === "directory") throw new Refused("notPermitted");
    this.state.set(id, { ...node, links: node.links + by });
  }

  setContent(id: NodeId, change: (content: Content) => Content): void {
    const node = this.node(id);
    if (node.kind !== "file") throw new Refused("isDirectory", "invalid");
    this.state.set(id, { ...node, content: change(node.content), mtimeNs: undefined });
  }

  #directory(id: NodeId): DirectoryNode {
    const node = this.node(id);
    if (node.kind !== "directory") throw new Refused("notDirectory");
    return node;
  }
}
