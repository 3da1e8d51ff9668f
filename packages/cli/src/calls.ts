import { type Address, type CallResult, type MapVersions, type MessageName, type Request, RpcPeer, STRANGER, sayHello } from "@dazzle/core";
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

/** A connection to a member of whatever cluster answers there. Rejects `wrongVersion`. */
export async function connectMember(address: Address, deadlineMs: number): Promise<RpcPeer> {
  const peer = await connectPeer(address, deadlineMs);
  try {
    await sayHello(peer, STRANGER, deadlineMs);
    return peer;
  } catch (error) {
    peer.close();
    throw error;
  }
}
