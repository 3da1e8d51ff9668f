import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Connection, type Deferred, deferred, type Listener } from "@dazzle/core";
import type { ExecutionContext } from "ava";
import { webSocketNetwork } from "../src/index.ts";

export function temporaryDirectory(t: ExecutionContext): string {
  const path = mkdtempSync(join(tmpdir(), "dazzle-runtime-"));
  t.teardown(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A listener, a connection to it, and the other end of that. */
export async function connectedPair(
  t: ExecutionContext,
  address: string,
): Promise<{ listener: Listener; client: Connection; server: Connection }> {
  const network = webSocketNetwork();
  const accepted: Deferred<Connection> = deferred<Connection>();
  const listener = await network.listen(address, (connection) => accepted.resolve(connection));
  t.teardown(() => listener.close());
  const client = await network.connect(listener.address, 5_000);
  t.teardown(() => client.close());
  return { listener, client, server: await accepted.promise };
}

export function pattern(bytes: number, seed: number): Uint8Array {
  const buffer = Buffer.allocUnsafe(bytes);
  for (let at = 0; at < bytes; at++) buffer[at] = (at * 31 + seed * 7 + (at >> 8)) & 0xff;
  return buffer;
}
