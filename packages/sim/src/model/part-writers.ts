import { assert, BLOCK_BYTES, type Caller, DazzleError, type FileSystem, joined, REGION_BLOCKS } from "@dazzle/core";
import type { SeededRandom } from "../random.ts";

const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const O_RDWR = 2;
const O_APPEND = 0o2000;
const FILES = 2;
/** What is written, cut and read is whole cells, each filled with one number. */
const CELL_BYTES = 512;
const BLOCK_CELLS = BLOCK_BYTES / CELL_BYTES;
const REGION_CELLS = REGION_BLOCKS * BLOCK_CELLS;
const REGIONS = 4;
const WRITE_CELLS_MAX = 20;
const STATES_MAX = 20_000;

/** A file: its length in cells, and those that are not zero. */
interface File {
  readonly cells: number;
  readonly values: ReadonlyMap<number, number>;
}
type State = readonly File[];

type Operation =
  | { readonly kind: "write"; readonly file: number; readonly at: number; readonly count: number; readonly value: number }
  | { readonly kind: "append"; readonly file: number; readonly count: number; readonly value: number }
  | { readonly kind: "resize"; readonly file: number; readonly cells: number }
  | { readonly kind: "stat"; readonly file: number }
  | { readonly kind: "read"; readonly file: number; readonly at: number; readonly count: number };

interface Done {
  readonly operation: Operation;
  /** Null while there is none. */
  answer: string | null;
}

/** A mount that dies meanwhile, or is cut off: of what it does from now on only a prefix need be there, and what it does once it has rejoined. */
interface Lost {
  readonly index: number;
  readonly rejoins: boolean;
  /** Resolves when that is over. */
  readonly ended: Promise<void>;
}

interface Handle {
  readonly plain: number;
  readonly appending: number;
}

/** Several mounts write different and overlapping parts of the same files at once, cut and lengthen them, and look at them, in rounds: what each was answered
 * must be what one filesystem would have answered them in some order. */
export class PartWriters {
  readonly #random: SeededRandom;
  readonly #mounts: FileSystem[];
  readonly #handles: Handle[][] = [];
  readonly #numbers: number[] = [];
  #states: State[] = [];
  #value = 0;
  operations = 0;

  constructor(mounts: readonly FileSystem[], random: SeededRandom) {
    this.#mounts = [...mounts];
    this.#random = random;
  }

  async prepare(rootIno: number): Promise<void> {
    for (let file = 0; file < FILES; file++) {
      const made = await (this.#mounts[0] as FileSystem).makeNode(CALLER, rootIno, `file${file}`, 0o100644, 0);
      this.#numbers.push(made.attributes.ino);
    }
    for (const index of this.#mounts.keys()) await this.open(index);
    this.#states = [Array.from({ length: FILES }, () => ({ cells: 0, values: new Map() }))];
  }

  /** The mount has no open files any more, and may be another one. */
  async open(index: number, mount = this.#mounts[index] as FileSystem): Promise<void> {
    this.#mounts[index] = mount;
    const handles: Handle[] = [];
    for (const ino of this.#numbers) {
      const { handle: plain } = await mount.open(CALLER, ino, O_RDWR);
      const { handle: appending } = await mount.open(CALLER, ino, O_RDWR | O_APPEND);
      handles.push({ plain, appending });
    }
    this.#handles[index] = handles;
  }

  async close(index: number): Promise<void> {
    const mount = this.#mounts[index] as FileSystem;
    for (const [file, { plain, appending }] of (this.#handles[index] as Handle[]).entries())
      for (const handle of [plain, appending]) {
        try {
          await mount.release(this.#numbers[file] as number, handle, undefined);
        } catch (error) {
          // As the kernel: it is closed all the same.
          if (!(error instanceof DazzleError)) throw error;
        }
      }
  }

  /** Every mount does some operations, one after the other, beside the others. Throws where no order explains what they were answered. */
  async round(lost?: Lost): Promise<void> {
    if (lost !== undefined) for (const mount of this.#mounts) await mount.fsync(CALLER, this.#numbers[0] as number, undefined, false);
    const lists: Done[][] = this.#mounts.map(() => []);
    const works = this.#mounts.map((_, index) => this.#work(index, lists[index] as Done[], lost));
    await Promise.all(works.map((work, index) => (index === lost?.index ? Promise.race([work.catch(() => {}), lost.ended]) : work)));
    await lost?.ended;
    this.#explain(lists, lost);
  }

  /** One mount looks at everything. */
  async look(index = this.#random.below(this.#mounts.length)): Promise<void> {
    const seen: Done[] = [];
    for (let file = 0; file < FILES; file++) {
      await this.#perform(index, { kind: "stat", file }, seen);
      // No more than fits the mount's memory at once.
      for (let at = 0; at < (REGIONS + 1) * REGION_CELLS; at += REGION_CELLS / 4)
        await this.#perform(index, { kind: "read", file, at, count: REGION_CELLS / 4 }, seen);
    }
    this.#explain([seen], undefined);
  }

  async #work(index: number, list: Done[], lost: Lost | undefined): Promise<void> {
    const count = 1 + this.#random.below(lost === undefined ? 3 : 2);
    for (let step = 0; step < count; step++) {
      const operation = this.#draw(index);
      // What a look at a dying mount's file tells may be undone.
      if (lost !== undefined && operation.kind === "stat") continue;
      await this.#perform(index, operation, list);
    }
  }

  #draw(index: number): Operation {
    const random = this.#random;
    const file = random.below(FILES);
    const place = (): number => {
      // Mostly in the mount's own region, and about its borders.
      const region = random.chance(0.7) ? index % REGIONS : random.below(REGIONS);
      const within = random.pick([random.below(40), random.below(REGION_CELLS), REGION_CELLS - 1 - random.below(30)]);
      return region * REGION_CELLS + within;
    };
    const count = 1 + random.below(WRITE_CELLS_MAX);
    switch (random.below(16)) {
      case 0:
        return { kind: "append", file, count, value: ++this.#value };
      case 1:
        return { kind: "resize", file, cells: random.below(REGIONS * REGION_CELLS) };
      case 2:
      case 3:
        return { kind: "stat", file };
      case 4:
      case 5:
        return { kind: "read", file, at: place(), count: random.pick([count, 100, REGION_CELLS / 4]) };
      default:
        return { kind: "write", file, at: place(), count, value: ++this.#value };
    }
  }

  async #perform(index: number, operation: Operation, list: Done[]): Promise<void> {
    this.operations++;
    const done: Done = { operation, answer: null };
    list.push(done);
    try {
      done.answer = await this.#answer(index, operation);
    } catch (error) {
      if (!(error instanceof DazzleError)) throw error;
      done.answer = `error ${error.code}: ${error.message}`;
    }
  }

  async #answer(index: number, operation: Operation): Promise<string> {
    const mount = this.#mounts[index] as FileSystem;
    const ino = this.#numbers[operation.file] as number;
    const { plain, appending } = (this.#handles[index] as Handle[])[operation.file] as Handle;
    switch (operation.kind) {
      case "write":
      case "append": {
        const appends = operation.kind === "append";
        const flags = { open: appends ? O_RDWR | O_APPEND : O_RDWR, killPrivileges: false };
        const offset = appends ? 0 : operation.at * CELL_BYTES;
        await mount.write(CALLER, ino, appends ? appending : plain, offset, filled(operation.count, operation.value), flags);
        return "done";
      }
      case "resize":
        await mount.setAttributes(CALLER, ino, { size: operation.cells * CELL_BYTES }, undefined);
        return "done";
      case "stat":
        return `${(await mount.getAttributes(CALLER, ino, undefined)).attributes.size / CELL_BYTES} cells`;
      case "read": {
        const bytes = joined(await mount.read(CALLER, ino, plain, operation.at * CELL_BYTES, operation.count * CELL_BYTES));
        return seen(bytes, operation.at);
      }
    }
  }

  /** What one filesystem in this state answers, and its state after. */
  #after(state: State, operation: Operation): { answer: string; after: State } {
    const file = state[operation.file] as File;
    switch (operation.kind) {
      case "write":
        return { answer: "done", after: state.with(operation.file, written(file, operation.at, operation.count, operation.value)) };
      case "append":
        return { answer: "done", after: state.with(operation.file, written(file, file.cells, operation.count, operation.value)) };
      case "resize": {
        const values = new Map([...file.values].filter(([cell]) => cell < operation.cells));
        return { answer: "done", after: state.with(operation.file, { cells: operation.cells, values }) };
      }
      case "stat":
        return { answer: `${file.cells} cells`, after: state };
      case "read": {
        const end = Math.min(file.cells, operation.at + operation.count);
        const values = [...file.values].filter(([cell]) => cell >= operation.at && cell < end);
        return { answer: told(Math.max(0, end - operation.at), values), after: state };
      }
    }
  }

  #explain(lists: readonly (readonly Done[])[], lost: Lost | undefined): void {
    const found = new Map<string, State>();
    const visited = new Set<string>();
    const search = (state: State, at: readonly number[]): void => {
      const key = `${at.join()} ${keyOf(state)}`;
      if (visited.has(key)) return;
      visited.add(key);
      if (lists.every((list, index) => index === lost?.index || at[index] === list.length)) found.set(keyOf(state), state);
      for (const [index, list] of lists.entries()) {
        const next = list[at[index] as number];
        if (next === undefined) continue;
        const { answer, after } = this.#after(state, next.operation);
        if (index === lost?.index && (next.operation.kind === "write" || next.operation.kind === "append")) {
          // Its segments part a write between two blocks.
          const behind = lost.rejoins ? (at[index] as number) + 1 : list.length;
          for (const part of partsOf(state, next.operation)) search(part, at.with(index, behind));
        }
        const isAnswered = index !== lost?.index || (next.answer !== null && !next.answer.startsWith("error"));
        if (!isAnswered || answer === next.answer) search(after, at.with(index, (at[index] as number) + 1));
      }
    };
    for (const state of this.#states)
      search(
        state,
        lists.map(() => 0),
      );
    if (found.size === 0) {
      const lines = lists.flatMap((list, index) =>
        list.map(({ operation, answer }) => `  m${index}: ${JSON.stringify(operation)} -> ${answer}`),
      );
      throw new Error([`no order explains, from ${this.#states.map(keyOf).join(" | ")}`, ...lines].join("\n"));
    }
    assert(found.size <= STATES_MAX, `few of ${found.size} states are told apart: a look narrows them`);
    this.#states = [...found.values()];
  }
}

/** The state after the first blocks of a write alone, or none of them. */
function partsOf(state: State, operation: Extract<Operation, { kind: "write" | "append" }>): State[] {
  const file = state[operation.file] as File;
  const { count, value } = operation;
  const start = operation.kind === "append" ? file.cells : operation.at;
  const parts = [state];
  for (let end = start + 1; end < start + count; end++)
    if (end % BLOCK_CELLS === 0) parts.push(state.with(operation.file, written(file, start, end - start, value)));
  return parts;
}

function filled(count: number, value: number): Buffer {
  const bytes = Buffer.alloc(count * CELL_BYTES);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE(value, at);
  return bytes;
}

function written({ cells, values }: File, at: number, count: number, value: number): File {
  const after = new Map(values);
  for (let cell = at; cell < at + count; cell++) after.set(cell, value);
  return { cells: Math.max(cells, at + count), values: after };
}

/** The cells in these bytes; `torn` where one holds different numbers. */
function seen(bytes: Buffer, first: number): string {
  const values: Array<readonly [number, number]> = [];
  for (let at = 0; at < bytes.length; at += CELL_BYTES) {
    const value = bytes.readUInt32LE(at);
    if (!bytes.subarray(at, at + CELL_BYTES).equals(filled(1, value))) return `cell ${first + at / CELL_BYTES} is torn`;
    if (value !== 0) values.push([first + at / CELL_BYTES, value]);
  }
  return told(bytes.length / CELL_BYTES, values);
}

function told(cells: number, values: ReadonlyArray<readonly [number, number]>): string {
  const runs: string[] = [];
  let [start, last, of] = [-1, -1, 0];
  const end = () => {
    if (start >= 0) runs.push(`${start}-${last}=${of}`);
  };
  for (const [cell, value] of [...values].sort(([one], [other]) => one - other)) {
    if (start >= 0 && cell === last + 1 && value === of) last = cell;
    else {
      end();
      [start, last, of] = [cell, cell, value];
    }
  }
  end();
  return `${cells} cells ${runs.join(" ")}`;
}

/** The state in a line: equal where two states are. */
function keyOf(state: State): string {
  return state.map(({ cells, values }) => told(cells, [...values])).join(" / ");
}
