import { assert, BLOCK_BYTES, covers, overlaps, type RegionRange, WHOLE_FILE } from "@dazzle/core";
import { differences, numbersOf, type Observed } from "./observed.ts";
import {
  apply,
  entriesOf,
  initialState,
  MODEL_ROOT,
  type NodeId,
  nodeOf,
  type Operation,
  type Owned,
  Refused,
  type State,
  type Touched,
  touchedBy,
} from "./state.ts";

interface LogEntry {
  readonly number: number;
  readonly mount: string;
  readonly operation: Operation;
  /** The state after it and all before it. */
  readonly after: State;
}

/** An operation on a file's bytes that was done in part, and what that part is. */
interface Torn {
  readonly entry: LogEntry;
  readonly operations: readonly Operation[];
}

interface Change {
  readonly mount: string;
  readonly number: number;
  readonly regions: RegionRange;
}

interface Candidate {
  readonly state: State;
  readonly kept: readonly LogEntry[];
}

/** What a crash left: how many operations since the last fold survived, and how many did not. */
export interface Recovery {
  readonly kept: number;
  readonly lost: number;
}

/** A recovered tree that no allowed history explains. */
export class RecoveryError extends Error {
  override name = "RecoveryError";
}

const DIFFERENCES_MAX = 20;
const LAST_OPERATIONS = 8;

/** What mounts did to one tree: numbered operations, in order, and up to where each mount's are durable for certain. Several
 * mounts take turns: no operation begins before the last one is done. */
export class History {
  /** The index numbers of nodes, as far as a filesystem has told them. */
  readonly numbers = new Map<NodeId, number>();
  #nextId: NodeId = MODEL_ROOT + 1;
  #lastNumber = 0;
  #base: State;
  // INVARIANT: each entry's `after` is the state before it with its operation applied; the first one's is `#base`.
  #log: LogEntry[] = [];
  readonly #opens = new Map<NodeId, number>();
  readonly #synced = new Map<string, number>();
  /** Of each node the changes that may not be durable yet; of one mount's only the last one of what it changed again. */
  readonly #changed = new Map<NodeId, readonly Change[]>();
  /** What was in the place of what the newest operation put there. */
  #changedBefore: ReadonlyMap<NodeId, readonly Change[]> = new Map();

  readonly #onBegin: ((line: string) => void) | undefined;

  /** `rootIno`: the index number of the (empty) directory that the operations stay below. `onBegin` is told each operation in a line. */
  constructor(rootIno: number, root: Owned, onBegin?: (line: string) => void) {
    this.#onBegin = onBegin;
    this.#base = initialState(root);
    this.numbers.set(MODEL_ROOT, rootIno);
  }

  get current(): State {
    return this.#log.at(-1)?.after ?? this.#base;
  }

  /** The number of the newest operation, over all mounts. */
  get lastNumber(): number {
    return this.#lastNumber;
  }

  /** Operations that a crash may still undo. */
  get unsynced(): number {
    return this.#log.filter((entry) => !this.#isSynced(entry)).length;
  }

  newId(): NodeId {
    return this.#nextId++;
  }

  /** Records an operation as it begins; from then on a crash may leave it done or not. Throws `Refused`, and records
   * nothing, where it must fail. Call what it answers once the operation is done. */
  begin(mount: string, operation: Operation): () => void {
    const touched = touchedBy(this.current, operation);
    const after = this.#collected(
      apply(this.current, operation),
      touched.map(({ id }) => id),
    );
    const done = this.looks(mount, touched);
    const number = ++this.#lastNumber;
    this.#log.push({ number, mount, operation, after });
    this.#onBegin?.(`${number} ${mount}: ${describe(operation)}`);
    this.#changedBefore = new Map(touched.map(({ id }) => [id, this.#changed.get(id) ?? []]));
    for (const { id, regions } of touched) {
      const kept = (this.#changed.get(id) ?? []).filter(
        (change) => !this.#isSynced(change) && !(change.mount === mount && covers(regions, change.regions)),
      );
      this.#changed.set(id, [...kept, { mount, number, regions }]);
    }
    return done;
  }

  /** The newest operation was refused for a reason that the model does not know: it was not done. */
  retract(): void {
    const last = this.#log.pop();
    assert(last !== undefined && last.number === this.#lastNumber, "only the newest operation is retracted");
    for (const [id, changes] of this.#changedBefore) this.#changed.set(id, changes);
  }

  /** A mount has a file open: it stays in the model when its last name goes. */
  opened(id: NodeId): void {
    this.#opens.set(id, (this.#opens.get(id) ?? 0) + 1);
  }

  closed(id: NodeId): void {
    const left = (this.#opens.get(id) ?? 0) - 1;
    if (left > 0) {
      this.#opens.set(id, left);
      return;
    }
    this.#opens.delete(id);
    const last = this.#log.pop();
    if (last === undefined) this.#base = this.#collected(this.#base, [id]);
    else this.#log.push({ ...last, after: this.#collected(last.after, [id]) });
  }

  /** A mount begins to look at this. Call what it answers once it has: then what another mount had changed of it is durable, since no token leaves
   * a mount sooner. What others write in other regions of a file need not be: the mounts may each have a part. */
  looks(mount: string, touched: readonly Touched[]): () => void {
    const others = touched.flatMap(({ id, regions }) =>
      (this.#changed.get(id) ?? []).filter((change) => change.mount !== mount && meet(change.regions, regions)),
    );
    return () => {
      for (const change of others) this.synced(change.mount, change.number);
    };
  }

  /** All that this mount began up to operation `number` is durable. */
  synced(mount: string, number: number): void {
    if (number <= (this.#synced.get(mount) ?? 0)) return;
    this.#synced.set(mount, number);
    let folded = 0;
    for (const entry of this.#log) {
      if (!this.#isSynced(entry)) break;
      this.#base = entry.after;
      folded++;
    }
    if (folded > 0) this.#log.splice(0, folded);
  }

  /** Finds the state that a crash left: of every crashed mount's operations a prefix that holds all that were synced; all of the other
   * mounts' (none of those may be under way). That state is the current one from then on, and durable. */
  recovered(observed: Observed, crashed: readonly string[]): Recovery {
    let closest: { readonly candidate: Candidate; readonly found: string[] } | undefined;
    for (const candidate of this.#candidates(crashed)) {
      const limit = closest?.found.length ?? DIFFERENCES_MAX;
      const found = differences(candidate.state, observed, this.numbers, limit);
      if (found.length === 0) return this.#settleOn(candidate, observed);
      if (closest === undefined || found.length < limit) closest = { candidate, found };
    }
    assert(closest !== undefined, "a history without losses is always allowed");
    throw new RecoveryError(this.#explain(closest.candidate, closest.found));
  }

  /** Without those of the nodes that have neither a name nor anybody who has them open. */
  #collected(state: State, ids: readonly NodeId[]): State {
    const dead = ids.filter((id) => {
      const node = state.get(id);
      return node !== undefined && node.kind !== "directory" && node.links === 0 && !this.#opens.has(id);
    });
    if (dead.length === 0) return state;
    const kept = new Map(state);
    for (const id of dead) kept.delete(id);
    return kept;
  }

  #isSynced(entry: { readonly mount: string; readonly number: number }): boolean {
    return entry.number <= (this.#synced.get(entry.mount) ?? 0);
  }

  /** Every allowed history, the fullest first. */
  *#candidates(crashed: readonly string[]): Generator<Candidate> {
    const losable = (mount: string) =>
      this.#log.filter((entry) => entry.mount === mount && !this.#isSynced(entry)).map((entry) => entry.number);
    const choices = [...new Set(crashed)].map((mount) =>
      [Number.POSITIVE_INFINITY, ...losable(mount).reverse()].map((from) => ({ mount, from })),
    );
    for (const cuts of product(choices)) {
      const lost = (entry: LogEntry) => cuts.some((cut) => cut.mount === entry.mount && entry.number >= cut.from);
      const firsts = this.#log.filter((entry) => cuts.some((cut) => cut.mount === entry.mount && entry.number === cut.from));
      for (const torn of [undefined, ...firsts.flatMap(tornFrom)]) {
        const candidate = this.#without(lost, torn);
        if (candidate !== undefined) yield candidate;
      }
    }
  }

  /** The history without some operations, or with a part of one of them; undefined where a later one builds on them. */
  #without(lost: (entry: LogEntry) => boolean, torn: Torn | undefined): Candidate | undefined {
    const first = this.#log.findIndex(lost);
    if (first < 0) return { state: this.current, kept: this.#log };
    const kept = this.#log.slice(0, first);
    let state = kept.at(-1)?.after ?? this.#base;
    for (const entry of this.#log.slice(first)) {
      if (lost(entry) && entry !== torn?.entry) continue;
      try {
        for (const operation of entry === torn?.entry ? torn.operations : [entry.operation]) state = apply(state, operation);
      } catch (error) {
        if (error instanceof Refused) return undefined;
        throw error;
      }
      kept.push(entry);
    }
    return { state, kept };
  }

  #settleOn(candidate: Candidate, observed: Observed): Recovery {
    const recovery = { kept: candidate.kept.length, lost: this.#log.length - candidate.kept.length };
    const numbers = numbersOf(candidate.state, observed);
    for (const id of this.#opens.keys()) {
      const ino = this.numbers.get(id);
      if (ino !== undefined && candidate.state.has(id)) numbers.set(id, ino);
    }
    this.#base = new Map([...numbers.keys()].map((id) => [id, nodeOf(candidate.state, id)]));
    this.#log = [];
    this.numbers.clear();
    for (const [id, ino] of numbers) this.numbers.set(id, ino);
    this.#changed.clear();
    for (const mount of this.#synced.keys()) this.#synced.set(mount, this.#lastNumber);
    return recovery;
  }

  #explain(candidate: Candidate, found: readonly string[]): string {
    const lost = this.#log.length - candidate.kept.length;
    const lines = candidate.kept.slice(-LAST_OPERATIONS).map((entry) => `  ${entry.number} ${entry.mount}: ${describe(entry.operation)}`);
    const synced = [...this.#synced].map(([mount, number]) => `${mount} to ${number}`).join(", ");
    return [
      `no allowed history of ${this.#log.length} operations that may be lost (synced: ${synced || "none"}) explains what was recovered`,
      `the closest loses ${lost}, and ends with`,
      ...lines,
      "but then",
      ...found.map((line) => `  ${line}`),
    ].join("\n");
  }
}

/** Whoever looks at a file as a whole has all of it. */
function meet(one: RegionRange, other: RegionRange): boolean {
  return overlaps(one, other) || covers(one, WHOLE_FILE) || covers(other, WHOLE_FILE);
}

/** What goes into the log block by block may end between two: a write from the front, zeros at the edges first. */
function tornFrom(entry: LogEntry): Torn[] {
  const { operation } = entry;
  if (operation.kind === "write") {
    const { offset, data } = operation;
    return boundaries(offset, offset + data.byteLength).map((to) => ({
      entry,
      operations: [{ ...operation, data: data.subarray(0, to - offset) }],
    }));
  }
  if (operation.kind !== "zero") return [];
  const { offset, length } = operation;
  const inner = boundaries(offset, offset + length);
  const [first, last] = [inner[0], inner.at(-1)];
  if (first === undefined || last === undefined) return [];
  const front: Operation = { ...operation, length: first - offset };
  const back: Operation = { ...operation, offset: last, length: offset + length - last };
  return [
    { entry, operations: [front] },
    { entry, operations: [front, back] },
  ];
}

/** Where blocks meet between two bytes. */
function boundaries(from: number, to: number): number[] {
  const between: number[] = [];
  for (let at = Math.ceil((from + 1) / BLOCK_BYTES) * BLOCK_BYTES; at < to; at += BLOCK_BYTES) between.push(at);
  return between;
}

/** The operation in one line. */
export function describe(operation: Operation | { readonly kind: string }): string {
  const fields = Object.entries(operation).map(([name, value]) => {
    if (name === "kind") return String(value);
    return `${name}=${value instanceof Uint8Array ? `${value.byteLength} bytes` : String(value)}`;
  });
  return fields.join(" ");
}

/** Where each node is, one path each. */
export function pathsOf(state: State): Map<NodeId, string> {
  const paths = new Map([[MODEL_ROOT, ""]]);
  for (const [parent, name, id] of entriesOf(state)) if (!paths.has(id)) paths.set(id, `${paths.get(parent)}/${name}`);
  return paths;
}

function* product<T>(choices: readonly (readonly T[])[]): Generator<readonly T[]> {
  const [first, ...rest] = choices;
  if (first === undefined) yield [];
  else for (const chosen of first) for (const others of product(rest)) yield [chosen, ...others];
}
