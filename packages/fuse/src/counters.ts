import { OPCODE_END, Opcode } from "./protocol.ts";

const NAMES: ReadonlyMap<number, string> = new Map(Object.entries(Opcode).map(([name, opcode]) => [opcode, name]));

/** What a mount has done since it was made. */
export class Counters {
  /** Requests under way, those that wait for locks included. */
  inFlight = 0;
  bytesRead = 0;
  bytesWritten = 0;
  readonly #byOpcode = new Float64Array(OPCODE_END);

  count(opcode: number): void {
    if (opcode < OPCODE_END) (this.#byOpcode[opcode] as number) += 1;
  }

  nameOf(opcode: number): string {
    return NAMES.get(opcode) ?? `opcode ${opcode}`;
  }

  requestsOf(name: keyof typeof Opcode): number {
    return this.#byOpcode[Opcode[name]] ?? 0;
  }

  /** Requests by the name of their opcode; those never seen are left out. */
  get requests(): Record<string, number> {
    const requests: Record<string, number> = {};
    this.#byOpcode.forEach((count, opcode) => {
      if (count > 0) requests[this.nameOf(opcode)] = count;
    });
    return requests;
  }
}
