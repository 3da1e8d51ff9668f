import { assert, type Disk, type Logger, type LogLevel, type Ports } from "@dazzle/core";
import { type ClockSkew, EventQueue, type Owner, SimClock } from "./clock.ts";
import { Counters } from "./counters.ts";
import { SimDisk } from "./disk.ts";
import { SimDrive } from "./drive.ts";
import { Fingerprint } from "./fingerprint.ts";
import { Fabric, SimNetwork } from "./network.ts";
import { ProcessTable, type SimProcess, SimProcesses } from "./process.ts";
import { SeededRandom } from "./random.ts";
import { Turns } from "./turns.ts";

export interface LogLine {
  readonly atMs: number;
  readonly process: string;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Readonly<Record<string, unknown>>;
}

/** How long a run may take where nothing is said, in virtual time. */
const RUN_LIMIT_MS = 600_000;
const LOG_LINES_MAX = 10_000;
/** How far the monotonic clocks of two processes may lie apart. */
const CLOCK_OFFSET_MAX_MS = 1e9;

/** What went wrong in a simulation, with the seed that shows it again. */
export class SimulationError extends Error {
  override name = "SimulationError";
}

/** One process of the simulation: the ports it is started with, and its end. */
export class Instance {
  readonly name: string;
  readonly ports: Ports;
  /** The drive that `disk` lies on: its faults, and what a crash leaves. */
  readonly drive: SimDrive;
  /** The drive's root directory, as this process uses it. */
  readonly disk: Disk;
  readonly #world: World;
  readonly #process: SimProcess;

  constructor(world: World, process: SimProcess, ports: Ports, drive: SimDrive) {
    this.#world = world;
    this.#process = process;
    this.name = process.name;
    this.ports = ports;
    this.drive = drive;
    this.disk = this.diskAt("");
  }

  get alive(): boolean {
    return this.#process.alive;
  }

  /** A directory of the drive for one role alone; made, durably, where it does not exist. */
  diskAt(directory: string): Disk {
    return new SimDisk(this.drive, this.#process, directory);
  }

  /** Its timers never fire again, what it waits for at a port never comes, its connections close at the other ends. What
   * it wrote and did not sync stays in the page cache; what was being written is torn. */
  kill(): void {
    this.#world.kill(this.#process);
  }

  /** Stops it for so long (SIGSTOP): what was due, and what arrives, it sees all at once afterwards. */
  freeze(durationMs: number): void {
    this.#world.freeze(this.#process, durationMs);
  }
}

/** A simulated machine: virtual time, processes, wires, drives. The seed decides everything. */
export class World {
  readonly seed: number | string;
  /** For the test itself. */
  readonly random: SeededRandom;
  readonly counters = new Counters();
  readonly events = new EventQueue();
  readonly network: Fabric;
  /** The last lines that processes logged. */
  readonly log: LogLine[] = [];
  readonly #root: SeededRandom;
  readonly #table = new ProcessTable();
  readonly #processes = new Map<string, SimProcess>();
  readonly #drives = new Map<string, SimDrive>();
  readonly #wallMs = new Map<string, number>();
  readonly #onLog: (line: LogLine) => void;
  readonly #clockDrift: number;
  readonly #test: Owner = { name: "test", alive: true };
  readonly #turns = new Turns();
  readonly #fingerprint = new Fingerprint();
  #failure: { readonly error: unknown } | null = null;

  /** `onLog` also gets every line that a process logs. `clockDrift`: any two processes' clocks run apart by no more than this share, and start
   * anywhere; 0, and equal clocks, where nothing is said. */
  constructor(seed: number | string, options: { readonly onLog?: (line: LogLine) => void; readonly clockDrift?: number } = {}) {
    this.seed = seed;
    this.#clockDrift = options.clockDrift ?? 0;
    this.#onLog = options.onLog ?? (() => {});
    this.#root = new SeededRandom(seed);
    this.random = this.#root.fork("test");
    this.network = new Fabric(this, this.#root.fork("network"));
  }

  get nowMs(): number {
    return this.events.nowMs;
  }

  /** Of everything that was delivered and done so far: equal for equal seeds. */
  get fingerprint(): number {
    return this.#fingerprint.value;
  }

  /** Starts a process. One of the same name must be dead. `diskDir` names its drive, which outlives it; its own name where nothing is said. */
  spawn(name: string, options: { readonly diskDir?: string } = {}): Instance {
    assert(this.#processes.get(name)?.alive !== true, `${name} runs already`);
    const process = this.#table.start(name);
    this.#processes.set(name, process);
    const random = this.#root.fork(`process ${process.id}`);
    const ports: Ports = {
      clock: new SimClock(this.events, process, random.fork("clock"), this.#skewOf(process)),
      random,
      network: new SimNetwork(this.network, process),
      processes: new SimProcesses(process, this.#table),
      logger: this.#loggerOf(process),
    };
    return new Instance(this, process, ports, this.drive(options.diskDir ?? name));
  }

  drive(name: string): SimDrive {
    let drive = this.#drives.get(name);
    if (drive === undefined) {
      drive = new SimDrive(name, this, this.#root.fork(`drive ${name}`));
      this.#drives.set(name, drive);
    }
    return drive;
  }

  kill(process: SimProcess): void {
    if (!process.alive) return;
    this.counters.count("kill");
    this.note(`kill ${process.id}`);
    process.end();
    this.network.abandon(process);
    for (const drive of this.#drives.values()) drive.interrupt(process);
  }

  freeze(process: SimProcess, durationMs: number): void {
    if (!process.alive) return;
    this.counters.count("freeze");
    process.frozenUntilMs = Math.max(process.frozenUntilMs, this.nowMs + durationMs);
  }

  /** The wall clock of processes of this name jumps. */
  jumpWallClock(name: string, byMs: number): void {
    this.counters.count("wallClockJump");
    this.#wallMs.set(name, (this.#wallMs.get(name) ?? 0) + byMs);
  }

  #skewOf({ name, id }: SimProcess): ClockSkew {
    const wallMs = () => this.#wallMs.get(name) ?? 0;
    if (this.#clockDrift === 0) return { rate: 1, offsetMs: 0, wallMs };
    // (1 + x) / (1 - x) stays within the drift.
    const x = this.#clockDrift / (2 + this.#clockDrift);
    return {
      rate: this.#root.fork(`clock rate ${name}`).between(1 - x, 1 + x),
      offsetMs: this.#root.fork(`clock offset ${id}`).between(0, CLOCK_OFFSET_MAX_MS),
      wallMs,
    };
  }

  /** Every process ends at once, and every drive loses what was not synced. */
  powerCut(): void {
    this.counters.count("powerCut");
    for (const process of this.#processes.values()) this.kill(process);
    for (const drive of this.#drives.values()) drive.crash();
  }

  /** Lets the simulation go on until `until` settles or holds, and answers what it resolved to. Throws a `SimulationError` where
   * `limitMs` of virtual time pass before, where nothing is left to happen, or where a process broke a port's contract. */
  run<T>(until: Promise<T>, limitMs?: number): Promise<T>;
  run(until: () => boolean, limitMs?: number): Promise<void>;
  async run<T>(until: Promise<T> | (() => boolean), limitMs = RUN_LIMIT_MS): Promise<T | undefined> {
    const endMs = this.nowMs + limitMs;
    let settled = false;
    const done = typeof until === "function" ? until : () => settled;
    if (typeof until !== "function")
      until.then(
        () => {
          settled = true;
        },
        () => {
          settled = true;
        },
      );
    for (;;) {
      await this.#turns.next();
      this.#checkFailure();
      if (done()) break;
      const nextMs = this.events.nextMs();
      if (nextMs === undefined) throw this.#error("nothing is left to happen, and what was waited for has not come", undefined);
      if (nextMs > endMs) throw this.#error(`what was waited for has not come in ${limitMs} ms`, undefined);
      this.#step();
    }
    return typeof until === "function" ? undefined : await until;
  }

  /** Lets so much virtual time pass. */
  async advance(durationMs: number): Promise<void> {
    const endMs = this.nowMs + durationMs;
    for (;;) {
      await this.#turns.next();
      this.#checkFailure();
      const nextMs = this.events.nextMs();
      if (nextMs === undefined || nextMs > endMs) break;
      this.#step();
    }
    this.events.moveTo(endMs);
  }

  /** Lets so many events happen: whatever is awaited, it can end in between. */
  async happen(events: number): Promise<void> {
    for (let count = 0; count < events; count++) {
      await this.#turns.next();
      this.#checkFailure();
      if (this.events.nextMs() === undefined) break;
      this.#step();
    }
    await this.#turns.next();
    this.#checkFailure();
  }

  /** Runs `action` of the test itself after so much virtual time. */
  after(delayMs: number, action: () => void): void {
    this.events.schedule(delayMs, this.#test, action);
  }

  /** Records what happens for the fingerprint. */
  note(what: string): void {
    this.#fingerprint.add(this.nowMs, what);
  }

  /** Ends the current run with this error. */
  fail(error: unknown): void {
    this.#failure ??= { error };
  }

  #step(): void {
    try {
      this.events.step();
    } catch (error) {
      throw this.#error(`a handler threw: ${(error as Error).message}`, error);
    }
  }

  #checkFailure(): void {
    if (this.#failure === null) return;
    const { error } = this.#failure;
    this.#failure = null;
    throw this.#error((error as Error).message, error);
  }

  #error(what: string, cause: unknown): SimulationError {
    return new SimulationError(`seed=${this.seed} at ${Math.round(this.nowMs)} ms: ${what}`, { cause });
  }

  #loggerOf(process: SimProcess): Logger {
    return (level, message, fields = {}) => {
      const line: LogLine = { atMs: this.nowMs, process: process.id, level, message, fields };
      if (this.log.length >= LOG_LINES_MAX) this.log.splice(0, LOG_LINES_MAX / 2);
      this.log.push(line);
      this.#onLog(line);
    };
  }
}
