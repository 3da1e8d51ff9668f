import { type Address, type CallResult, type MapVersions, type MessageName, type Request, RpcPeer } from "@dazzle/core";
import { realClock, webSocketNetwork } from "@dazzle/runtime";

/** Who only asks takes part in no map. */
export const NO_MAP: MapVersions = { version: 0, reach: async () => {} };

export async function connectPeer(address: Address, deadlineMs: number): Promise<RpcPeer> {
  return new RpcPeer(await webSocketNetwork().connect(address, deadlineMs), realClock, {}, NO_MAP);
}

/** One request over a connection of its own. */
export async function callOnce<Name extends MessageName>(
  address: Address,
  message: Name,
  request: Request<Name>,
  deadlineMs: number,
): Promise<CallResult<Name>> {
  const peer = await connectPeer(address, deadlineMs);
  try {
    return await peer.call(message, request, { deadlineMs });
  } finally {
    peer.close();
  }
}
