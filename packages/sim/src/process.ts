import type { Processes } from "@dazzle/core";
import type { Owner } from "./clock.ts";

/** A process of the simulation: alive until it is killed, never again after. */
export class SimProcess implements Owner {
  readonly name: string;
  /** What names it for ever. */
  readonly id: string;
  /** Stopped (SIGSTOP) until then. */
  frozenUntilMs = 0;
  #alive = true;

  constructor(name: string, incarnation: number) {
    this.name = name;
    this.id = `${name}/${incarnation}`;
  }

  get alive(): boolean {
    return this.#alive;
  }

  end(): void {
    this.#alive = false;
  }
}

/** Every process of the machine that ever was. */
export class ProcessTable {
  readonly #processes = new Map<string, SimProcess>();
  readonly #incarnations = new Map<string, number>();

  start(name: string): SimProcess {
    const incarnation = (this.#incarnations.get(name) ?? 0) + 1;
    this.#incarnations.set(name, incarnation);
    const process = new SimProcess(name, incarnation);
    this.#processes.set(process.id, process);
    return process;
  }

  isGone(id: string): boolean {
    return this.#processes.get(id)?.alive === false;
  }
}

export class SimProcesses implements Processes {
  readonly self: string;
  readonly #table: ProcessTable;

  constructor(self: SimProcess, table: ProcessTable) {
    this.self = self.id;
    this.#table = table;
  }

  isGone(process: string): boolean {
    return this.#table.isGone(process);
  }
}
