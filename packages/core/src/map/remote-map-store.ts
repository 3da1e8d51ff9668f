import { DazzleError } from "../errors.ts";
import type { Address, Clock, Network } from "../ports.ts";
import type { Peers } from "../wire/peers.ts";
import { RpcPeer } from "../wire/rpc.ts";
import { type ClusterMap, MAP_FORMAT } from "./cluster-map.ts";
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
    if (reply.map.format !== MAP_FORMAT)
      throw new DazzleError("badMessage", `the cluster map is of format ${String(reply.map.format)}, this program reads ${MAP_FORMAT}`);
    return reply.map;
  }

  async compareAndSwap(expected: number, next: ClusterMap): Promise<void> {
    const peer = await this.#peers().connectTo(this.#keeper());
    await peer.call("mapWrite", { expected, map: next });
  }
}

/** Reads the map of the cluster that answers at `address`, for a process that knows nothing else yet. */
export async function readMapFrom(network: Network, clock: Clock, address: Address, deadlineMs: number): Promise<ClusterMap> {
  const connection = await network.connect(address, deadlineMs);
  const peer = new RpcPeer(connection, clock, {}, { version: 0, reach: () => Promise.resolve() });
  try {
    return (await peer.call("mapRead", {}, { deadlineMs })).reply.map;
  } finally {
    peer.close();
  }
}
