import { Packr } from "msgpackr";
import { assert } from "../assert.ts";
import { asBuffer } from "../bytes.ts";
import { DazzleError, ErrorCode, type ErrorName, errorNameById } from "../errors.ts";
import { Message, type MessageName, type MessageRow } from "./messages.ts";
import { PackedMaps } from "./packed-maps.ts";

/** A frame's header: a msgpack array that starts with what it is.
 *   request  [0, id, message, map version, deadline ms, …fields]
 *   reply    [1, id, map version, …fields]
 *   failure  [2, id, map version, error id, detail]
 *   cancel   [3, id] */
export const FrameKind = { request: 0, reply: 1, failure: 2, cancel: 3 } as const;

export type Packet =
  | {
      readonly kind: "request";
      readonly id: number;
      readonly message: MessageName;
      readonly mapVersion: number;
      readonly deadlineMs: number;
      readonly fields: readonly unknown[];
    }
  | { readonly kind: "reply"; readonly id: number; readonly mapVersion: number; readonly fields: readonly unknown[] }
  | { readonly kind: "failure"; readonly id: number; readonly mapVersion: number; readonly error: DazzleError }
  | { readonly kind: "cancel"; readonly id: number };

// useRecords off: two instances share no structures. copyBuffers: decoded bytes don't alias the frame.
const packr = new Packr({ useRecords: false, copyBuffers: true });
const maps = new PackedMaps(packr);

const BY_ID = new Map<number, MessageName>();
for (const [name, row] of Object.entries(Message)) {
  assert(!BY_ID.has(row.id), `message number ${row.id} is used once`);
  BY_ID.set(row.id, name as MessageName);
}

type AnyRow = MessageRow<Record<string, unknown>, Record<string, unknown>>;

function fieldsOf(names: readonly string[], shape: object): unknown[] {
  return names.map((name) => (shape as Record<string, unknown>)[name]);
}

function shapeOf(names: readonly string[], fields: readonly unknown[]): Record<string, unknown> {
  const shape: Record<string, unknown> = {};
  names.forEach((name, index) => {
    if (fields[index] === undefined) throw new DazzleError("badMessage", `the field ${name} is missing`);
    shape[name] = fields[index];
  });
  if (endsWithMap(names, fields)) maps.know(fields[names.length - 1] as object);
  return shape;
}

/** A row's last field alone may be the map. */
function endsWithMap(names: readonly string[], fields: readonly unknown[]): boolean {
  const last = names.length - 1;
  return names[last] === "map" && typeof fields[last] === "object" && fields[last] !== null;
}

/** `names`: the row's, of the fields that stand behind `start`. */
function pack(start: readonly unknown[], names: readonly string[], fields: readonly unknown[]): Uint8Array {
  return endsWithMap(names, fields)
    ? maps.pack([...start, ...fields.slice(0, -1)], fields[names.length - 1] as object)
    : packr.pack([...start, ...fields]);
}

/** The rows' numbers, one after the other. */
function flattened(columns: readonly string[], rows: readonly Record<string, unknown>[]): unknown[] {
  const numbers: unknown[] = [];
  for (const row of rows) for (const column of columns) numbers.push(row[column]);
  return numbers;
}

function rowsOf(name: string, columns: readonly string[], numbers: unknown): Record<string, unknown>[] {
  if (!Array.isArray(numbers)) throw new DazzleError("badMessage", `the field ${name} is no table`);
  const rows: Record<string, unknown>[] = [];
  for (let at = 0; at < numbers.length; at += columns.length) {
    const row: Record<string, unknown> = {};
    for (let column = 0; column < columns.length; column++) row[columns[column] as string] = numberOf(numbers[at + column], name);
    rows.push(row);
  }
  return rows;
}

type Tables = readonly (readonly [name: string, columns: readonly string[]])[];

const NO_TABLES: Tables = [];

function tablesOf({ tables }: AnyRow): Tables {
  return tables === undefined ? NO_TABLES : (Object.entries(tables) as unknown as Tables);
}

export function encodeRequest(id: number, message: MessageName, mapVersion: number, deadlineMs: number, request: object): Uint8Array {
  const row = Message[message] as unknown as AnyRow;
  return pack([FrameKind.request, id, row.id, mapVersion, deadlineMs], row.request, fieldsOf(row.request, request));
}

export function encodeReply(id: number, message: MessageName, mapVersion: number, reply: object): Uint8Array {
  const row = Message[message] as unknown as AnyRow;
  const fields = fieldsOf(row.reply, reply);
  for (const [name, columns] of tablesOf(row)) {
    const index = row.reply.indexOf(name);
    fields[index] = flattened(columns, fields[index] as Record<string, unknown>[]);
  }
  return pack([FrameKind.reply, id, mapVersion], row.reply, fields);
}

export function encodeFailure(id: number, mapVersion: number, code: ErrorName, detail: string): Uint8Array {
  return packr.pack([FrameKind.failure, id, mapVersion, ErrorCode[code].id, detail]);
}

export function encodeCancel(id: number): Uint8Array {
  return packr.pack([FrameKind.cancel, id]);
}

function numberOf(value: unknown, what: string): number {
  if (typeof value !== "number") throw new DazzleError("badMessage", `a frame's ${what} is no number`);
  return value;
}

/** Throws `badMessage` for whatever is not a frame of this protocol. */
export function decodeHeader(bytes: Uint8Array): Packet {
  let value: unknown;
  try {
    const buffer = asBuffer(bytes);
    value = maps.unpack(buffer) ?? packr.unpack(buffer);
  } catch (error) {
    throw new DazzleError("badMessage", `a frame can't be read: ${(error as Error).message}`);
  }
  if (!Array.isArray(value) || value.length < 2 || typeof value[1] !== "number")
    throw new DazzleError("badMessage", "a frame is no packet");
  const [kind, id] = value as [unknown, number];
  switch (kind) {
    case FrameKind.request: {
      const number = numberOf(value[2], "message");
      const message = BY_ID.get(number);
      if (message === undefined) throw new DazzleError("badMessage", `message ${number} is unknown here: is the other side newer?`);
      const mapVersion = numberOf(value[3], "map version");
      return { kind: "request", id, message, mapVersion, deadlineMs: numberOf(value[4], "deadline"), fields: value.slice(5) };
    }
    case FrameKind.reply:
      return { kind: "reply", id, mapVersion: numberOf(value[2], "map version"), fields: value.slice(3) };
    case FrameKind.failure: {
      const code = errorNameById(numberOf(value[3], "error"));
      const detail: unknown = value[4];
      if (typeof detail !== "string") throw new DazzleError("badMessage", "a failure without a detail");
      return { kind: "failure", id, mapVersion: numberOf(value[2], "map version"), error: new DazzleError(code, detail) };
    }
    case FrameKind.cancel:
      return { kind: "cancel", id };
    default:
      throw new DazzleError("badMessage", "a frame of an unknown kind");
  }
}

export function requestShape(message: MessageName, fields: readonly unknown[]): Record<string, unknown> {
  return shapeOf((Message[message] as unknown as AnyRow).request, fields);
}

export function replyShape(message: MessageName, fields: readonly unknown[]): Record<string, unknown> {
  const row = Message[message] as unknown as AnyRow;
  const shape = shapeOf(row.reply, fields);
  for (const [name, columns] of tablesOf(row)) shape[name] = rowsOf(name, columns, shape[name]);
  return shape;
}
