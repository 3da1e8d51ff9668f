import { type ClusterMap, DazzleError, type Disk, type Handlers } from "@dazzle/core";
import { Acceptor, FIRST_BALLOT, keeperHandlers } from "@dazzle/manager";

const MAP_FILE = "map";

/** This machine's keeper of the cluster map. */
export class Keeper {
  readonly handlers: Handlers;
  #acceptor: Acceptor | undefined;

  private constructor(acceptor: Acceptor | undefined) {
    this.#acceptor = acceptor;
    this.handlers = keeperHandlers(() => this.#required());
  }

  /** `first`: the map of a new cluster, where this keeper begins one. */
  static async open(disk: Disk, first: ClusterMap | undefined): Promise<Keeper> {
    let acceptor = await Acceptor.open(disk, MAP_FILE);
    if (acceptor === undefined && first !== undefined)
      acceptor = await Acceptor.create(disk, MAP_FILE, { map: first, accepted: FIRST_BALLOT });
    return new Keeper(acceptor);
  }

  /** What it has accepted last: maybe never decided. */
  get accepted(): ClusterMap | undefined {
    return this.#acceptor?.state.map;
  }

  /** Calls `heard` with each map that is accepted here: its own process, and whoever it talks to, shall know it soon. */
  onAccepted(heard: (map: ClusterMap) => void): void {
    if (this.#acceptor !== undefined) this.#acceptor.onAccepted = heard;
  }

  #required(): Acceptor {
    if (this.#acceptor === undefined)
      throw new DazzleError("notReady", "this keeper has no map: it was not admitted yet, or its directory was emptied");
    return this.#acceptor;
  }
}
