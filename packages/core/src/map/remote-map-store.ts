import { DazzleError } from "../errors.ts";
import type { Address } from "../ports.ts";
import type { Peers } from "../wire/peers.ts";
import type { ClusterMap } from "./cluster-map.ts";
import type { MapStore } from "./map-cache.ts";

/** The map at a keeper elsewhere. `address` may change while no request is under way. */
export class RemoteMapStore implements MapStore {
  readonly #peers: () => Peers;
  readonly #keeper: () => Address;

  constructor(peers: () => Peers, keeper: () => Address) {
    this.#peers = peers;
    this.#keeper = keeper;
  }

  async read(): Promise<ClusterMap> {
    const peer = await this.#peers().connectTo(this.#keeper());
    const { reply } = await peer.call("mapRead", {});
    if (reply.map.format !== 1)
      throw new DazzleError("badMessage", `the cluster map is of format ${String(reply.map.format)}, this program reads 1`);
    return reply.map;
  }

  async compareAndSwap(expected: number, next: ClusterMap): Promise<void> {
    const peer = await this.#peers().connectTo(this.#keeper());
    await peer.call("mapWrite", { expected, map: next });
  }
}
