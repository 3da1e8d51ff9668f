import {
  chmod,
  type FileHandle,
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  readlink,
  rename,
  rmdir,
  symlink,
  truncate,
  unlink,
  utimes,
} from "node:fs/promises";
import { comparable, readAt, writeWhole } from "./calls.ts";

/** One operation, to be carried out below any root: on a mount and on the reference. */
export interface Step {
  readonly text: string;
  /** Names whose attributes are compared afterwards. */
  readonly touched: readonly string[];
  run(root: Root): Promise<unknown>;
}

/** A tree and its open files, by the number that the step which opened one gave it. */
export interface Root {
  readonly path: string;
  readonly open: Map<number, FileHandle>;
}

const NAMES = ["a", "b", "c", "d"];
const FOLDERS = ["", "one/", "two/", "one/deep/"];
const HANDLES_MAX = 8;
const FILE_BYTES_MAX = 40_000;

/** Chooses steps on few names, so that they meet. */
export class Steps {
  readonly #random: (bound: number) => number;
  readonly #handles: number[] = [];
  #next = 1;

  constructor(random: (bound: number) => number) {
    this.#random = random;
  }

  #pick<T>(list: readonly T[]): T {
    return list[this.#random(list.length)] as T;
  }

  #name(): string {
    return `${this.#pick(FOLDERS)}${this.#pick(NAMES)}`;
  }

  #folder(): string {
    return this.#pick(["one", "two", "one/deep", "two/deep", "three"]);
  }

  #bytes(): string {
    const length = this.#pick([1, 10, 100, 4_096, 5_000, 12_288]);
    return String.fromCharCode(97 + this.#random(26)).repeat(length);
  }

  next(): Step {
    const number = this.#next++;
    const kinds = [
      () => this.#write(),
      () => this.#write(),
      () => this.#append(),
      () => this.#append(),
      () => this.#overwrite(),
      () => this.#read(),
      () => this.#read(),
      () => this.#list(),
      () => this.#status(),
      () => this.#unlink(),
      () => this.#unlink(),
      () => this.#makeFolder(),
      () => this.#makeFolder(),
      () => this.#removeFolder(),
      () => this.#rename(),
      () => this.#rename(),
      () => this.#renameFolder(),
      () => this.#link(),
      () => this.#symlink(),
      () => this.#mode(),
      () => this.#times(),
      () => this.#cut(),
      () => this.#open(number),
      () => this.#open(number),
      () => this.#use(),
      () => this.#use(),
      () => this.#use(),
      () => this.#close(),
    ];
    return this.#pick(kinds)();
  }

  #on(text: string, touched: readonly string[], run: (root: string) => Promise<unknown>): Step {
    return { text, touched, run: (root) => run(root.path) };
  }

  #write(): Step {
    const name = this.#name();
    const bytes = this.#bytes();
    return this.#on(`write ${name} (${bytes.length})`, [name], (root) => writeWhole(`${root}/${name}`, "w", bytes, null));
  }

  #append(): Step {
    const name = this.#name();
    const bytes = this.#bytes();
    return this.#on(`append ${name} (${bytes.length})`, [name], (root) => writeWhole(`${root}/${name}`, "a", bytes, null));
  }

  #overwrite(): Step {
    const name = this.#name();
    const bytes = this.#bytes();
    const position = this.#random(FILE_BYTES_MAX);
    return this.#on(`overwrite ${name} at ${position} (${bytes.length})`, [name], (root) =>
      writeWhole(`${root}/${name}`, "r+", bytes, position),
    );
  }

  #read(): Step {
    const name = this.#name();
    return this.#on(`read ${name}`, [name], async (root) => readFile(`${root}/${name}`, "latin1"));
  }

  #list(): Step {
    const folder = this.#pick(["", "one", "two", "one/deep", "three"]);
    return this.#on(`list ${folder}`, [], async (root) => (await readdir(`${root}/${folder}`)).sort());
  }

  #status(): Step {
    const name = this.#name();
    return this.#on(`stat ${name}`, [name], async (root) => comparable(await lstat(`${root}/${name}`)));
  }

  #unlink(): Step {
    const name = this.#name();
    return this.#on(`unlink ${name}`, [name], (root) => unlink(`${root}/${name}`));
  }

  #makeFolder(): Step {
    const name = this.#folder();
    return this.#on(`mkdir ${name}`, [name], (root) => mkdir(`${root}/${name}`));
  }

  #removeFolder(): Step {
    const name = this.#folder();
    return this.#on(`rmdir ${name}`, [name], (root) => rmdir(`${root}/${name}`));
  }

  #rename(): Step {
    const from = this.#name();
    const to = this.#name();
    return this.#on(`rename ${from} ${to}`, [from, to], (root) => rename(`${root}/${from}`, `${root}/${to}`));
  }

  #renameFolder(): Step {
    const from = this.#folder();
    const to = this.#folder();
    return this.#on(`rename ${from} ${to}`, [from, to], (root) => rename(`${root}/${from}`, `${root}/${to}`));
  }

  #link(): Step {
    const from = this.#name();
    const to = this.#name();
    return this.#on(`link ${from} ${to}`, [from, to], (root) => link(`${root}/${from}`, `${root}/${to}`));
  }

  #symlink(): Step {
    const name = this.#name();
    const target = this.#pick(NAMES);
    return this.#on(`symlink ${name} ${target}`, [name], async (root) => {
      await symlink(target, `${root}/${name}`);
      return readlink(`${root}/${name}`);
    });
  }

  #mode(): Step {
    const name = this.#name();
    const mode = this.#pick([0o600, 0o644, 0o755, 0o700]);
    return this.#on(`chmod ${name} ${mode.toString(8)}`, [name], (root) => chmod(`${root}/${name}`, mode));
  }

  #times(): Step {
    const name = this.#name();
    const seconds = 1_000_000 + this.#random(1_000_000);
    return this.#on(`utimes ${name}`, [name], (root) => utimes(`${root}/${name}`, seconds, seconds));
  }

  #cut(): Step {
    const name = this.#name();
    const size = this.#random(FILE_BYTES_MAX);
    return this.#on(`truncate ${name} ${size}`, [name], (root) => truncate(`${root}/${name}`, size));
  }

  #open(number: number): Step {
    if (this.#handles.length >= HANDLES_MAX) return this.#close();
    const name = this.#name();
    const flags = this.#pick(["r", "r+", "w+", "a+", "wx+"]);
    this.#handles.push(number);
    return {
      text: `open ${name} ${flags} as ${number}`,
      touched: [name],
      run: async (root) => {
        root.open.set(number, await open(`${root.path}/${name}`, flags));
      },
    };
  }

  /** Reads, writes, cuts or looks at an open file, be it unlinked by now. */
  #use(): Step {
    const number = this.#handles.length === 0 ? 0 : this.#pick(this.#handles);
    const bytes = this.#bytes();
    const position = this.#random(FILE_BYTES_MAX);
    const on = (text: string, run: (handle: FileHandle) => Promise<unknown>): Step => ({
      text: `${text} of open file ${number}`,
      touched: [],
      run: async (root) => {
        const handle = root.open.get(number);
        return handle === undefined ? "not open" : run(handle);
      },
    });
    return this.#pick([
      () => on(`read at ${position}`, (handle) => readAt(handle, position, 10_000)),
      () => on("read at 0", (handle) => readAt(handle, 0, FILE_BYTES_MAX)),
      () => on("stat", async (handle) => comparable(await handle.stat())),
      () => on(`write at ${position}`, async (handle) => void (await handle.write(bytes, position, "latin1"))),
      () => on(`truncate to ${position}`, (handle) => handle.truncate(position)),
    ])();
  }

  #close(): Step {
    const number = this.#handles.shift() ?? 0;
    return {
      text: `close ${number}`,
      touched: [],
      run: async (root) => {
        const handle = root.open.get(number);
        root.open.delete(number);
        await handle?.close();
      },
    };
  }
}
