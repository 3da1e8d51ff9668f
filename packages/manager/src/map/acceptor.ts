import { type Ballot, type ClusterMap, checkMap, DazzleError, type Disk, isAfter, type Vote } from "@dazzle/core";
import { decodeRegister, encodeRegister, type KeeperState } from "./register-file.ts";

/** What every keeper of a new cluster begins with, so that they agree without a word. */
export const FIRST_BALLOT: Ballot = { counter: 1, proposer: "" };

/** One keeper's part of the map's register: what it promised and accepted, in one file, which is replaced whole before it answers. */
export class Acceptor {
  readonly #disk: Disk;
  readonly #path: string;
  // INVARIANT: `promised` is not before `accepted`, and neither ever goes back.
  #state: KeeperState;
  /** Changes one after the other. */
  #writing: Promise<unknown> = Promise.resolve();
  /** Told of each map that was accepted. */
  onAccepted: (map: ClusterMap) => void = () => {};

  private constructor(disk: Disk, path: string, state: KeeperState) {
    this.#disk = disk;
    this.#path = path;
    this.#state = state;
  }

  /** Makes a keeper's file: the first map of a new cluster, or, of a member that is no keeper yet, a map that is decided. Durable when it
   * resolves. Rejects `exists` where there is one. */
  static async create(disk: Disk, path: string, { map, accepted }: Vote): Promise<Acceptor> {
    checkMap(map);
    if ((await disk.readWhole(path)) !== undefined) throw new DazzleError("exists", `a cluster map at ${path}`);
    const state = { promised: accepted, accepted, map };
    await disk.replace(path, encodeRegister(state));
    return new Acceptor(disk, path, state);
  }

  /** Undefined where there is none. Rejects `corrupt`. */
  static async open(disk: Disk, path: string): Promise<Acceptor | undefined> {
    const bytes = await disk.readWhole(path);
    if (bytes === undefined) return undefined;
    const state = decodeRegister(bytes);
    checkMap(state.map);
    return new Acceptor(disk, path, state);
  }

  /** What is on its disk. */
  get state(): KeeperState {
    return this.#state;
  }

  prepare(ballot: Ballot): Promise<KeeperState> {
    return this.#change(() => (isAfter(ballot, this.#state.promised) ? { ...this.#state, promised: ballot } : undefined));
  }

  async accept(ballot: Ballot, map: ClusterMap): Promise<KeeperState> {
    checkMap(map);
    if (map.clusterId !== this.#state.map.clusterId)
      throw new DazzleError("wrongCluster", `this keeper is of ${this.#state.map.clusterId}`);
    const state = await this.#change(() =>
      isAfter(this.#state.promised, ballot) ? undefined : { promised: ballot, accepted: ballot, map },
    );
    if (state.map === map) this.onAccepted(map);
    return state;
  }

  /** Applies a change where there is one, and answers the state that it led to. */
  #change(next: () => KeeperState | undefined): Promise<KeeperState> {
    const done = this.#writing.then(async () => {
      const state = next();
      if (state === undefined) return this.#state;
      await this.#disk.replace(this.#path, encodeRegister(state));
      this.#state = state;
      return state;
    });
    this.#writing = done.catch(() => {});
    return done;
  }
}
