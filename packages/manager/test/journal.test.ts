import { RecordKind } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Journal } from "../src/journal.ts";
import { MemoryLogs } from "./support/memory-logs.ts";

const RECORD = { kind: RecordKind.applied, owner: 0, position: 0, term: 1, length: 8 };

test("whoever waits for a log that is expelled, or comes later, is told to ask again, and not that it is expelled itself", async (t) => {
  const world = new World(1);
  const { clock } = world.spawn("manager").ports;
  const writer = new MemoryLogs().writer(7, clock);
  const journal = new Journal({
    writer,
    clock,
    logger: () => {},
    flushIntervalMs: 10,
    transactionBytes: 65_536,
  });
  const append = async () => journal.append([RECORD], () => {});
  await append();
  const waiting = journal.settle();
  writer.cut();
  for (const refused of [waiting, journal.settle(), append()]) {
    const error = await t.throwsAsync(refused, { code: "notReady" });
    t.regex(error?.message ?? "", /the log was cut/);
  }
});
