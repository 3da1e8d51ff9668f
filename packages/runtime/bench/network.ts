/** Round trips and stores over the real network adapter, between two processes of this machine:
 * `node --initial-old-space-size=256 --import=tsx --conditions=dazzle-source packages/runtime/bench/network.ts [unix|tcp]`. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Handlers, type MapVersions, RpcPeer, serve } from "@dazzle/core";
import { realClock, webSocketNetwork } from "../src/index.ts";

const MAP: MapVersions = { version: 1, reach: async () => {} };
const FRAGMENT_BYTES = 512 * 1024;
const GIGABYTE = 1e9;

interface Usage {
  readonly cpuSeconds: number;
}

async function server(address: string): Promise<void> {
  const block = Buffer.alloc(4096);
  const handlers: Handlers = {
    vouchGone: () => ({ reply: { gone: true } }),
    attributes: () => ({ reply: {}, tail: [block] }),
    store: () => ({ reply: { boot: "0".repeat(32), durable: 0, ticket: 1 } }),
  };
  const serving = await serve({ network: webSocketNetwork(), clock: realClock, map: MAP, handlers, address });
  process.on("disconnect", () => process.exit(0));
  process.on("message", () => process.send?.({ cpuSeconds: cpuSeconds() } satisfies Usage));
  process.send?.({ address: serving.address });
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** Keeps `window` actions under way until `count` have ended. */
async function pipelined(count: number, window: number, action: () => Promise<unknown>): Promise<void> {
  let left = count;
  const lane = async () => {
    while (left-- > 0) await action();
  };
  await Promise.all(Array.from({ length: window }, lane));
}

async function client(transport: string): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "dazzle-bench-"));
  const child = fork(process.argv[1] as string, ["serve", transport === "tcp" ? "tcp:127.0.0.1:0" : `unix:${join(directory, "socket")}`]);
  const [{ address }] = (await once(child, "message")) as [{ address: string }];
  const peer = new RpcPeer(await webSocketNetwork().connect(address, 5_000), realClock, {}, MAP);
  const serverUsage = async () => {
    child.send("usage");
    return ((await once(child, "message")) as [Usage])[0].cpuSeconds;
  };
  const measure = async (name: string, count: number, window: number, bytes: number, action: () => Promise<unknown>) => {
    await pipelined(Math.min(count, 2_000), window, action);
    const [cpuBefore, serverBefore, started] = [cpuSeconds(), await serverUsage(), performance.now()];
    await pipelined(count, window, action);
    const seconds = (performance.now() - started) / 1e3;
    const used = [cpuSeconds() - cpuBefore, (await serverUsage()) - serverBefore] as const;
    const total = (bytes * count) / GIGABYTE;
    const cost =
      bytes > 0
        ? `${Math.round((total * 1e3) / seconds)} MB/s, CPU s/GB ${used.map((cpu) => (cpu / total).toFixed(2)).join(" + ")}`
        : `${Math.round(count / seconds)}/s, ${((seconds / count) * window * 1e6).toFixed(1)} us each, CPU us ${used.map((cpu) => ((cpu / count) * 1e6).toFixed(1)).join(" + ")}`;
    process.stdout.write(`${transport} ${name}: ${cost}\n`);
  };
  const small = () => peer.call("vouchGone", { process: "abcdefghijklmnopqrstuvwxyz" });
  const block = () => peer.call("attributes", { mount: 1, ino: 1 });
  const header = Buffer.alloc(4096);
  const fragment = Buffer.alloc(FRAGMENT_BYTES, 7);
  const store = () => peer.call("store", { class: "data" as never, sync: false }, { tail: [header, fragment] });
  await measure("round trip", 20_000, 1, 0, small);
  await measure("64 round trips at once", 200_000, 64, 0, small);
  await measure("4 KiB reads, 16 at once", 100_000, 16, 4096, block);
  await measure("512 KiB stores, 6 at once", 6_000, 6, FRAGMENT_BYTES + 4096, store);
  peer.close();
  child.disconnect();
  rmSync(directory, { recursive: true, force: true });
}

if (process.argv[2] === "serve") await server(process.argv[3] as string);
else await client(process.argv[2] ?? "unix");
