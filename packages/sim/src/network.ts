import { type Address, type Connection, DazzleError, type Listener, type Network, RefusedError } from "@dazzle/core";
import type { EventQueue, Owner } from "./clock.ts";
import { type ConnectionHost, SimConnection, type SimEnd } from "./connection.ts";
import type { Counters } from "./counters.ts";
import type { SimProcess } from "./process.ts";
import type { SeededRandom } from "./random.ts";

/** Set any of them at any time. Chances are 0 to 1. */
export interface NetworkFaults {
  minDelayMs: number;
  maxDelayMs: number;
  /** Of a frame: the connection is reset as it arrives. */
  resetChance: number;
  /** Of a connect. */
  refuseChance: number;
  /** Of an end of a connection that was cut: it hears of it only once it sends something. */
  unheardChance: number;
}

/** What a network needs of the world. */
export interface NetworkHost {
  readonly events: EventQueue;
  readonly counters: Counters;
  note(what: string): void;
  fail(error: unknown): void;
}

interface Listening {
  readonly process: SimProcess;
  readonly accept: (connection: Connection) => void;
}

const FREE_PORT_FIRST = 40_000;
/** How long a system retransmits into a partition before it gives a connection up. */
const GIVE_UP_MIN_MS = 5_000;
const GIVE_UP_MAX_MS = 20_000;

/** All the wires between the processes, and what can go wrong with them. Processes are named by their spawn names. */
export class Fabric implements ConnectionHost {
  readonly faults: NetworkFaults = { minDelayMs: 0.02, maxDelayMs: 1, resetChance: 0, refuseChance: 0, unheardChance: 0.25 };
  readonly random: SeededRandom;
  readonly #host: NetworkHost;
  readonly #wires: Owner = { name: "network", alive: true };
  readonly #listening = new Map<Address, Listening>();
  readonly #connections = new Set<SimConnection>();
  readonly #slowMs = new Map<string, number>();
  /** "a|b": nothing of a's reaches b. */
  readonly #partitioned = new Set<string>();
  readonly #held = new Set<SimConnection>();
  #nextPort = FREE_PORT_FIRST;

  constructor(host: NetworkHost, random: SeededRandom) {
    this.#host = host;
    this.random = random;
  }

  get nowMs(): number {
    return this.#host.events.nowMs;
  }

  /** What goes to or from this process takes so much longer; 0: no longer. */
  slow(name: string, extraMs: number): void {
    this.#slowMs.set(name, extraMs);
  }

  /** Nothing passes between the two sides until `heal`: of the connections across, some hold their frames (and break
   * when it lasts), the others break at once. */
  partition(left: readonly string[], right: readonly string[]): void {
    this.#block(left, right);
    this.#block(right, left);
    for (const connection of this.#across(left, right)) {
      if (this.random.chance(0.5)) this.#break(connection, "connection broken by a partition");
      else this.#hold(connection, connection.ends);
    }
  }

  /** What those on the left send does not reach those on the right until `heal`, while what is sent the other way arrives, over the connections
   * that are there and until they break. None can be made. */
  partitionOneWay(left: readonly string[], right: readonly string[]): void {
    this.#block(left, right);
    for (const connection of this.#across(left, right)) {
      const held = connection.ends.filter((end) => left.includes(end.process.name));
      this.#hold(connection, held);
    }
  }

  heal(): void {
    this.#partitioned.clear();
    for (const connection of this.#held) connection.release();
    this.#held.clear();
  }

  #block(from: readonly string[], to: readonly string[]): void {
    for (const one of from) for (const other of to) this.#partitioned.add(`${one}|${other}`);
  }

  #isPartitioned(one: string, other: string): boolean {
    return this.#partitioned.has(`${one}|${other}`) || this.#partitioned.has(`${other}|${one}`);
  }

  /** Breaks every connection between the two sides. New ones can be made. */
  cut(left: readonly string[], right: readonly string[]): void {
    for (const connection of this.#across(left, right)) this.#break(connection, "connection cut");
  }

  /** Names of the processes that are connected, a pair each. */
  connections(): ReadonlyArray<readonly [string, string]> {
    return [...this.#connections].map((connection) => [connection.client.process.name, connection.server.process.name] as const);
  }

  listen(process: SimProcess, address: Address, accept: (connection: Connection) => void): Promise<Listener> {
    return new Promise((resolve, reject) => {
      this.schedule(0, process, () => {
        const chosen = /^tcp:.*:0$/.test(address) ? `${address.slice(0, -1)}${this.#nextPort++}` : address;
        if (this.#listening.has(chosen)) return reject(new DazzleError("exists", `${chosen} is in use`));
        const listening: Listening = { process, accept };
        this.#listening.set(chosen, listening);
        resolve({
          address: chosen,
          close: async () => {
            if (this.#listening.get(chosen) === listening) this.#listening.delete(chosen);
          },
        });
      });
    });
  }

  connect(client: SimProcess, address: Address, deadlineMs: number): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const unreachable = (reason: string) => reject(new DazzleError("unreachable", `${address}: ${reason}`));
      const refused = (reason: string) => reject(new RefusedError(`${address}: ${reason}`));
      let expired = false;
      const deadline = this.#host.events.schedule(deadlineMs, client, () => {
        expired = true;
        unreachable(`no answer in ${deadlineMs} ms`);
      });
      this.schedule(this.#delay(client.name), null, () => {
        if (expired || !client.alive) return;
        const listening = this.#listening.get(address);
        const name = listening?.process.name;
        const partitioned = name !== undefined && this.#isPartitioned(client.name, name);
        if (partitioned && this.random.chance(0.5)) {
          this.#host.counters.count("connectHung");
          return;
        }
        const answerMs = this.#delay(client.name);
        if (listening === undefined || partitioned || this.random.chance(this.faults.refuseChance)) {
          this.#host.counters.count("connectRefused");
          this.schedule(answerMs, client, () => {
            deadline.cancel();
            if (partitioned) unreachable("no way there");
            else refused(listening === undefined ? "nobody listens" : "refused");
          });
          return;
        }
        const connection = new SimConnection(this, client, listening.process, address, this.nowMs + answerMs);
        this.#connections.add(connection);
        this.schedule(answerMs, client, () => {
          deadline.cancel();
          if (expired) connection.client.close();
          else resolve(connection.client);
        });
        if (listening.process.frozenUntilMs > this.nowMs) this.schedule(0, listening.process, () => listening.accept(connection.server));
        else listening.accept(connection.server);
      });
    });
  }

  /** A process ended. */
  abandon(process: SimProcess): void {
    for (const [address, listening] of this.#listening) if (listening.process === process) this.#listening.delete(address);
    for (const connection of this.#connections) {
      for (const end of connection.ends) if (end.process === process) connection.abandon(end);
      connection.endClosed();
    }
  }

  schedule(delayMs: number, owner: SimProcess | null, action: () => void): void {
    this.#host.events.schedule(delayMs, owner ?? this.#wires, action);
  }

  delayMs(from: SimProcess, to: SimProcess): number {
    return this.#delay(from.name) + (this.#slowMs.get(to.name) ?? 0);
  }

  delivered(what: string): void {
    this.#host.note(what);
  }

  resets(): boolean {
    const reset = this.random.chance(this.faults.resetChance);
    if (reset) this.#host.counters.count("connectionReset");
    return reset;
  }

  tailRecut(): void {
    this.#host.counters.count("tailRecut");
  }

  tailReused(error: Error | null): void {
    this.#host.counters.count("tailReused");
    if (error !== null) this.#host.fail(error);
  }

  framesHeld(): void {
    this.#host.counters.count("framesHeld");
  }

  framesLost(count: number): void {
    this.#host.counters.count("frameLost", count);
  }

  forget(connection: SimConnection): void {
    this.#connections.delete(connection);
    this.#held.delete(connection);
  }

  #delay(name: string): number {
    return this.random.between(this.faults.minDelayMs, this.faults.maxDelayMs) + (this.#slowMs.get(name) ?? 0);
  }

  #across(left: readonly string[], right: readonly string[]): SimConnection[] {
    return [...this.#connections].filter(({ client, server }) => {
      const [one, other] = [client.process.name, server.process.name];
      return (left.includes(one) && right.includes(other)) || (left.includes(other) && right.includes(one));
    });
  }

  #hold(connection: SimConnection, ends: readonly SimEnd[]): void {
    for (const end of ends) connection.hold(end);
    this.#held.add(connection);
    this.schedule(this.random.between(GIVE_UP_MIN_MS, GIVE_UP_MAX_MS), null, () => {
      if (this.#held.has(connection)) this.#break(connection, "connection timed out in a partition");
    });
  }

  #break(connection: SimConnection, reason: string): void {
    this.#held.delete(connection);
    connection.release();
    this.#host.counters.count("connectionCut");
    const delay = () => {
      if (!this.random.chance(this.faults.unheardChance)) return this.random.between(0, 50);
      this.#host.counters.count("closeUnheard");
      return undefined;
    };
    connection.break(reason, [delay(), delay()]);
  }
}

/** One process's view of the fabric. */
export class SimNetwork implements Network {
  readonly #fabric: Fabric;
  readonly #process: SimProcess;

  constructor(fabric: Fabric, process: SimProcess) {
    this.#fabric = fabric;
    this.#process = process;
  }

  listen(address: Address, accept: (connection: Connection) => void): Promise<Listener> {
    return this.#fabric.listen(this.#process, address, accept);
  }

  connect(address: Address, deadlineMs: number): Promise<Connection> {
    return this.#fabric.connect(this.#process, address, deadlineMs);
  }
}
