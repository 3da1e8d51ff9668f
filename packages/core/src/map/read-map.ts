import { DazzleError, isDazzleError } from "../errors.ts";
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
 * acts on the newest map reads through the register. `clusterId`: "" where any will do. Rejects `wrongCluster`, `wrongVersion`. */
export async function readMapFrom(
  network: Network,
  clock: Clock,
  address: Address,
  deadlineMs: number,
  clusterId = "",
): Promise<ClusterMap> {
  const connection = await network.connect(address, deadlineMs);
  const peer = new RpcPeer(connection, clock, {}, { version: 0, reach: () => Promise.resolve() });
  try {
    await sayHello(peer, { ...STRANGER, clusterId }, deadlineMs);
    const { map } = (await peer.call("mapRead", {}, { deadlineMs })).reply;
    checkFormat(map);
    return map;
  } finally {
    peer.close();
  }
}

/** As `readMapFrom`, from whoever answers first. Where nobody does, it rejects with what may be better later, if there is such a reason. */
export async function readMapFromAny(
  network: Network,
  clock: Clock,
  addresses: readonly Address[],
  deadlineMs: number,
  clusterId = "",
): Promise<ClusterMap> {
  if (addresses.length === 0) throw new DazzleError("invalid", "nobody is known who could be asked for the cluster map");
  try {
    return await Promise.any(addresses.map((address) => readMapFrom(network, clock, address, deadlineMs, clusterId)));
  } catch (error) {
    const { errors } = error as AggregateError;
    throw errors.find((one) => isDazzleError(one, "unreachable", "timedOut")) ?? errors[0];
  }
}
