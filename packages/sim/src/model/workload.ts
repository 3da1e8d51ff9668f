import {
  assert,
  type Caller,
  type Entry,
  type FileSystem,
  isDazzleError,
  joined,
  NAME_BYTES_MAX,
  NO_REGIONS,
  regionsOf,
} from "@dazzle/core";
import type { SeededRandom } from "../random.ts";
import { Checks } from "./checks.ts";
import { describe, type History } from "./history.ts";
import { KernelReferences } from "./kernel-references.ts";
import { differences, namesOf, observe, S_IFREG } from "./observed.ts";
import { depthsOf, isWithin, pickDirectory, pickEntry, pickNode } from "./picks.ts";
import { directoryOf, fileOf, MODEL_ROOT, type NodeId, nodeOf, type Operation, RENAME_EXCHANGE, RENAME_NOREPLACE, whole } from "./state.ts";
import { type Action, DEFAULT_WEIGHTS, type WorkloadOptions } from "./workload-options.ts";

const NAMES = ["a", "b", "c", "d", "e", "\xfcml\xe4ut", "x".repeat(NAME_BYTES_MAX)];
const DEPTH_MAX = 4;
/** Below this, most removals are left out, so that what was written stays to be found. */
const NODES_WANTED = 30;
const NODES_MAX = 60;
const HANDLES_MAX = 8;
const FILE_BYTES = 64 * 1024;
const FAR_CHANCE = 0.05;
const O_RDWR = 2;
const O_EXCL = 0o200;
const O_TRUNC = 0o1000;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const FALLOC_ZERO_RANGE = 16;
const CALLER: Caller = { uid: 1_000, gid: 1_000, pid: 1 };

interface Handle {
  readonly id: NodeId;
  readonly handle: number;
  /** Syncs under way, while which a kernel does not release it. */
  syncs: number;
}

/** Random operations on a filesystem, one at a time, each checked against the model: what it answers, and that it fails
 * where it must. Works like a kernel: it only names what it holds a reference of. */
export class Workload {
  #fileSystem: FileSystem;
  readonly #history: History;
  readonly #mount: string;
  readonly #checks: Checks;
  readonly #random: SeededRandom;
  readonly #fileBytes: number;
  readonly #farBytes: number;
  readonly #actions: ReadonlyArray<readonly [Action, number]>;
  readonly #weightTotal: number;
  #references: KernelReferences;
  #handles: Handle[] = [];
  /** How often each action was carried out, and how many were refused as they had to be. */
  readonly counts = new Map<Action | "refused", number>();

  constructor(options: WorkloadOptions) {
    this.#fileSystem = options.fileSystem;
    this.#history = options.history;
    this.#mount = options.mount;
    this.#checks = new Checks(options.history, options.mount, {
      refused: () => this.#count("refused"),
      full: () => options.mayBeFull?.() ?? false,
    });
    this.#random = options.random;
    this.#fileBytes = options.fileBytes ?? FILE_BYTES;
    this.#farBytes = options.farBytes ?? 0;
    this.#actions = Object.entries({ ...DEFAULT_WEIGHTS, ...options.weights }) as Array<[Action, number]>;
    this.#weightTotal = this.#actions.reduce((total, [, weight]) => total + weight, 0);
    this.#references = this.#newReferences();
  }

  /** Carries out one action. Throws a `MismatchError`; a failure of the filesystem itself is its cause. */
  async step(): Promise<void> {
    for (;;) {
      const action = this.#drawAction();
      if (!(await this.#perform(action))) continue;
      this.#count(action);
      return;
    }
  }

  /** Syncs something: all that was done before the call is durable when it resolves. May go on beside later steps. */
  async sync(): Promise<void> {
    const number = this.#history.lastNumber;
    const open = this.#handles.length > 0 && this.#random.chance(0.7) ? this.#random.pick(this.#handles) : undefined;
    if (open !== undefined) {
      const ino = this.#inoOf(open.id);
      const dataOnly = this.#random.chance(0.3);
      open.syncs++;
      await this.#checks.expect("fsync", () => this.#fileSystem.fsync(CALLER, ino, open.handle, dataOnly));
      open.syncs--;
    } else {
      const ino = await this.#references.use(pickDirectory(this.#history.current, this.#random));
      await this.#checks.expect("fsync of a directory", () => this.#fileSystem.fsyncDirectory(CALLER, ino, false));
    }
    this.#history.synced(this.#mount, number);
  }

  /** Compares the whole tree. */
  async verify(): Promise<void> {
    const found = differences(
      this.#history.current,
      await observe(this.#fileSystem, this.#inoOf(MODEL_ROOT), CALLER),
      this.#history.numbers,
      10,
    );
    if (found.length > 0) throw this.#checks.mismatch("the tree differs", found.join("\n"));
  }

  /** Gives back everything that it holds: handles and references. No sync may be under way. */
  async quit(): Promise<void> {
    assert(
      this.#handles.every((open) => open.syncs === 0),
      "no sync is under way when a workload quits",
    );
    while (this.#handles.length > 0) await this.#close(0);
    this.#references.forgetAll();
  }

  /** Goes on after the mount was expelled and is back: what was open may be broken, and is closed. */
  async rejoined(): Promise<void> {
    for (const { id, handle } of this.#handles) {
      const ino = this.#inoOf(id);
      try {
        await this.#fileSystem.flush(CALLER, ino, handle, 0n);
      } catch (error) {
        if (!isDazzleError(error)) throw error;
      }
      await this.#checks.expect("release", () => this.#fileSystem.release(ino, handle, undefined));
    }
    this.#references.forgetAll();
    this.remounted(this.#fileSystem);
  }

  /** Goes on after a crash of the mount: what was open is gone. Call it after the history's `recovered`. */
  remounted(fileSystem: FileSystem): void {
    this.#fileSystem = fileSystem;
    for (const open of this.#handles) this.#history.closed(open.id);
    this.#handles = [];
    this.#references = this.#newReferences();
  }

  #newReferences(): KernelReferences {
    return new KernelReferences(this.#fileSystem, this.#history, this.#checks, CALLER);
  }

  #drawAction(): Action {
    let left = this.#random.below(this.#weightTotal);
    for (const [action, weight] of this.#actions) {
      if (left < weight) return action;
      left -= weight;
    }
    return "stat";
  }

  /** Answers whether there was something to do it with. */
  async #perform(action: Action): Promise<boolean> {
    switch (action) {
      case "create":
      case "makeDirectory":
      case "symlink":
        return this.#make(action);
      case "link":
        return this.#link();
      case "unlink":
      case "removeDirectory":
        return this.#remove(action);
      case "rename":
        return this.#rename();
      case "write":
        return this.#write();
      case "resize":
      case "setMode":
      case "setOwner":
      case "setTime":
        return this.#setAttributes(action);
      case "zero":
        return this.#zero();
      case "setAttribute":
      case "removeAttribute":
        return this.#extendedAttribute(action);
      case "open":
        return this.#open();
      case "close":
        return this.#handles.length > 0 && (await this.#close(this.#random.below(this.#handles.length)));
      case "read":
        return this.#read();
      case "list":
        return this.#list();
      case "stat":
        return this.#stat();
      case "miss":
        return this.#miss();
      case "readLink":
        return this.#readLink();
      case "forget":
        return this.#references.forgetSome(this.#random, new Set(this.#handles.map((open) => open.id)));
      case "sync":
        await this.sync();
        return true;
    }
  }

  async #make(kind: "create" | "makeDirectory" | "symlink"): Promise<boolean> {
    const parent = pickDirectory(this.#history.current, this.#random);
    const name = this.#pickName(parent);
    const paths = depthsOf(this.#history.current);
    if (paths.size > NODES_MAX || (kind === "makeDirectory" && (paths.get(parent) ?? 0) >= DEPTH_MAX)) return false;
    const parentIno = await this.#references.use(parent);
    const id = this.#history.newId();
    const base = { id, parent, name, uid: CALLER.uid, gid: CALLER.gid };
    let made: Entry | undefined;
    if (kind === "makeDirectory") {
      made = await this.#checks.change({ ...base, kind, mode: 0o755 }, () =>
        this.#fileSystem.makeDirectory(CALLER, parentIno, name, 0o755),
      );
    } else if (kind === "symlink") {
      const target = `../${this.#random.pick(NAMES)}/${id}`;
      made = await this.#checks.change({ ...base, kind, target, mode: 0o777 }, () =>
        this.#fileSystem.symlink(CALLER, parentIno, name, target),
      );
    } else if (this.#random.chance(0.2)) {
      made = await this.#checks.change({ ...base, kind, mode: 0o600 }, () =>
        this.#fileSystem.makeNode(CALLER, parentIno, name, S_IFREG | 0o600, 0),
      );
    } else {
      const created = await this.#checks.change({ ...base, kind, mode: 0o644 }, () =>
        this.#fileSystem.create(CALLER, parentIno, name, S_IFREG | 0o644, O_RDWR | O_EXCL),
      );
      made = created?.entry;
      if (created !== undefined) await this.#opened({ id, handle: created.file.handle, syncs: 0 }, created.entry.attributes.ino);
    }
    if (made !== undefined) this.#took(id, made);
    return true;
  }

  async #link(): Promise<boolean> {
    const id = pickNode(this.#history.current, this.#random, (node) => node.kind !== "directory");
    if (id === undefined) return false;
    const parent = pickDirectory(this.#history.current, this.#random);
    const name = this.#pickName(parent);
    const [ino, parentIno] = [await this.#references.use(id), await this.#references.use(parent)];
    const linked = await this.#checks.change({ kind: "link", id, parent, name }, () => this.#fileSystem.link(CALLER, ino, parentIno, name));
    if (linked !== undefined) this.#took(id, linked);
    return true;
  }

  async #remove(kind: "unlink" | "removeDirectory"): Promise<boolean> {
    const entry = pickEntry(this.#history.current, this.#random);
    if (entry === undefined || (depthsOf(this.#history.current).size < NODES_WANTED && this.#random.chance(0.7))) return false;
    const [parent, name, id] = entry;
    // The kernel looks what is removed up first, and refuses the wrong kind by itself.
    if ((nodeOf(this.#history.current, id).kind === "directory") !== (kind === "removeDirectory")) return false;
    const parentIno = await this.#references.use(parent);
    await this.#references.use(id);
    await this.#checks.change({ kind, parent, name }, () => this.#fileSystem[kind](CALLER, parentIno, name));
    return true;
  }

  async #rename(): Promise<boolean> {
    const entry = pickEntry(this.#history.current, this.#random);
    if (entry === undefined) return false;
    const [parent, name, id] = entry;
    const newParent = pickDirectory(this.#history.current, this.#random);
    const newName = this.#pickName(newParent);
    const replaced = directoryOf(this.#history.current, newParent).entries.get(newName);
    const flags = this.#random.chance(0.1)
      ? replaced === undefined
        ? RENAME_NOREPLACE
        : this.#random.pick([RENAME_NOREPLACE, RENAME_EXCHANGE])
      : 0;
    // The kernel answers these by itself.
    if (
      replaced === id ||
      isWithin(this.#history.current, newParent, id) ||
      (replaced !== undefined && isWithin(this.#history.current, parent, replaced))
    )
      return false;
    const [parentIno, newParentIno] = [await this.#references.use(parent), await this.#references.use(newParent)];
    await this.#references.use(id);
    if (replaced !== undefined) await this.#references.use(replaced);
    await this.#checks.change({ kind: "rename", parent, name, newParent, newName, flags }, () =>
      this.#fileSystem.rename(CALLER, parentIno, name, newParentIno, newName, flags),
    );
    return true;
  }

  async #write(): Promise<boolean> {
    const open = await this.#someHandle();
    if (open === undefined) return false;
    const { size } = fileOf(this.#history.current, open.id).content;
    const near = this.#random.pick([0, size, this.#random.below(size + 1), this.#random.below(this.#fileBytes)]);
    const offset = this.#goesFar() ? this.#random.below(this.#farBytes) : near;
    const data = Buffer.from(this.#random.bytes(1 + this.#random.below(this.#random.pick([20, 5_000, this.#fileBytes / 2]))));
    if (offset + data.byteLength > Math.max(2 * this.#fileBytes, this.#farBytes)) return false;
    const ino = this.#inoOf(open.id);
    // The filesystem gets bytes that are gone as soon as it has answered, as the kernel's are.
    const lent = Buffer.from(data);
    const written = await this.#checks.change({ kind: "write", id: open.id, offset, data }, () =>
      this.#fileSystem.write(CALLER, ino, open.handle, offset, lent, { open: O_RDWR, killPrivileges: false }),
    );
    lent.fill(0xee);
    if (written !== undefined && written !== data.byteLength)
      throw this.#checks.mismatch(`a write of ${data.byteLength} bytes`, `wrote ${written}`);
    return true;
  }

  async #setAttributes(kind: "resize" | "setMode" | "setOwner" | "setTime"): Promise<boolean> {
    const id = pickNode(
      this.#history.current,
      this.#random,
      (node) => node.kind === "file" || (node.kind === "directory" && kind !== "resize"),
    );
    if (id === undefined) return false;
    const ino = await this.#references.use(id);
    let operation: Operation;
    if (kind === "resize") operation = { kind, id, size: this.#newSize(id) };
    else if (kind === "setMode") operation = { kind, id, mode: this.#random.below(0o1000) };
    else if (kind === "setOwner") operation = { kind, id, uid: this.#random.below(5), gid: this.#random.below(5) };
    else operation = { kind, id, mtimeNs: BigInt(this.#random.below(2 ** 40)) * 1_000n };
    const { kind: _, id: __, ...changes } = operation as Extract<Operation, { kind: typeof kind }>;
    const entry = await this.#checks.change(operation, () => this.#fileSystem.setAttributes(CALLER, ino, changes, undefined));
    if (entry !== undefined) this.#checks.checkEntry(id, entry, describe(operation));
    return true;
  }

  #newSize(id: NodeId): number {
    const { size } = fileOf(this.#history.current, id).content;
    if (this.#random.chance(0.15)) return 0;
    return this.#random.pick([4_096, size, Math.ceil(size * this.#random.fraction()), size + this.#random.below(this.#fileBytes / 4)]);
  }

  async #zero(): Promise<boolean> {
    const open = await this.#someHandle();
    if (open === undefined) return false;
    const { id, handle } = open;
    const offset = this.#random.below(this.#fileBytes);
    const length = 1 + this.#random.below(this.#goesFar() ? this.#farBytes : this.#fileBytes / 2);
    const ino = this.#inoOf(id);
    const mode = this.#random.pick([0, FALLOC_PUNCH_HOLE | FALLOC_KEEP_SIZE, FALLOC_ZERO_RANGE | FALLOC_KEEP_SIZE]);
    const operation: Operation = mode === 0 ? { kind: "grow", id, end: offset + length } : { kind: "zero", id, offset, length };
    await this.#checks.change(operation, () => this.#fileSystem.allocate(CALLER, ino, handle, mode, offset, length));
    return true;
  }

  async #extendedAttribute(kind: "setAttribute" | "removeAttribute"): Promise<boolean> {
    const id = pickNode(this.#history.current, this.#random, (node) => node.kind !== "symlink");
    if (id === undefined) return false;
    const ino = await this.#references.use(id);
    const name = `user.${this.#random.pick(NAMES.slice(0, 3))}`;
    if (kind === "setAttribute") {
      const value = Buffer.from(this.#random.bytes(this.#random.pick([0, 10, 3_000])));
      await this.#checks.change({ kind, id, name, value }, () =>
        this.#fileSystem.setExtendedAttribute(CALLER, ino, name, Buffer.from(value), 0),
      );
    } else await this.#checks.change({ kind, id, name }, () => this.#fileSystem.removeExtendedAttribute(CALLER, ino, name));
    return true;
  }

  async #open(): Promise<boolean> {
    const id = pickNode(this.#history.current, this.#random, (node) => node.kind === "file");
    if (id === undefined) return false;
    const ino = await this.#references.use(id);
    const truncate = this.#random.chance(0.1);
    const open = () => this.#fileSystem.open(CALLER, ino, truncate ? O_RDWR | O_TRUNC : O_RDWR);
    // Of an empty file nothing is cut off: nothing is logged, and who looks at it has nothing made durable.
    const cuts = truncate && fileOf(this.#history.current, id).content.size > 0;
    const file = cuts
      ? await this.#checks.change({ kind: "resize", id, size: 0 }, open)
      : await this.#checks.look(truncate ? whole(id) : { id, regions: NO_REGIONS }, "open", open);
    if (file !== undefined) await this.#opened({ id, handle: file.handle, syncs: 0 }, ino);
    return true;
  }

  async #opened(open: Handle, ino: number): Promise<void> {
    this.#history.numbers.set(open.id, ino);
    this.#history.opened(open.id);
    this.#handles.push(open);
    if (this.#handles.length > HANDLES_MAX) await this.#close(0);
  }

  async #close(index: number): Promise<boolean> {
    const { id, handle, syncs } = this.#handles[index] as Handle;
    if (syncs > 0) return false;
    this.#handles.splice(index, 1);
    this.#history.closed(id);
    const ino = this.#inoOf(id);
    await this.#checks.expect("flush", () => this.#fileSystem.flush(CALLER, ino, handle, 0n));
    await this.#checks.expect("release", () => this.#fileSystem.release(ino, handle, undefined));
    return true;
  }

  async #read(): Promise<boolean> {
    const open = await this.#someHandle();
    if (open === undefined) return false;
    const { content } = fileOf(this.#history.current, open.id);
    const offset = this.#random.below(content.size + 100);
    const length = 1 + this.#random.below(this.#random.pick([100, 10_000, 2 * this.#fileBytes]));
    const ino = this.#inoOf(open.id);
    // Taken over before the next turn of the event loop: later the pieces may change.
    const bytes = await this.#checks.look({ id: open.id, regions: regionsOf(offset, length) }, "read", async () =>
      Buffer.from(joined(await this.#fileSystem.read(CALLER, ino, open.handle, offset, length))),
    );
    const expected = content.read(offset, length);
    if (bytes.equals(expected)) return true;
    const at = bytes.findIndex((byte, index) => byte !== expected[index]);
    throw this.#checks.mismatch(
      `node ${open.id} (${ino}), read of ${offset}+${length}`,
      `${bytes.byteLength} bytes, not ${expected.byteLength}; first difference at ${at < 0 ? bytes.byteLength : at}`,
    );
  }

  async #list(): Promise<boolean> {
    const id = pickDirectory(this.#history.current, this.#random);
    const ino = await this.#references.use(id);
    const names = await this.#checks.look(whole(id), "a listing", () => namesOf(this.#fileSystem, ino, CALLER));
    const expected = [...directoryOf(this.#history.current, id).entries.keys()];
    if (names.sort().join("/") !== expected.sort().join("/"))
      throw this.#checks.mismatch(`the listing of ${id} (${ino})`, `${names.join(" ")}, not ${expected.join(" ")}`);
    return true;
  }

  async #stat(): Promise<boolean> {
    const id = pickNode(this.#history.current, this.#random, () => true);
    if (id === undefined) return false;
    const ino = await this.#references.use(id);
    // What another mount is changing is looked at there, and may still be lost with it.
    const entry = await this.#checks.expect("stat", () => this.#fileSystem.getAttributes(CALLER, ino, undefined));
    this.#checks.checkEntry(id, entry, "stat");
    const [name, value] = [...nodeOf(this.#history.current, id).attributes][0] ?? [];
    if (name === undefined || value === undefined) return true;
    const found = await this.#checks.look({ id, regions: NO_REGIONS }, "getxattr", () =>
      this.#fileSystem.getExtendedAttribute(CALLER, ino, name),
    );
    if (!value.equals(found)) throw this.#checks.mismatch(`${name} of ${id} (${ino})`, "differs");
    return true;
  }

  async #miss(): Promise<boolean> {
    const parent = pickDirectory(this.#history.current, this.#random);
    const name = this.#pickName(parent);
    if (directoryOf(this.#history.current, parent).entries.has(name)) return false;
    const parentIno = await this.#references.use(parent);
    let found: Entry | undefined;
    try {
      found = await this.#fileSystem.lookup(CALLER, parentIno, name);
    } catch (error) {
      if (!isDazzleError(error, "notFound")) throw this.#checks.mismatch(`a lookup of ${name}`, (error as Error).message, error);
    }
    if (found !== undefined && found.attributes.ino !== 0)
      throw this.#checks.mismatch(`a lookup of ${name} in ${parent} (${parentIno})`, `found ${found.attributes.ino}`);
    return true;
  }

  async #readLink(): Promise<boolean> {
    const id = pickNode(this.#history.current, this.#random, (node) => node.kind === "symlink");
    if (id === undefined) return false;
    const ino = await this.#references.use(id);
    const target = await this.#checks.look(whole(id), "readlink", () => this.#fileSystem.readLink(CALLER, ino));
    const node = nodeOf(this.#history.current, id);
    if (node.kind !== "symlink" || node.target !== target) throw this.#checks.mismatch(`the link ${id} (${ino})`, `leads to ${target}`);
    return true;
  }

  #took(id: NodeId, entry: Entry): void {
    this.#references.took(id, entry.attributes.ino);
    this.#checks.checkEntry(id, entry, "the entry");
  }

  #inoOf(id: NodeId): number {
    return this.#history.numbers.get(id) as number;
  }

  async #someHandle(): Promise<Handle | undefined> {
    if (this.#handles.length === 0 || this.#random.chance(0.2)) await this.#open();
    return this.#handles.length === 0 ? undefined : this.#random.pick(this.#handles);
  }

  /** A name for something new: free, if there is a free one, half of the time. */
  #pickName(parent: NodeId): string {
    const { entries } = directoryOf(this.#history.current, parent);
    const free = NAMES.filter((name) => !entries.has(name));
    return this.#random.pick(free.length > 0 && this.#random.chance(0.5) ? free : NAMES);
  }

  #goesFar(): boolean {
    return this.#farBytes > 0 && this.#random.chance(FAR_CHANCE);
  }

  #count(what: Action | "refused"): void {
    this.counts.set(what, (this.counts.get(what) ?? 0) + 1);
  }
}
