import { type Address, DazzleError, type Handlers, helloHandlers, NO_MEMBER, PROTOCOL_VERSION, RpcPeer, serve } from "@dazzle/core";
import { realClock, webSocketNetwork } from "@dazzle/runtime";

/** A program of the next version of the protocol. `ask ADDRESS`: says hello to a member and prints what that answers. `serve ADDRESS`: is a member; prints a line
 * when it listens, and stays until it is killed. */
const OTHER = PROTOCOL_VERSION + 1;
const [, , what, address = ""] = process.argv;
const NO_MAP = { version: 0, reach: async () => {} };

async function ask(where: Address): Promise<string> {
  const peer = new RpcPeer(await webSocketNetwork().connect(where, 10_000), realClock, {}, NO_MAP);
  try {
    await peer.call("hello", { clusterId: "", protocol: OTHER, member: NO_MEMBER, process: "" });
    return "welcome";
  } catch (error) {
    return (error as Error).message;
  } finally {
    peer.close();
  }
}

const handlers: Handlers = {
  hello: (request, context) => {
    if (request.protocol !== OTHER)
      throw new DazzleError(
        "wrongVersion",
        `the cluster speaks version ${OTHER} of the protocol, this program ${request.protocol}: use the same dazzle on all machines`,
      );
    return helloHandlers("0".repeat(32), 1).hello?.(request, context) as never;
  },
};

if (what === "ask") process.stdout.write(`${await ask(address)}\n`);
else {
  await serve({ network: webSocketNetwork(), clock: realClock, map: NO_MAP, handlers, address });
  process.stdout.write("listening\n");
}
