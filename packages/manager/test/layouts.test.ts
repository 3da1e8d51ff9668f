import { ALL_SLOTS, DazzleError, hasSlot, withSlot } from "@dazzle/core";
import test from "ava";
import { FilterBuilder, filterMayHold, keyHash } from "../src/imap/filter.ts";
import { behindPrefix, EntryKind, idKey, keyId, keyName, keyNumber, nameKey, numberKey } from "../src/imap/keys.ts";
import { RunBlock, RunBlockBuilder } from "../src/imap/run-block.ts";
import { encodeFoot, footBytes, TableFoot } from "../src/imap/run-table.ts";
import { packEntry, packLive, packNumber, unpackEntry, unpackLive } from "../src/imap/values.ts";
import { initialMap } from "../src/map/initial-map.ts";
import { decodeRegister, encodeRegister } from "../src/map/register-file.ts";
import { decodeRoot, encodeRoot } from "../src/shard/checkpoint-root.ts";
import {
  decodeWalBody,
  encodeWalAmended,
  encodeWalHolds,
  encodeWalMoves,
  encodeWalNumbers,
  encodeWalSection,
  walAmendedBytes,
} from "../src/shard/wal-record.ts";
import { golden } from "./support/golden.ts";

const address = (sequence: number, offset: number, length: number) => ({ log: 258, sequence, offset, length, group: 3, groupVersion: 4 });

function sampleKeys(): Buffer[] {
  return [
    idKey(EntryKind.inode, 2 ** 40 + 5),
    nameKey(EntryKind.entry, 66, "a name \xff"),
    numberKey(EntryKind.extents, 67, 2 ** 33 + 1),
    nameKey(EntryKind.attribute, 68, "user.x"),
    numberKey(EntryKind.live, 69, 70),
    idKey(EntryKind.orphan, 71),
    idKey(EntryKind.condemned, 72),
  ];
}

test("keys keep their layout, and sort by kind, id and the rest", (t) => {
  const keys = sampleKeys();
  t.is(keys.map((key) => key.toString("hex")).join(""), golden("keys"));
  for (const [index, key] of keys.entries()) if (index > 0) t.is(Buffer.compare(keys[index - 1] as Buffer, key), -1);
  t.is(keyId(keys[0] as Buffer), 2 ** 40 + 5);
  t.is(keyName(keys[1] as Buffer), "a name \xff");
  t.is(keyNumber(keys[2] as Buffer), 2 ** 33 + 1);
  t.deepEqual(behindPrefix(Buffer.from([1, 255, 255])), Buffer.from([2]));
});

test("values keep their layout", (t) => {
  const slots = withSlot(withSlot({ low: 0, high: 0 }, 1), 63);
  const values = [packEntry({ child: 2 ** 40 + 1, type: 8 }), packLive({ bytes: 2 ** 33, slots }), packNumber(2 ** 34)];
  t.is(values.map((value) => value.toString("hex")).join(""), golden("values"));
  t.deepEqual(unpackEntry(values[0] as Buffer), { child: 2 ** 40 + 1, type: 8 });
  t.deepEqual(unpackLive(values[1] as Buffer), { bytes: 2 ** 33, slots });
  t.deepEqual(
    [0, 1, 31, 32, 62, 63].filter((slot) => hasSlot(slots, slot)),
    [1, 63],
  );
});

function sampleBlock(): Buffer {
  const builder = new RunBlockBuilder(16);
  for (const [index, key] of sampleKeys().entries()) builder.add(key, index === 3 ? null : Buffer.alloc(index, 0x30 + index));
  const block = Buffer.alloc(builder.length);
  builder.finish(block);
  return block;
}

test("a run's block keeps its layout, and finds its keys", (t) => {
  const bytes = sampleBlock();
  t.is(bytes.toString("hex"), golden("run-block"));
  const block = new RunBlock(bytes);
  t.is(block.count, 7);
  for (const [index, key] of sampleKeys().entries()) {
    t.is(block.find(key), index);
    t.deepEqual(block.value(index), index === 3 ? null : Buffer.alloc(index, 0x30 + index));
  }
  t.is(block.find(idKey(EntryKind.inode, 4)), undefined);
  t.is(block.lowerBound(idKey(EntryKind.live, 1)), 4);
  t.throws(() => new RunBlock(bytes.subarray(0, 3)), { instanceOf: DazzleError });
});

test("a table's foot keeps its layout, and its filter finds every key", (t) => {
  const filter = new FilterBuilder();
  for (const key of sampleKeys()) filter.add(key, key.length);
  const bits = filter.finish();
  const rows = [
    { address: address(5, 4096, 200), firstKey: sampleKeys()[0] as Buffer },
    { address: address(6, 8, 300), firstKey: sampleKeys()[2] as Buffer },
  ];
  const bytes = Buffer.alloc(footBytes(rows, bits));
  encodeFoot(rows, bits, bytes);
  t.is(bytes.toString("hex"), golden("run-foot"));
  const foot = new TableFoot(bytes);
  t.deepEqual([foot.address(0), foot.address(1)], [address(5, 4096, 200), address(6, 8, 300)]);
  t.deepEqual(
    sampleKeys().map((key) => foot.blockOf(key)),
    [0, 0, 1, 1, 1, 1, 1],
  );
  for (const key of sampleKeys()) t.true(filterMayHold(bits, keyHash(key, key.length)));
  t.throws(() => new TableFoot(Buffer.alloc(64)), { code: "corrupt" });
});

test("a filter seldom says yes to what it does not hold", (t) => {
  const filter = new FilterBuilder();
  for (let id = 0; id < 2_000; id++) filter.add(idKey(EntryKind.inode, id), 9);
  const bits = filter.finish();
  let wrong = 0;
  for (let id = 10_000; id < 20_000; id++) {
    const key = nameKey(EntryKind.entry, id, `name ${id}`);
    if (filterMayHold(bits, keyHash(key, key.length))) wrong++;
  }
  t.true(wrong < 200, `${wrong} of 10,000`);
});

test("a checkpoint's root keeps its layout", (t) => {
  const table = {
    serial: 1,
    foot: address(9, 16, 500),
    entries: 1000,
    firstKey: sampleKeys()[0] as Buffer,
    lastKey: sampleKeys()[6] as Buffer,
    segments: [
      { log: 258, sequence: 8, bytes: 70_000 },
      { log: 258, sequence: 9, bytes: 500 },
    ],
  };
  const slots = [
    {
      slot: 1,
      term: 7,
      numbersLimit: 2 ** 40,
      applied: [[5, 6] as const, [2 ** 33, 8] as const],
      holds: [5],
      runs: [{ tables: [table] }, { tables: [] }],
    },
    { slot: 63, term: 1, numbersLimit: 127, applied: [], holds: [], runs: [] },
  ];
  const bytes = encodeRoot({ replayFrom: 2 ** 34, slots });
  t.is(bytes.toString("hex"), golden("checkpoint-root"));
  const decoded = decodeRoot(bytes);
  t.is(decoded.replayFrom, 2 ** 34);
  t.like(decoded.slots[1], slots[1] as object);
  t.deepEqual(decoded.slots[0]?.runs[0]?.tables, [{ ...table, serial: decoded.slots[0]?.runs[0]?.tables[0]?.serial as number }]);
  for (let length = 0; length < bytes.length; length++) t.throws(() => decodeRoot(bytes.subarray(0, length)), undefined, `${length} bytes`);
});

test("records of the write-ahead log keep their layout", (t) => {
  const origin = { log: 5, sequence: 2 ** 33, group: 3, groupVersion: 4, slots: { low: 6, high: 0x80000000 } };
  const section = Buffer.from("a section");
  const bytes = Buffer.alloc(200, 0xff);
  let at = encodeWalSection(origin, section, bytes);
  const numbersAt = at;
  at += encodeWalNumbers(2 ** 41, bytes.subarray(at));
  const holdsAt = at;
  at += encodeWalHolds(bytes.subarray(at));
  t.is(bytes.subarray(0, at).toString("hex"), golden("wal-records"));
  const { log: _log, ...rest } = origin;
  t.deepEqual(decodeWalBody(bytes.subarray(0, numbersAt)), { kind: "section", origin: rest, section });
  t.deepEqual(decodeWalBody(bytes.subarray(numbersAt, holdsAt)), { kind: "numbers", limit: 2 ** 41 });
  t.deepEqual(decodeWalBody(bytes.subarray(holdsAt, at)), { kind: "holds" });
  // Came later.
  const moves = Buffer.from("some moves");
  const end = encodeWalMoves(origin, moves, bytes);
  t.is(bytes.subarray(0, end).toString("hex"), golden("wal-moves"));
  t.deepEqual(decodeWalBody(bytes.subarray(0, end)), { kind: "moves", origin: { ...rest, slots: ALL_SLOTS }, moves });
  t.throws(() => decodeWalBody(bytes.subarray(0, 23)), { code: "corrupt" });
  t.throws(() => decodeWalBody(Buffer.alloc(7)), { code: "corrupt" });
  t.throws(() => decodeWalBody(Buffer.alloc(40, 9)), { code: "corrupt" });
});

test("what a repair puts keeps its layout", (t) => {
  const entries = [
    { key: Buffer.from("a key"), value: Buffer.from("a value") },
    { key: Buffer.from("another"), value: null },
  ];
  const bytes = Buffer.alloc(walAmendedBytes(entries), 0xff);
  t.is(encodeWalAmended(entries, bytes), bytes.length);
  t.is(bytes.toString("hex"), golden("wal-amended"));
  t.deepEqual(decodeWalBody(bytes), { kind: "amended", entries });
  const whole = [8, 8 + 8 + 5 + 7];
  for (let length = 8; length < bytes.length; length++)
    if (!whole.includes(length)) t.throws(() => decodeWalBody(bytes.subarray(0, length)), { code: "corrupt" }, `${length} bytes`);
});

test("the register keeps its layout", (t) => {
  const clusterId = "0123456789abcdef0123456789abcdef";
  const member = {
    id: 1 as never,
    name: "node",
    addresses: ["unix:a"],
    roles: ["keeper" as const],
    incarnation: 1,
    leaving: false,
    store: null,
  };
  const map = initialMap({ clusterId, members: [member], manager: member.id });
  const accepted = { counter: 7, proposer: "0123456789abcdef01234567" };
  const promised = { counter: 2 ** 40, proposer: "fedcba987654321001234567" };
  const state = { promised, accepted, map: { ...map, slots: map.slots.slice(0, 1) } };
  const bytes = encodeRegister(state);
  t.is(bytes.toString("hex"), golden("register-2"));
  t.deepEqual(decodeRegister(bytes), state);
});
