import { World } from "@dazzle/sim";
import test from "ava";
import { ByteGate } from "../src/byte-gate.ts";

function gateOf(world: World, waitingMax = 1_000): ByteGate {
  return new ByteGate(world.spawn("gate").ports.clock, { insideMax: 100, waitingMax, deadlineMs: 1_000 });
}

const never = new AbortController();

test("bytes beyond the bound wait their turn in order", async (t) => {
  const gate = gateOf(new World("order"));
  const entered: string[] = [];
  const enter = async (name: string, bytes: number) => {
    await gate.enter(bytes, never);
    entered.push(name);
  };
  t.is(gate.enter(60, never), undefined);
  const waiting = [enter("large", 90), enter("small", 10), enter("third", 50)];
  gate.leave(60);
  await Promise.all(waiting.slice(0, 2));
  t.deepEqual(entered, ["large", "small"]);
  gate.leave(90);
  await waiting[2];
  t.is(gate.insideBytes, 60);
});

test("who passes at once is not asked for a signal, which costs more than the gate", (t) => {
  const gate = gateOf(new World("signal"));
  const caller = {
    get signal(): AbortSignal {
      throw new Error("it was asked for");
    },
  };
  t.is(gate.enter(10, caller), undefined);
});

test("one larger than the bound passes alone", async (t) => {
  const gate = gateOf(new World("large"));
  t.is(gate.enter(10, never), undefined);
  const large = gate.enter(500, never);
  gate.leave(10);
  await large;
  t.is(gate.insideBytes, 500);
});

test("waiting ends with the deadline, with the caller, and at the bound of what waits", async (t) => {
  const world = new World("ends");
  const gate = gateOf(world, 100);
  void gate.enter(100, never);
  const caller = new AbortController();
  const waiting = [gate.enter(50, never), gate.enter(50, caller), gate.enter(1, never)].map((entering) =>
    (entering as Promise<void>).then(
      () => "in",
      (error: { code: string }) => error.code,
    ),
  );
  caller.abort();
  t.is(await world.run(waiting[1] as Promise<string>), "cancelled");
  t.is(await world.run(waiting[2] as Promise<string>), "notReady");
  t.is(await world.run(waiting[0] as Promise<string>), "timedOut");
  gate.leave(100);
  t.is(gate.enter(100, never), undefined);
});
