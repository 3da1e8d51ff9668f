import { DazzleError } from "../errors.ts";
import { PROTOCOL_VERSION, type Reply } from "./messages.ts";
import type { Handlers, RpcPeer } from "./rpc.ts";

export interface Introduction {
  /** "" where the caller is to learn it. */
  readonly clusterId: string;
  /** `NO_MEMBER` where the caller is none. */
  readonly member: number;
  /** `Processes.self` of the caller. */
  readonly process: string;
}

/** Of who only asks: it knows no cluster yet. */
export const STRANGER: Introduction = { clusterId: "", member: 0, process: "" };

/** The first request on a connection. Rejects `wrongCluster` or `wrongVersion`, with what both sides are; then nothing else may be asked. */
export async function sayHello(peer: RpcPeer, introduction: Introduction, deadlineMs: number): Promise<Reply<"hello">> {
  const { reply } = await peer.call("hello", { ...introduction, protocol: PROTOCOL_VERSION }, { deadlineMs });
  if (introduction.clusterId !== "" && reply.clusterId !== introduction.clusterId)
    throw new DazzleError("wrongCluster", `${peer.remote} is of cluster ${reply.clusterId}, this is of ${introduction.clusterId}`);
  return reply;
}

/** What every member answers to those who come. */
export function helloHandlers(clusterId: string, member: number): Handlers {
  return {
    hello: ({ clusterId: theirs, protocol }) => {
      if (protocol !== PROTOCOL_VERSION)
        throw new DazzleError(
          "wrongVersion",
          `the cluster speaks version ${PROTOCOL_VERSION} of the protocol, this program ${protocol}: use the same dazzle on all machines`,
        );
      if (theirs !== "" && theirs !== clusterId) throw new DazzleError("wrongCluster", `this is cluster ${clusterId}, not ${theirs}`);
      return { reply: { clusterId, member } };
    },
  };
}
