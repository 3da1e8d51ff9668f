import { type Caller, DazzleError, type FileSystem, joined } from "@dazzle/core";
import type { SeededRandom } from "../random.ts";
import type { Content } from "./content.ts";
import { describe } from "./history.ts";
import { namesOf } from "./observed.ts";
import {
  apply,
  directoryOf,
  entriesOf,
  fileOf,
  initialState,
  MODEL_ROOT,
  type NodeId,
  nodeOf,
  type Operation,
  Refused,
  type State,
} from "./state.ts";

const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const NAMES = ["a", "b", "c"];
const FILES = ["f", "g"];
const DIRECTORIES = ["p", "q"];
const BYTES_MAX = 9_000;
const O_RDWR = 2;
const O_APPEND = 0o2000;
const OWNER = { mode: 0o755, uid: 0, gid: 0 };
const STATES_MAX = 500;

/** What looks, beside what changes. */
type Look =
  | { readonly kind: "list"; readonly id: NodeId }
  | { readonly kind: "find"; readonly parent: NodeId; readonly name: string }
  | { readonly kind: "stat"; readonly id: NodeId }
  | { readonly kind: "read"; readonly id: NodeId };
/** An append's offset is the size at its time. */
type Append = { readonly kind: "append"; readonly id: NodeId; readonly data: Buffer };
type Conflicting = Operation | Append | Look;

interface Done {
  readonly operation: Conflicting;
  readonly answer: string;
}

/** Several mounts work at the same few names and files at once, in rounds: what each was answered must be what one filesystem would
 * have answered them in some order. */
export class Conflicts {
  readonly #mounts: readonly FileSystem[];
  readonly #random: SeededRandom;
  readonly #numbers = new Map<NodeId, number>();
  /** By mount and file: a handle that stays open. */
  readonly #handles: Array<Map<NodeId, { plain: number; appending: number }>> = [];
  #nextId = MODEL_ROOT + 1;
  #directories: NodeId[] = [];
  #files: NodeId[] = [];
  /** The states in which the filesystem may be, as far as answers have told. */
  #states: State[] = [];
  operations = 0;

  constructor(mounts: readonly FileSystem[], random: SeededRandom) {
    this.#mounts = mounts;
    this.#random = random;
  }

  async prepare(rootIno: number): Promise<void> {
    this.#numbers.set(MODEL_ROOT, rootIno);
    let state = initialState(OWNER);
    const [first] = this.#mounts as [FileSystem];
    for (const name of [...DIRECTORIES, ...FILES]) {
      const id = this.#nextId++;
      const isFile = FILES.includes(name);
      const made = isFile
        ? await first.makeNode(CALLER, rootIno, name, 0o100644, 0)
        : await first.makeDirectory(CALLER, rootIno, name, 0o755);
      this.#numbers.set(id, made.attributes.ino);
      state = apply(state, { kind: isFile ? "create" : "makeDirectory", id, parent: MODEL_ROOT, name, ...OWNER });
      (isFile ? this.#files : this.#directories).push(id);
    }
    for (const mount of this.#mounts) {
      const handles = new Map();
      for (const id of this.#files) {
        const plain = (await mount.open(CALLER, this.#ino(id), O_RDWR)).handle;
        handles.set(id, { plain, appending: (await mount.open(CALLER, this.#ino(id), O_RDWR | O_APPEND)).handle });
      }
      this.#handles.push(handles);
    }
    this.#states = [state];
  }

  /** Every mount does some operations, one after the other, beside the others. Throws where no order explains what they were answered. */
  async round(): Promise<void> {
    const done = await Promise.all(this.#mounts.map((mount, index) => this.#work(mount, index, 1 + this.#random.below(2))));
    this.#explain(done);
    // What one mount sees now narrows what may be down.
    const index = this.#random.below(this.#mounts.length);
    const seen: Done[] = [];
    for (const operation of this.#looks()) seen.push(await this.#perform(this.#mounts[index] as FileSystem, index, operation));
    this.#explain([seen]);
  }

  *#looks(): Generator<Conflicting> {
    for (const id of this.#directories) {
      yield { kind: "list", id };
      for (const name of NAMES) yield { kind: "find", parent: id, name };
    }
    for (const id of this.#files) {
      yield { kind: "stat", id };
      yield { kind: "read", id };
    }
  }

  async #work(mount: FileSystem, index: number, count: number): Promise<Done[]> {
    const done: Done[] = [];
    for (let step = 0; step < count; step++) done.push(await this.#perform(mount, index, this.#draw()));
    return done;
  }

  #draw(): Conflicting {
    const random = this.#random;
    const parent = random.pick(this.#directories);
    const name = random.pick(NAMES);
    const id = random.pick(this.#files);
    switch (random.below(13)) {
      case 0:
      case 1:
        return { kind: "create", id: this.#nextId++, parent, name, ...OWNER, mode: 0o644 };
      case 2:
        return { kind: "makeDirectory", id: this.#nextId++, parent, name, ...OWNER };
      case 3:
        return { kind: "link", id, parent, name };
      case 4:
        return { kind: "unlink", parent, name };
      case 5:
        return { kind: "removeDirectory", parent, name };
      case 6:
      case 7:
        return { kind: "rename", parent, name, newParent: random.pick(this.#directories), newName: random.pick(NAMES), flags: 0 };
      case 8:
        return { kind: "write", id, offset: random.below(BYTES_MAX), data: Buffer.from(random.bytes(1 + random.below(5_000))) };
      case 9:
        return { kind: "append", id, data: Buffer.from(random.bytes(1 + random.below(500))) };
      case 10:
        return { kind: "resize", id, size: random.below(BYTES_MAX) };
      default:
        return random.pick([...this.#looks()]);
    }
  }

  async #perform(mount: FileSystem, index: number, operation: Conflicting): Promise<Done> {
    this.operations++;
    try {
      return { operation, answer: await this.#answer(mount, index, operation) };
    } catch (error) {
      if (!(error instanceof DazzleError)) throw error;
      return { operation, answer: `error ${error.code}` };
    }
  }

  async #answer(mount: FileSystem, index: number, operation: Conflicting): Promise<string> {
    const handles = (id: NodeId) => this.#handles[index]?.get(id) as { plain: number; appending: number };
    switch (operation.kind) {
      case "create":
      case "makeDirectory": {
        const { id, parent, name } = operation;
        const { attributes } =
          operation.kind === "create"
            ? await mount.makeNode(CALLER, this.#ino(parent), name, 0o100644, 0)
            : await mount.makeDirectory(CALLER, this.#ino(parent), name, 0o755);
        this.#numbers.set(id, attributes.ino);
        return "done";
      }
      case "link":
        await mount.link(CALLER, this.#ino(operation.id), this.#ino(operation.parent), operation.name);
        return "done";
      case "unlink":
      case "removeDirectory":
        await mount[operation.kind](CALLER, this.#ino(operation.parent), operation.name);
        return "done";
      case "rename": {
        const { parent, name, newParent, newName } = operation;
        await mount.rename(CALLER, this.#ino(parent), name, this.#ino(newParent), newName, 0);
        return "done";
      }
      case "write":
      case "append": {
        const { id, data } = operation;
        const appends = operation.kind === "append";
        const handle = appends ? handles(id).appending : handles(id).plain;
        const flags = { open: appends ? O_RDWR | O_APPEND : O_RDWR, killPrivileges: false };
        await mount.write(CALLER, this.#ino(id), handle, appends ? 0 : operation.offset, Buffer.from(data), flags);
        return "done";
      }
      case "resize":
        await mount.setAttributes(CALLER, this.#ino(operation.id), { size: operation.size }, undefined);
        return "done";
      case "list":
        return (await namesOf(mount, this.#ino(operation.id), CALLER)).sort().join(" ");
      case "find": {
        const { attributes } = await mount.lookup(CALLER, this.#ino(operation.parent), operation.name);
        if (attributes.ino !== 0) mount.forget(attributes.ino, 1);
        return String(attributes.ino);
      }
      case "stat": {
        const { attributes } = await mount.getAttributes(CALLER, this.#ino(operation.id), undefined);
        return `${attributes.size} bytes, ${attributes.nlink} links`;
      }
      case "read":
        return digest(joined(await mount.read(CALLER, this.#ino(operation.id), handles(operation.id).plain, 0, 100_000)));
      default:
        throw new Error(`no mount does a ${operation.kind} here`);
    }
  }

  /** What one filesystem in this state answers, and its state after. Undefined where it would have answered something else. */
  #after(state: State, { operation, answer }: Done): State | undefined {
    switch (operation.kind) {
      case "list":
        return [...directoryOf(state, operation.id).entries.keys()].sort().join(" ") === answer ? state : undefined;
      case "find": {
        const id = directoryOf(state, operation.parent).entries.get(operation.name);
        // A mount says either where there is no such name: to the kernel it is the same.
        const expected = id === undefined ? ["0", "error notFound"] : [String(this.#numbers.get(id))];
        return expected.includes(answer) ? state : undefined;
      }
      case "stat": {
        const { content, links } = fileOf(state, operation.id);
        return `${content.size} bytes, ${links} links` === answer ? state : undefined;
      }
      case "read": {
        return digestOf(fileOf(state, operation.id).content) === answer ? state : undefined;
      }
      default:
        return changed(state, operation, answer);
    }
  }

  /** Looks for orders of the operations, each mount's own kept, that explain all answers. */
  #explain(done: readonly (readonly Done[])[]): void {
    const found = new Map<string, State>();
    const seen = new Set<string>();
    for (const state of this.#states)
      this.#search(
        state,
        done,
        done.map(() => 0),
        seen,
        found,
      );
    if (found.size === 0) {
      const lines = done.flatMap((list, index) => list.map(({ operation, answer }) => `  m${index}: ${describe(operation)} -> ${answer}`));
      throw new Error([`no order explains, from ${this.#states.map(keyOf).join(" | ")}`, ...lines].join("\n"));
    }
    this.#states = [...found.values()].slice(0, STATES_MAX);
  }

  #search(state: State, done: readonly (readonly Done[])[], at: readonly number[], seen: Set<string>, found: Map<string, State>): void {
    const key = `${at.join()} ${keyOf(state)}`;
    if (seen.has(key)) return;
    seen.add(key);
    let left = false;
    for (const [index, list] of done.entries()) {
      const next = list[at[index] as number];
      if (next === undefined) continue;
      left = true;
      const after = this.#after(state, next);
      if (after !== undefined) this.#search(after, done, at.with(index, (at[index] as number) + 1), seen, found);
    }
    if (!left) found.set(keyOf(state), state);
  }

  #ino(id: NodeId): number {
    return this.#numbers.get(id) as number;
  }
}

function changed(state: State, operation: Operation | Append, answer: string): State | undefined {
  try {
    const after = apply(state, concrete(state, operation));
    return answer === "done" ? after : undefined;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    return error.codes.some((code) => answer === `error ${code}`) ? state : undefined;
  }
}

/** An append is a write at the end; two names of one file are not renamed over each other. */
function concrete(state: State, operation: Operation | Append): Operation {
  if (operation.kind === "append") {
    const { id, data } = operation;
    return { kind: "write", id, offset: fileOf(state, id).content.size, data };
  }
  if (operation.kind !== "rename") return operation;
  const { parent, name, newParent, newName } = operation;
  const moved = directoryOf(state, parent).entries.get(name);
  const same = moved !== undefined && moved === directoryOf(state, newParent).entries.get(newName);
  return same ? { ...operation, newParent: parent, newName: name, parent, name, flags: 2 } : operation;
}

const digests = new WeakMap<Content, string>();

/** States share contents: each is gone through once. */
function digestOf(content: Content): string {
  let known = digests.get(content);
  if (known === undefined) {
    known = digest(content.read(0, content.size));
    digests.set(content, known);
  }
  return known;
}

function digest(bytes: Uint8Array): string {
  let hash = 2_166_136_261;
  for (const byte of bytes) hash = Math.imul(hash ^ byte, 16_777_619) >>> 0;
  return `${bytes.byteLength} bytes ${hash}`;
}

/** The state in a line: equal where two states are. */
function keyOf(state: State): string {
  const parts: string[] = [];
  for (const [parent, name, id] of entriesOf(state)) {
    const node = nodeOf(state, id);
    parts.push(`${parent}/${name}=${id}${node.kind === "file" ? `(${digestOf(node.content)})` : ""}`);
  }
  return parts.sort().join(" ");
}
