/** The ports: everything that `core`, `log` and the roles know of the world outside. `runtime` holds the real ones,
 * `sim` the simulated ones. */

export interface Timer {
  cancel(): void;
}

export interface Clock {
  /** Milliseconds of a clock that never goes back and counts suspension (CLOCK_BOOTTIME). */
  nowMs(): number;
  /** Nanoseconds since 1970, for file times alone: it may jump. */
  wallTimeNs(): bigint;
  /** Runs `action` once, `delayMs` from now. */
  after(delayMs: number, action: () => void): Timer;
  /** Runs `action` in a later turn of the event loop, after what is already queued (setImmediate). */
  soon(action: () => void): void;
}

export interface Random {
  bytes(length: number): Uint8Array;
  /** A whole number, 0 <= n < `bound`. */
  below(bound: number): number;
}

/** One file. Offsets and lengths in bytes. Every failure but a missing file rejects `diskFailed` (EIO) or `noSpace` (ENOSPC). */
export interface DiskFile {
  /** Fills `buffer` from `position`; answers how many bytes there were (fewer only at the end of the file). */
  read(buffer: Uint8Array, position: number): Promise<number>;
  /** As `read`, at once, where the bytes are in memory; undefined where the disk would be waited for. */
  readNow(buffer: Uint8Array, position: number): number | undefined;
  /** As `read`, from the disk itself where the platform can: what is in memory of the file is neither asked nor added to. */
  readStored(buffer: Uint8Array, position: number): Promise<number>;
  /** Writes the pieces one after the other from `position` on. `pieces` must not change before it resolves. Not
   * durable before `sync`, and a crash may keep any subset of the sectors. */
  write(pieces: readonly Uint8Array[], position: number): Promise<void>;
  /** fdatasync: everything whose write had resolved before the call is durable when it resolves. A failed one is never
   * tried again on the same file: what was unsynced is unknown. */
  sync(): Promise<void>;
  size(): Promise<number>;
  truncate(bytes: number): Promise<void>;
  /** Gives the space of a range back to the disk; it reads as zeros. Answers false where the platform can't. */
  punchHole(position: number, length: number): Promise<boolean>;
  close(): Promise<void>;
}

/** A directory of this machine that belongs to one role alone. Paths are relative to it, with "/" between parts. */
export interface Disk {
  open(path: string, options: { readonly create: boolean }): Promise<DiskFile>;
  /** Names in a directory, sorted; empty where it does not exist. */
  list(path: string): Promise<readonly string[]>;
  makeDirectory(path: string): Promise<void>;
  /** Removes a file; not an error where it does not exist. Durable after `syncDirectory`. */
  remove(path: string): Promise<void>;
  /** Replaces a small file whole: after a crash it holds the old bytes or the new, and when it resolves, the new. One that
   * was interrupted may leave a file `path.new` behind. */
  replace(path: string, bytes: Uint8Array): Promise<void>;
  /** A small file's bytes, undefined where it does not exist. */
  readWhole(path: string): Promise<Uint8Array | undefined>;
  syncDirectory(path: string): Promise<void>;
  space(): Promise<{ readonly totalBytes: number; readonly freeBytes: number }>;
  /** An ordered key-value store under `path` (lmdb in the runtime). */
  openIndex(path: string): Promise<OrderedStore>;
}

/** An ordered, embedded key-value store. Keys are at most 256 bytes and compare as bytes. Reads see every `commit` that was called, at once. */
export interface OrderedStore {
  get(key: Uint8Array): Uint8Array | undefined;
  /** Entries with `from <= key < to`, ascending. Don't commit while iterating. */
  range(from: Uint8Array, to: Uint8Array): Iterable<readonly [Uint8Array, Uint8Array]>;
  /** Applies all of it or nothing; durable when it resolves. A value of undefined removes the key. */
  commit(changes: ReadonlyArray<readonly [Uint8Array, Uint8Array | undefined]>): Promise<void>;
  close(): Promise<void>;
}

/** Where a process listens: `unix:PATH` or `tcp:HOST:PORT`. */
export type Address = string;

/** One message as it crosses a connection: a packed header, and raw bytes behind it. On the wire:
 * `[u32 header length][header][tail]`. The tail's pieces are sent by reference: they must not change before the request
 * is answered; pieces may arrive cut differently. */
export interface Frame {
  readonly header: Uint8Array;
  readonly tail: readonly Uint8Array[];
}

/** Frames, in order, each once, until it closes; then nothing more. */
export interface Connection {
  readonly remote: Address;
  /** Never blocks. Frames sent after a close are dropped. */
  send(frame: Frame): void;
  /** Bytes accepted by `send` and not yet handed to the operating system. */
  readonly bufferedBytes: number;
  onFrame(handler: (frame: Frame) => void): void;
  /** Called once, also when it was closed from here. */
  onClose(handler: (reason: string) => void): void;
  /** Drops what was sent and has not left. */
  close(): void;
}

export interface Listener {
  readonly address: Address;
  close(): Promise<void>;
}

export interface Network {
  /** Rejects with a `DazzleError` that names the address where it is in use. A port of 0 takes a free one. */
  listen(address: Address, accept: (connection: Connection) => void): Promise<Listener>;
  /** Rejects `unreachable`: a `RefusedError` where nobody listens; after `deadlineMs` at the latest. */
  connect(address: Address, deadlineMs: number): Promise<Connection>;
}

export type LogLevel = "info" | "warning" | "error";

/** One line a happening; `fields` are printed as key=value. */
export type Logger = (level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>) => void;

/** Whether a process of this machine is gone. */
export interface Processes {
  /** What names this process on its machine for ever: machine boot id, pid, start time. */
  readonly self: string;
  /** True only when it is certain: it was of this machine and no longer runs. */
  isGone(process: string): boolean;
}

export interface Ports {
  readonly clock: Clock;
  readonly random: Random;
  readonly network: Network;
  readonly processes: Processes;
  readonly logger: Logger;
}
