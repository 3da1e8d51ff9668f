import { currentVersion, type Group, isDazzleError } from "@dazzle/core";
import type { ManagerStatus } from "@dazzle/manager";
import { nodeName, type SimCluster } from "../cluster.ts";
import type { SeededRandom } from "../random.ts";
import type { Telling } from "./telling.ts";

const ATTEMPTS_MAX = 30;
const RETRY_MS = 300;
const AWAY_MS_MAX = 5_000;
const RISE_MS_MAX = 500;
const START_LIMIT_MS = 180_000;

/** The nodes of a scenario: what ends one, and its supervisor, which starts it again. */
export class Fleet {
  readonly #cluster: SimCluster;
  readonly #random: SeededRandom;
  readonly #telling: Telling;
  /** Nodes on their way up. */
  readonly #rising = new Map<number, Promise<void>>();
  /** Which start of a node counts: a power cut ends those under way. */
  readonly #lifeOf = new Map<number, number>();
  #lives = 0;
  /** Raised when all nodes end at once: what was to happen to one of them does not. */
  #era = 0;

  constructor(cluster: SimCluster, random: SeededRandom, telling: Telling) {
    this.#cluster = cluster;
    this.#random = random;
    this.#telling = telling;
  }

  /** Every node serves, and none is about to be replaced. */
  get isWhole(): boolean {
    return this.#rising.size === 0 && this.#allUp();
  }

  /** Starts what does not run and is not on its way. */
  raiseAll(): void {
    for (const number of this.#random.shuffle([...this.#cluster.numbers]))
      if (!this.#cluster.isAlive(number) && !this.#rising.has(number)) this.#raise(number, this.#random.between(0, RISE_MS_MAX));
  }

  /** Resolves when what is down is up again, and every server is in the current version of its group. */
  async settle(): Promise<void> {
    const { world } = this.#cluster;
    await world.run(Promise.all(this.#rising.values()), START_LIMIT_MS);
    const groups = () => this.#cluster.node(1).map.current.groups;
    const isWhole = (group: Group) => currentVersion(group).servers.length === group.wanted.length;
    await world.run(() => this.#allUp() && groups().length > 0 && groups().every(isWhole), START_LIMIT_MS);
  }

  /** A node goes, and comes back after a while. */
  lose(number: number, power: boolean, when: string): void {
    const awayMs = this.#random.between(0, AWAY_MS_MAX);
    this.#telling.note(`${nodeName(number)} ${power ? "loses power" : "is killed"} ${when}, for ${Math.round(awayMs)} ms`);
    this.#end(number);
    if (power) this.#cluster.world.drive(nodeName(number)).crash();
    this.#raise(number, awayMs);
  }

  /** A node stops as it should, and comes back. */
  restart(number: number, when: string): void {
    this.#telling.note(`${nodeName(number)} stops ${when}`);
    this.#countRoles(number);
    const failed = (error: Error) => this.#telling.note(`${nodeName(number)} stops with an error: ${error.message}`);
    const stopped = this.#cluster.node(number).stop().catch(failed);
    const era = this.#era;
    const again = async () => {
      await stopped;
      if (this.#era !== era) return;
      this.#telling.note(`${nodeName(number)} has stopped`);
      this.#cluster.kill(number);
      this.#raise(number, this.#random.between(0, AWAY_MS_MAX));
    };
    this.#hold(number, again());
  }

  /** Somebody starts a node again that goes on without a part of it, a while later. */
  replace(number: number): void {
    const era = this.#era;
    const again = async () => {
      await this.#sleep(this.#random.between(0, AWAY_MS_MAX));
      if (this.#era !== era) return;
      this.#telling.note(`${nodeName(number)} is killed`);
      this.#end(number);
      this.#raise(number, 0);
    };
    this.#hold(number, again());
  }

  killAll(): void {
    this.#allEnd();
    for (const number of this.#random.shuffle([...this.#cluster.numbers])) this.#cluster.kill(number);
  }

  powerCut(): void {
    this.#allEnd();
    this.#cluster.world.powerCut();
  }

  #allEnd(): void {
    for (const number of this.#cluster.numbers) this.#countRoles(number);
    this.#rising.clear();
    this.#era++;
  }

  #end(number: number): void {
    this.#countRoles(number);
    this.#cluster.kill(number);
  }

  #allUp(): boolean {
    return this.#cluster.numbers.every((number) => this.#cluster.isUp(number));
  }

  /** In the place of whatever else was to bring it up, which ends with that. */
  #raise(number: number, afterMs: number): void {
    this.#hold(number, this.#bringUp(number, afterMs));
  }

  #hold(number: number, rising: Promise<void>): void {
    const risen = () => {
      if (this.#rising.get(number) === rising) this.#rising.delete(number);
    };
    this.#rising.set(number, rising);
    rising.then(risen, (error) => {
      risen();
      this.#telling.failed(error);
    });
  }

  async #bringUp(number: number, afterMs: number): Promise<void> {
    const life = ++this.#lives;
    this.#lifeOf.set(number, life);
    const era = this.#era;
    const isCurrent = () => this.#lifeOf.get(number) === life && this.#era === era;
    await this.#sleep(afterMs);
    const node = await this.retried(nodeName(number), isCurrent, () => this.#cluster.launchNode(number));
    this.#telling.note(`${nodeName(number)} is up`);
    node.managing.catch((error: Error) => {
      if (!isCurrent()) return;
      this.#telling.note(`${nodeName(number)} ends: ${error.message}`);
      this.#cluster.kill(number);
      this.#raise(number, RETRY_MS);
    });
  }

  /** Starts a process as its supervisor would: again, where it failed for a reason that may pass. Never settles once
   * `isCurrent` does not hold any more. */
  async retried<T>(what: string, isCurrent: () => boolean, start: () => Promise<T>): Promise<T> {
    for (let attempt = 1; ; attempt++) {
      if (!isCurrent()) return new Promise(() => {});
      try {
        return await start();
      } catch (error) {
        if (!isDazzleError(error) || attempt === ATTEMPTS_MAX) throw error;
        this.#telling.note(`${what} did not start: ${error.message}`);
        this.#telling.count("startFailed");
        await this.#sleep(RETRY_MS);
      }
    }
  }

  #sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.#cluster.world.after(delayMs, resolve));
  }

  #countRoles(number: number): void {
    if (!this.#cluster.isUp(number)) return;
    const status = this.#cluster.node(number).status().manager as ManagerStatus | null;
    for (const [name, value] of Object.entries(status?.counters ?? {})) this.#telling.count(`manager.${name}`, value);
    for (const { segments, bytesWritten } of this.#cluster.node(number).status().cleaner) {
      this.#telling.count("cleaner.segments", segments);
      this.#telling.count("cleaner.bytesWritten", bytesWritten);
    }
  }
}
