import type { Address, Clock, Listener, Network } from "../ports.ts";
import { type Handlers, type MapVersions, RpcPeer } from "./rpc.ts";

/** Serves `handlers` to everybody who connects to `address`. */
export async function serve(options: {
  network: Network;
  clock: Clock;
  map: MapVersions;
  handlers: Handlers;
  address: Address;
}): Promise<{ readonly address: Address; close(): Promise<void> }> {
  const peers = new Set<RpcPeer>();
  const listener: Listener = await options.network.listen(options.address, (connection) => {
    const peer = new RpcPeer(connection, options.clock, options.handlers, options.map);
    peers.add(peer);
    peer.onClose(() => peers.delete(peer));
  });
  return {
    address: listener.address,
    close: async () => {
      for (const peer of peers) peer.close();
      await listener.close();
    },
  };
}
