import { DazzleError } from "../errors.ts";
import type { Address, Clock, Network } from "../ports.ts";
import { STRANGER, sayHello } from "../wire/hello.ts";
import { RpcPeer } from "../wire/rpc.ts";
import { type ClusterMap, MAP_FORMAT } from "./cluster-map.ts";

/** Throws `badMessage` for a map that a newer program, or an older one, wrote. */
export function checkFormat(map: ClusterMap): void {
  if (map.format !== MAP_FORMAT)
    throw new DazzleError("badMessage", `the cluster map is of format ${String(map.format)}, this program reads ${MAP_FORMAT}`);
}

/** The map as the member that answers at `address` knows it, for a process that knows nothing else yet. It may be behind: whoever
 * acts on the newest map reads through the register. Rejects `wrongVersion`. */
export async function readMapFrom(network: Network, clock: Clock, address: Address, deadlineMs: number): Promise<ClusterMap> {
  const connection = await network.connect(address, deadlineMs);
  const peer = new RpcPeer(connection, clock, {}, { version: 0, reach: () => Promise.resolve() });
  try {
    await sayHello(peer, STRANGER, deadlineMs);
    const { map } = (await peer.call("mapRead", {}, { deadlineMs })).reply;
    checkFormat(map);
    return map;
  } finally {
    peer.close();
  }
}
