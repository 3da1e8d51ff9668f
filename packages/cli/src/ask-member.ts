import type { ClusterMap, MessageName, Reply, Request } from "@dazzle/core";
import { connectMember } from "./calls.ts";
import { failure } from "./output.ts";
import type { Reach } from "./reach.ts";

const CONNECT_DEADLINE_MS = 5_000;
const DEADLINE_MS = 60_000;

/** Asks a member for something that any can do: the first that answers. `but`: one that is not asked. */
export async function askMember<Name extends MessageName>(
  reach: Reach,
  { members }: ClusterMap,
  message: Name,
  request: Request<Name>,
  but?: { readonly id: number; readonly name: string },
): Promise<Reply<Name>> {
  const able = members.filter(({ id }) => id !== but?.id);
  const connecting = able.map(({ id, addresses }) => connectMember(reach.near.get(id) ?? (addresses[0] as string), CONNECT_DEADLINE_MS));
  const peer = await Promise.any(connecting).catch(() => {
    const who = but === undefined ? "no member answers" : `no member but ${but.name} answers`;
    throw failure(`${who}: start dazzle node on ${able.map((row) => row.name).join(" or ")}`);
  });
  for (const one of connecting) one.then((other) => other !== peer && other.close()).catch(() => {});
  try {
    return (await peer.call(message, request, { deadlineMs: DEADLINE_MS })).reply;
  } finally {
    peer.close();
  }
}
