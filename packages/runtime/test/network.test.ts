import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type Connection, deferred, type Frame, isDazzleError, RefusedError } from "@dazzle/core";
import test, { type ExecutionContext } from "ava";
import { webSocketNetwork } from "../src/index.ts";
import { connectedPair, pattern, temporaryDirectory } from "./helpers.ts";

const TAILS: readonly (readonly number[])[] = [
  [],
  [0],
  [1],
  [4096],
  [8 * 1024],
  [8 * 1024 + 1],
  [4000, 0, 5000],
  [64, 512 * 1024],
  [1024 * 1024],
  [300_000, 1, 70_000],
];

const TRANSPORTS: readonly (readonly [string, (t: ExecutionContext) => string])[] = [
  ["unix", (t) => `unix:${join(temporaryDirectory(t), "socket")}`],
  ["tcp", () => "tcp:127.0.0.1:0"],
];

function frames(connection: Connection, count: number): Promise<Frame[]> {
  const all: Frame[] = [];
  const done = deferred<Frame[]>();
  connection.onFrame((frame) => {
    all.push(frame);
    if (all.length === count) done.resolve(all);
  });
  connection.onClose((reason) => done.reject(new Error(reason)));
  return done.promise;
}

for (const [name, address] of TRANSPORTS) {
  test(`${name}: frames arrive whole and in order, both ways`, async (t) => {
    const { client, server } = await connectedPair(t, address(t));
    for (const [from, to] of [
      [client, server],
      [server, client],
    ] as const) {
      const sent = TAILS.map((sizes, index) => ({
        header: pattern(20 + index, index),
        tail: sizes.map((size, piece) => pattern(size, index + piece)),
      }));
      const arrived = frames(to, sent.length);
      for (const frame of sent) from.send(frame);
      const received = await arrived;
      received.forEach((frame, index) => {
        t.deepEqual(Buffer.from(frame.header), Buffer.from((sent[index] as Frame).header));
        t.true(Buffer.concat(frame.tail).equals(Buffer.concat((sent[index] as Frame).tail)), `tail ${index}`);
      });
    }
  });

  test(`${name}: a close on either side is told once on both, and frames after it are dropped`, async (t) => {
    for (const side of ["client", "server"] as const) {
      const { listener, client, server } = await connectedPair(t, address(t));
      const told: string[] = [];
      const both = [client, server].map((connection, index) => {
        const closed = deferred<string>();
        connection.onClose((reason) => {
          told.push(`${index}`);
          closed.resolve(reason);
        });
        return closed.promise;
      });
      const last = frames(side === "client" ? server : client, 1);
      const [from, to] = side === "client" ? [client, server] : [server, client];
      from.send({ header: pattern(3, 1), tail: [] });
      t.is((await last).length, 1);
      from.close();
      from.close();
      from.send({ header: pattern(3, 1), tail: [] });
      for (const reason of await Promise.all(both)) t.not(reason, "");
      to.send({ header: pattern(3, 1), tail: [] });
      await listener.close();
      t.deepEqual(told.sort(), ["0", "1"]);
    }
  });

  test(`${name}: an address in use is named`, async (t) => {
    const { listener } = await connectedPair(t, address(t));
    const error = await t.throwsAsync(webSocketNetwork().listen(listener.address, () => {}));
    t.true(isDazzleError(error, "exists"));
    t.true(error?.message.includes(listener.address) && error.message.includes("in use"));
  });

  test(`${name}: nobody listening is a refusal, at once`, async (t) => {
    const { listener, client } = await connectedPair(t, address(t));
    client.close();
    await listener.close();
    const error = await t.throwsAsync(webSocketNetwork().connect(listener.address, 5_000));
    t.true(isDazzleError(error, "unreachable") && error instanceof RefusedError);
    // Once: the system's message has it as well.
    t.regex(error?.message ?? "", /^unreachable: \S+: \w+ E[A-Z]+$/);
    t.true(error?.message.includes(listener.address));
  });
}

test("a socket file that a dead process left is taken over, and removed at the end", async (t) => {
  const path = join(temporaryDirectory(t), "socket");
  const script = `require("net").createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, "SIGKILL"))`;
  spawnSync(process.execPath, ["-e", script]);
  t.true(existsSync(path));
  await connectedPair(t, `unix:${path}`);
  const second = await t.throwsAsync(webSocketNetwork().listen(`unix:${path}`, () => {}));
  t.true(isDazzleError(second, "exists"));
});

test("a file in the way of a socket is left alone", async (t) => {
  const path = join(temporaryDirectory(t), "socket");
  writeFileSync(path, "precious");
  const error = await t.throwsAsync(webSocketNetwork().listen(`unix:${path}`, () => {}));
  t.true(isDazzleError(error, "exists"));
  t.true(existsSync(path));
});

test("a socket's path may be longer than the kernel's limit", async (t) => {
  const directory = join(temporaryDirectory(t), "a".repeat(100), "b".repeat(100));
  mkdirSync(directory, { recursive: true });
  const path = join(directory, "socket");
  const { listener, client, server } = await connectedPair(t, `unix:${path}`);
  t.is(client.remote, `unix:${path}`);
  t.true(existsSync(path));
  const arrived = frames(server, 1);
  client.send({ header: pattern(10, 1), tail: [] });
  t.is((await arrived).length, 1);
  await listener.close();
  t.false(existsSync(path));
});

test("a connect ends at its deadline when the other side accepts and says nothing", async (t) => {
  const path = join(temporaryDirectory(t), "socket");
  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(path, resolve));
  t.teardown(() => void silent.close());
  silent.on("connection", (socket) => t.teardown(() => void socket.destroy()));
  const error = await t.throwsAsync(webSocketNetwork().connect(`unix:${path}`, 50));
  t.true(isDazzleError(error, "unreachable"));
});

test("what is no address is refused", async (t) => {
  for (const address of ["", "unix:", "tcp:host", "tcp:host:99999", "udp:1:2"]) {
    const error = await t.throwsAsync(webSocketNetwork().connect(address, 100));
    t.true(isDazzleError(error, "invalid"), address);
  }
});
