import { statSync, unlinkSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect, type Socket } from "node:net";
import { type Address, type Connection, DazzleError, type Listener, type Network, RefusedError } from "@dazzle/core";
import WebSocket, { WebSocketServer } from "ws";
import { type Endpoint, parseAddress, socketPath, tcpAddress } from "./address.ts";
import { WebSocketConnection } from "./web-socket-connection.ts";

/** A frame of a segment buffer with its transaction stays far below. */
const MESSAGE_BYTES_MAX = 64 * 1024 * 1024;
/** A piece of a frame is a WebSocket fragment. */
const PIECES_MAX = 64 * 1024;
/** How long a closing connection may take to send what is buffered and to hear the other side's farewell. */
const CLOSE_DEADLINE_MS = 1_000;
/** Whether a socket file has a living owner is known at once, or never. */
const PROBE_DEADLINE_MS = 1_000;
const KEEPALIVE_AFTER_MS = 30_000;

const OPTIONS = {
  perMessageDeflate: false,
  maxPayload: MESSAGE_BYTES_MAX,
  maxFragments: PIECES_MAX,
  maxBufferedChunks: 0,
  skipUTF8Validation: true,
  closeTimeout: CLOSE_DEADLINE_MS,
};

/** WebSockets on `unix:PATH` and `tcp:HOST:PORT`. A frozen peer shows by the deadlines of requests, a machine that vanished by their pings. The kernel's
 * keepalive only ends, after some minutes, what nobody waits on: else the connections of machines that vanished would pile up. */
export function webSocketNetwork(): Network {
  return { listen, connect: connectTo };
}

async function listen(address: Address, accept: (connection: Connection) => void): Promise<Listener> {
  const endpoint = parseAddress(address);
  const connections = new Set<WebSocketConnection>();
  const webSockets = new WebSocketServer({ ...OPTIONS, noServer: true, clientTracking: false });
  const server = createServer((_request, response) => {
    response.writeHead(426, { connection: "close" }).end("WebSocket only\n");
  });
  server.on("upgrade", (request, stream, head) => {
    const socket = stream as Socket;
    if (endpoint.kind === "tcp") socket.setKeepAlive(true, KEEPALIVE_AFTER_MS);
    webSockets.handleUpgrade(request, socket, head, (webSocket) => {
      const connection = new WebSocketConnection(webSocket, socket, remoteOf(endpoint, socket));
      connections.add(connection);
      connection.onClose(() => connections.delete(connection));
      accept(connection);
    });
  });
  const release = await bind(server, address, endpoint);
  let closing: Promise<void> | undefined;
  return {
    address: endpoint.kind === "tcp" ? tcpAddress(endpoint.host, (server.address() as AddressInfo).port) : address,
    close: () => {
      closing ??= closeServer(server, connections).finally(release);
      return closing;
    },
  };
}

function remoteOf(endpoint: Endpoint, socket: Socket): Address {
  return endpoint.kind === "unix" ? `unix:${endpoint.path}` : tcpAddress(socket.remoteAddress ?? "?", socket.remotePort ?? 0);
}

async function bind(server: Server, address: Address, endpoint: Endpoint): Promise<() => void> {
  if (endpoint.kind === "tcp") {
    await listening(server, address, { host: endpoint.host, port: endpoint.port });
    return () => {};
  }
  const { path, release } = reachable(address, () => socketPath(endpoint.path));
  try {
    await listening(server, address, { path }).catch(async (error: DazzleError) => {
      if (error.code !== "exists" || !statSync(path).isSocket() || (await isServed(path))) throw error;
      // Its process died without removing it.
      unlinkSync(path);
      await listening(server, address, { path });
    });
  } catch (error) {
    release();
    throw error;
  }
  return release;
}

function listening(server: Server, address: Address, where: { path: string } | { host: string; port: number }): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: NodeJS.ErrnoException) =>
      reject(
        error.code === "EADDRINUSE"
          ? new DazzleError("exists", `the address ${address} is in use by another process`)
          : new DazzleError("unreachable", `can't listen on ${address}: ${error.message}`),
      );
    server.once("error", failed);
    server.listen(where, () => {
      server.off("error", failed);
      resolve();
    });
  });
}

function isServed(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ path, timeout: PROBE_DEADLINE_MS });
    const answer = (served: boolean) => {
      socket.destroy();
      resolve(served);
    };
    socket.once("connect", () => answer(true));
    socket.once("timeout", () => answer(true));
    socket.once("error", (error: NodeJS.ErrnoException) => answer(error.code !== "ECONNREFUSED" && error.code !== "ENOENT"));
  });
}

async function closeServer(server: Server, connections: Set<WebSocketConnection>): Promise<void> {
  for (const connection of connections) connection.close();
  // Upgraded sockets are counted until their farewell, which closeTimeout bounds.
  await new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function reachable<T>(address: Address, action: () => T): T {
  try {
    return action();
  } catch (error) {
    if (error instanceof DazzleError) throw error;
    throw new DazzleError("unreachable", `${address}: ${(error as Error).message}`);
  }
}

async function connectTo(address: Address, deadlineMs: number): Promise<Connection> {
  const endpoint = parseAddress(address);
  const local = endpoint.kind === "unix" ? reachable(address, () => socketPath(endpoint.path)) : undefined;
  let socket: Socket | undefined;
  const webSocket = new WebSocket(
    endpoint.kind === "tcp" ? `ws://${tcpAddress(endpoint.host, endpoint.port).slice(4)}/` : "ws://localhost/",
    {
      ...OPTIONS,
      handshakeTimeout: deadlineMs,
      // All zeros is a mask too, and `ws` then neither copies nor changes what it sends.
      generateMask: (mask: Buffer) => mask.fill(0),
      createConnection: () => {
        socket =
          endpoint.kind === "tcp"
            ? connect({ port: endpoint.port, host: endpoint.host, keepAlive: true, keepAliveInitialDelay: KEEPALIVE_AFTER_MS })
            : connect((local as { path: string }).path);
        return socket;
      },
    },
  );
  try {
    await opened(webSocket, address, deadlineMs);
  } finally {
    local?.release();
  }
  return new WebSocketConnection(webSocket, socket as Socket, address);
}

function opened(webSocket: WebSocket, address: Address, deadlineMs: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => fail(`no answer within ${deadlineMs} ms`), deadlineMs);
    const settle = (action: () => void) => {
      clearTimeout(timer);
      webSocket.off("open", open);
      action();
    };
    const open = () => settle(resolve);
    const fail = (reason: string, isRefused = false) => {
      const detail = `${address}: ${reason}`;
      settle(() => reject(isRefused ? new RefusedError(detail) : new DazzleError("unreachable", detail)));
    };
    webSocket.once("open", open);
    // Stays: an aborted handshake emits its error after the deadline has rejected.
    webSocket.on("error", ({ code, syscall, message }: NodeJS.ErrnoException) =>
      fail(code !== undefined && syscall !== undefined ? `${syscall} ${code}` : message, code === "ECONNREFUSED" || code === "ENOENT"),
    );
  });
}
