import { RecordKind } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { Journal } from "../src/journal.ts";
import { MemoryLogs } from "./support/memory-logs.ts";

const RECORD = { kind: RecordKind.applied, owner: 0, position: 0, term: 1, length: 8 };

function bench() {
  const world = new World(1);
  const { clock } = world.spawn("manager").ports;
  const writer = new MemoryLogs().writer(7, clock);
  const journal = new Journal({ writer, clock, logger: () => {}, flushIntervalMs: 60_000, transactionBytes: 65_536 });
  const append = async (kind: RecordKind) => journal.append([{ ...RECORD, kind }], () => {});
  return { world, writer, journal, append };
}

test("what was applied becomes stable without the sorted runs that are written behind it", async (t) => {
  const { world, writer, journal, append } = bench();
  await append(RecordKind.applied);
  await world.run(journal.settleApplied());
  t.is(journal.stableSequence, 1);
  await append(RecordKind.run);
  await world.run(journal.settleApplied());
  t.is(journal.stableSequence, 1, "nothing was applied since");
  await append(RecordKind.applied);
  const settled = journal.settleApplied();
  await append(RecordKind.run);
  const all = journal.settle();
  const applied = journal.settleApplied();
  await world.run(() => journal.stableSequence === 2);
  writer.silence();
  await world.run(Promise.all([settled, applied]));
  await t.throwsAsync(world.run(all), { code: "unreachable" });
  await world.run(journal.settleApplied());
  await append(RecordKind.applied);
  await t.throwsAsync(world.run(journal.settleApplied()), { code: "unreachable" });
});

test("whoever waits for a log that is expelled, or comes later, is told to ask again, and not that it is expelled itself", async (t) => {
  const { writer, journal, append } = bench();
  await append(RecordKind.applied);
  const waiting = journal.settle();
  writer.cut();
  for (const refused of [waiting, journal.settle(), append(RecordKind.applied)]) {
    const error = await t.throwsAsync(refused, { code: "notReady" });
    t.regex(error?.message ?? "", /the log was cut/);
  }
});
