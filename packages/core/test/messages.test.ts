import { DeltaKind, FrameKind, Message, type MessageName, type MessageRow, RecordKind, SegmentClass } from "@dazzle/core";
import test from "ava";
import { checkFrozen } from "./support/golden.ts";

const ROWS = Object.entries(Message as Record<string, MessageRow<object, object>>).map(([name, row]) => {
  const tables: Record<string, readonly string[]> = row.tables ?? {};
  const reply = row.reply.map((field) => (tables[field] === undefined ? field : `${field}[${tables[field].join(" ")}]`));
  return `message ${row.id} ${name} since=${row.since} idempotent=${row.idempotent} (${row.request.join(" ")}) -> (${reply.join(" ")})`;
});

const NUMBERS = Object.entries({ delta: DeltaKind, frame: FrameKind, record: RecordKind, class: SegmentClass }).flatMap(([table, kinds]) =>
  Object.entries(kinds).map(([name, number]) => `${table} ${number} ${name}`),
);

test("a message keeps its number, its fields and their order", (t) => checkFrozen(t, "messages", ROWS));

test("the numbers of deltas, records, frames and segment classes stay", (t) => checkFrozen(t, "numbers", NUMBERS));

test("a message names each of its fields once", (t) => {
  for (const name of Object.keys(Message) as MessageName[]) {
    for (const fields of [Message[name].request, Message[name].reply] as ReadonlyArray<readonly string[]>)
      t.is(new Set(fields).size, fields.length, name);
  }
});
