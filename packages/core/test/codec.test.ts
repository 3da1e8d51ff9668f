import {
  DazzleError,
  decodeHeader,
  ErrorCode,
  type ErrorName,
  encodeCancel,
  encodeFailure,
  encodeReply,
  encodeRequest,
  Message,
  type MessageName,
  type MessageRow,
  replyShape,
  requestShape,
} from "@dazzle/core";
import test from "ava";
import { Packr } from "msgpackr";
import { goldenBytes } from "./support/golden.ts";
import { randomField, sampleMap } from "./support/message-samples.ts";
import { type Seeded, seeds } from "./support/seeded.ts";
import { answerOrRow, throwsRow } from "./support/throws.ts";

const NAMES = Object.keys(Message) as MessageName[];
const packr = new Packr({ useRecords: false });

test("frame headers are the bytes of their golden files", (t) => {
  const request = { log: 7, sequence: 2 ** 40, group: 1, groupVersion: -1, index: 2, offset: 4_096, length: 65_536 };
  const frames = {
    "frame-request": encodeRequest(9, "read", 70_000, 2_000, request),
    "frame-reply-map-2": encodeReply(2 ** 33, "mapRead", 5, { map: sampleMap(5) }),
    "frame-failure": encodeFailure(11, 6, "logSealed", "log 7"),
    "frame-cancel": encodeCancel(12),
  };
  for (const [name, bytes] of Object.entries(frames))
    t.deepEqual(
      Buffer.from(bytes),
      goldenBytes(name, () => bytes),
      name,
    );
  const decoded = decodeHeader(goldenBytes("frame-request", () => frames["frame-request"]));
  t.deepEqual(decoded, { kind: "request", id: 9, message: "read", mapVersion: 70_000, deadlineMs: 2_000, fields: Object.values(request) });
});

function tables(name: MessageName, random: Seeded): Record<string, unknown> {
  const { tables: columns = {} } = Message[name] as MessageRow<object, object>;
  const number = () => random.below(2 ** 48);
  return Object.fromEntries(
    Object.entries<readonly string[]>(columns).map(([field, names]) => [
      field,
      Array.from({ length: random.below(4) }, () => Object.fromEntries(names.map((column) => [column, number()]))),
    ]),
  );
}

for (const name of NAMES) {
  test(`${name} crosses the wire, request and reply`, (t) => {
    for (const random of seeds(10)) {
      const at = `seed=${random.seed}`;
      const shape = (fields: readonly string[]) => Object.fromEntries(fields.map((field) => [field, randomField(random)]));
      const asked = shape(Message[name].request);
      const request = decodeHeader(encodeRequest(random.seed, name, 3, 4_000, asked));
      if (request.kind !== "request") return t.fail(at);
      t.like(request, { id: random.seed, message: name, mapVersion: 3, deadlineMs: 4_000 }, at);
      t.deepEqual(requestShape(name, request.fields), asked, at);
      const answered = { ...shape(Message[name].reply), ...tables(name, random) };
      const reply = decodeHeader(encodeReply(random.seed, name, 4, answered));
      if (reply.kind !== "reply") return t.fail(at);
      t.like(reply, { id: random.seed, mapVersion: 4 }, at);
      t.deepEqual(replyShape(name, reply.fields), answered, at);
    }
  });
}

test("a map that was met before is unpacked once, one that differs in a byte is another", (t) => {
  const told = (bytes: Uint8Array) => {
    const packet = decodeHeader(bytes);
    return packet.kind === "reply" ? replyShape("mapState", packet.fields) : {};
  };
  const accepted = { counter: 3, proposer: "p" };
  const map = sampleMap(70);
  const bytes = Buffer.from(packr.pack([1, 9, 70, accepted, map]));
  const first = told(bytes);
  t.deepEqual(first, { accepted, map });
  t.is(told(Buffer.from(bytes)).map, first.map);
  t.true(bytes.equals(encodeReply(9, "mapState", 70, first)));
  const other = Buffer.from(packr.pack([1, 9, 70, accepted, { ...map, nextLog: map.nextLog + 1 }]));
  t.is(other.length, bytes.length);
  t.deepEqual(told(other).map, { ...map, nextLog: map.nextLog + 1 });
  // The same end, of something else.
  const nested = decodeHeader(packr.pack([1, 9, 70, [accepted, map]]));
  t.deepEqual(nested, { kind: "reply", id: 9, mapVersion: 70, fields: [[accepted, map]] });
});

test("every error crosses the wire with its detail", (t) => {
  for (const code of Object.keys(ErrorCode) as ErrorName[]) {
    const packet = decodeHeader(encodeFailure(5, 6, code, "what it happened to: caf\u00e9"));
    if (packet.kind !== "failure") return t.fail(code);
    t.is(packet.error.code, code);
    t.is(packet.error.message, new DazzleError(code, "what it happened to: caf\u00e9").message);
  }
});

test("an error of a newer program is a bad message here, and its detail stays", (t) => {
  const packet = decodeHeader(packr.pack([2, 1, 1, 60_000, "the disk of the future"]));
  if (packet.kind !== "failure") return t.fail();
  t.is(packet.error.code, "badMessage");
  t.regex(packet.error.message, /the disk of the future/);
});

test("fields that are added at the end later are not seen, a missing one is a bad message", (t) => {
  t.deepEqual(requestShape("vouchGone", ["1-2-3", "later"]), { process: "1-2-3" });
  throwsRow(t, "badMessage", () => requestShape("vouchGone", []), "no field");
  throwsRow(t, "badMessage", () => replyShape("release", ["0"].slice(1)) && requestShape("release", [1]), "one field of two");
});

test("a table of which a row is cut off, or that holds what is no number, is a bad message", (t) => {
  const columns = ["log", "sequence", "group", "groupVersion", "index", "dataFragments", "parityFragments", "payloadBytes", "dataBytes"];
  const row = Object.fromEntries([...columns, "bytesSince", "summaryOffset"].map((column, index) => [column, index]));
  const answer = { fragments: [row, row], more: false, stableSequence: 1, trimmedTo: 1, vouched: true, boot: "" };
  const packet = decodeHeader(encodeReply(1, "list", 1, answer));
  if (packet.kind !== "reply") return t.fail();
  const [numbers, ...others] = packet.fields as [number[], ...unknown[]];
  t.is(numbers.length, 22);
  throwsRow(t, "badMessage", () => replyShape("list", [numbers.slice(1), ...others]), "cut off");
  throwsRow(t, "badMessage", () => replyShape("list", [["0", ...numbers.slice(1)], ...others]), "a string");
  throwsRow(t, "badMessage", () => replyShape("list", [7, ...others]), "no list");
});

const BAD: Record<string, unknown> = {
  "no array": { kind: 0 },
  "an empty array": [],
  "no id": [0],
  "an id that is no number": [1, "1", 1],
  "an unknown kind": [4, 1],
  "an unknown message": [0, 1, 9_999, 1, 1],
  "a message number that is an object": [0, 1, { toString: 1, valueOf: 1 }, 1, 1],
  "a request without map version": [0, 1, 2],
  "a request whose deadline is a string": [0, 1, 2, 1, "1"],
  "a reply whose map version is null": [1, 1, null],
  "a failure without error number": [2, 1, 1],
  "a failure whose detail is an object": [2, 1, 1, 1, { toString: 1 }],
};

for (const [name, value] of Object.entries(BAD)) {
  test(`a bad frame: ${name}`, (t) => throwsRow(t, "badMessage", () => decodeHeader(packr.pack(value)), name));
}

test("cut frames and frames with more behind them are bad messages", (t) => {
  const bytes = encodeRequest(1, "openMount", 1, 1, { mount: 70_000 });
  for (let length = 0; length < bytes.length; length++)
    throwsRow(t, "badMessage", () => decodeHeader(bytes.subarray(0, length)), `${length} bytes`);
  throwsRow(t, "badMessage", () => decodeHeader(Buffer.concat([bytes, Buffer.alloc(1)])), "a byte more");
});

test("random frames throw bad messages and nothing else", (t) => {
  for (const random of seeds(2_000)) {
    const at = `seed=${random.seed}`;
    answerOrRow(t, () => decodeHeader(random.bytes(random.below(60))), at);
    const name = random.pick(NAMES);
    const fields = Object.fromEntries(Message[name].request.map((field) => [field, randomField(random)]));
    const frame = Buffer.from(encodeRequest(random.below(100), name, 1, 1, fields));
    for (let flips = random.between(1, 4); flips > 0; flips--) frame[random.below(frame.length)] = random.below(256);
    answerOrRow(
      t,
      () => {
        const packet = decodeHeader(frame);
        if (packet.kind === "request") requestShape(packet.message, packet.fields);
      },
      at,
    );
    answerOrRow(
      t,
      () => decodeHeader(packr.pack([random.below(5), random.below(9), ...Array.from({ length: 4 }, () => randomField(random))])),
      at,
    );
  }
  t.pass();
});
