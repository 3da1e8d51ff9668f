import { closeSync, constants, openSync } from "node:fs";
import { basename, dirname } from "node:path";
import { type Address, DazzleError } from "@dazzle/core";

/** What the kernel has room for in the address of a unix socket, without the zero at its end. */
const SOCKET_PATH_BYTES_MAX = 107;

export type Endpoint =
  | { readonly kind: "unix"; readonly path: string }
  | { readonly kind: "tcp"; readonly host: string; readonly port: number };

/** Throws `invalid` for what is neither `unix:PATH` nor `tcp:HOST:PORT`. */
export function parseAddress(address: Address): Endpoint {
  if (address.startsWith("unix:") && address.length > 5) return { kind: "unix", path: address.slice(5) };
  const [, six, plain, digits] = /^tcp:(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(address) ?? [];
  const host = six ?? plain;
  const port = Number(digits);
  if (host === undefined || port > 65_535) throw new DazzleError("invalid", `"${address}" is no address: unix:PATH or tcp:HOST:PORT`);
  return { kind: "tcp", host, port };
}

export function tcpAddress(host: string, port: number): Address {
  return host.includes(":") ? `tcp:[${host}]:${port}` : `tcp:${host}:${port}`;
}

/** A name for a socket file that the kernel has room for. Where the path is too long, it goes over the descriptor of its
 * directory: the file stays where users expect it. Call `release` once the socket is bound, connected or closed. */
export function socketPath(path: string): { readonly path: string; release(): void } {
  if (Buffer.byteLength(path) <= SOCKET_PATH_BYTES_MAX) return { path, release: () => {} };
  const fd = openSync(dirname(path), constants.O_RDONLY | constants.O_DIRECTORY);
  const short = `/proc/self/fd/${fd}/${basename(path)}`;
  if (Buffer.byteLength(short) > SOCKET_PATH_BYTES_MAX) {
    closeSync(fd);
    throw new DazzleError("invalid", `the name of the socket ${path} is too long`);
  }
  return { path: short, release: () => closeSync(fd) };
}
