import { LOCK_END, LockKind, type LockRange, type LockRow } from "@dazzle/core";
import { SeededRandom } from "@dazzle/sim";
import test from "ava";
import { type LockRequest, LockTable } from "../src/locks/lock-table.ts";
import { LockModel } from "./support/lock-model.ts";

const BYTES = 12;
const FILES = [5, 6, 7];
const MOUNTS = [1, 2, 3];
const OWNERS = ["a", "b"];
const STEPS = 1_500;
const { fcntl, flock } = LockKind;

let numbers = 0;

function request(mount: number, type: LockRange["type"], start: number, end: number, options: Partial<LockRequest> = {}): LockRequest {
  return { mount, owner: "a", kind: fcntl, start, end, type, pid: mount, number: ++numbers, ...options };
}

function tableOf(granted: number[] = []): LockTable {
  return new LockTable((_ino, waiter) => granted.push(waiter.number));
}

test("a write lock excludes others, read locks share, and unlocking the middle leaves both sides", (t) => {
  const table = tableOf();
  t.is(table.lock(5, request(1, "write", 0, 99), false).outcome, "granted");
  t.is(table.lock(5, request(1, "unlock", 40, 59), false).outcome, "granted");
  t.is(table.lock(5, request(2, "write", 40, 59), false).outcome, "granted");
  t.is(table.lock(5, request(2, "read", 30, 45), false).outcome, "conflict");
  t.like(table.test(5, request(2, "read", 59, LOCK_END)), { start: 60, end: 99, write: true, mount: 1 });
  t.is(table.lock(5, request(1, "read", 60, 99), false).outcome, "granted");
  t.is(table.lock(5, request(2, "read", 70, 80), false).outcome, "granted");
  t.is(table.lock(5, request(1, "write", 60, 99), false).outcome, "conflict");
});

test("waiters get a lock in the order in which they came, and asking again gets no second place", (t) => {
  const granted: number[] = [];
  const table = tableOf(granted);
  table.lock(5, request(1, "write", 0, 9), false);
  const [first, second] = [request(2, "write", 0, 9), request(3, "write", 0, 9)];
  for (const waiter of [first, second, first]) t.is(table.lock(5, waiter, true).outcome, "waiting");
  table.lock(5, request(1, "unlock", 0, LOCK_END), false);
  t.deepEqual(granted, [first.number]);
  t.is(table.lock(5, first, true).outcome, "granted");
  table.lock(5, request(2, "unlock", 0, LOCK_END), false);
  t.deepEqual(granted, [first.number, second.number]);
});

test("a wait that would have no end is refused, over files and mounts; flock waits on", (t) => {
  const table = tableOf();
  table.lock(5, request(1, "write", 0, 0), false);
  table.lock(6, request(2, "write", 0, 0), false);
  table.lock(7, request(3, "write", 0, 0), false);
  t.is(table.lock(6, request(1, "write", 0, 0), true).outcome, "waiting");
  t.is(table.lock(7, request(2, "write", 0, 0), true).outcome, "waiting");
  t.is(table.lock(5, request(3, "read", 0, 9), true).outcome, "deadlock");
  const whole = { kind: flock, start: 0, end: LOCK_END };
  table.lock(8, request(1, "write", 0, 0, whole), false);
  table.lock(9, request(2, "write", 0, 0, whole), false);
  t.is(table.lock(9, request(1, "write", 0, 0, whole), true).outcome, "waiting");
  t.is(table.lock(8, request(2, "write", 0, 0, whole), true).outcome, "waiting");
});

test("two who convert a shared flock don't wait for each other", (t) => {
  const granted: number[] = [];
  const table = tableOf(granted);
  const whole = { kind: flock };
  for (const mount of [1, 2]) table.lock(5, request(mount, "read", 0, LOCK_END, whole), false);
  const first = request(1, "write", 0, LOCK_END, whole);
  t.is(table.lock(5, first, true).outcome, "waiting");
  t.is(table.lock(5, request(2, "write", 0, LOCK_END, whole), true).outcome, "granted");
  t.is(table.lock(5, request(3, "read", 0, LOCK_END, whole), false).outcome, "conflict");
  table.lock(5, request(2, "unlock", 0, LOCK_END, whole), false);
  t.deepEqual(granted, [first.number]);
});

test("a declaration replaces what a mount held, keeps its waiters' places, and frees the rest", (t) => {
  const granted: number[] = [];
  const table = tableOf(granted);
  table.lock(5, request(1, "write", 0, 9), false);
  const [withdrawn, kept, behind] = [request(2, "write", 0, 9), request(2, "read", 5, 9), request(3, "write", 5, 9)];
  for (const waiter of [withdrawn, kept, behind]) table.lock(5, waiter, true);
  table.declare(2, { ino: 5, number: 1_000, held: [], waits: [{ ...rowOf(kept), number: kept.number }] });
  table.declare(1, { ino: 5, number: 1_001, held: [rowOf(request(1, "write", 0, 4))], waits: [] });
  t.deepEqual(granted, [kept.number]);
  // The grant crossed with a declaration: it is waited for again, and granted again.
  table.declare(2, { ino: 5, number: 1_002, held: [], waits: [{ ...rowOf(kept), number: kept.number }] });
  t.deepEqual(granted, [kept.number, behind.number]);
  table.declare(3, { ino: 5, number: 1_003, held: [], waits: [] });
  t.deepEqual(granted, [kept.number, behind.number, kept.number]);
  table.checkInvariants();
});

function rowOf({ kind, owner, start, end, type, pid }: LockRequest): LockRow {
  return { kind, owner, start, end, write: type === "write", pid };
}

for (const seed of [1, 2, 3, 4, 5]) {
  test(`random requests, declarations and deaths agree with locks kept byte by byte, seed=${seed}`, (t) => {
    const random = new SeededRandom(seed);
    const granted: number[] = [];
    const table = tableOf(granted);
    const model = new LockModel(BYTES);
    const counts = new Map<string, number>();
    for (let step = 0; step < STEPS; step++) {
      const at = `seed=${seed} step=${step}`;
      const mount = random.pick(MOUNTS);
      const ino = random.pick(FILES);
      const draw = random.below(40);
      if (draw === 0) {
        model.dropMount(mount);
        table.dropMount(mount);
      } else if (draw < 4) {
        const waits = model.waiting.filter((waiter) => waiter.ino === ino && waiter.request.mount === mount && random.chance(0.5));
        const rows = waits.map(({ request: waiter }) => ({ ...rowOf(waiter), number: waiter.number }));
        model.withdraw(mount, ino, new Set(rows.map(({ number }) => number)));
        table.declare(mount, { ino, number: ++numbers, held: heldOf(model, mount, ino), waits: rows });
      } else {
        const kind = random.pick([fcntl, fcntl, fcntl, flock]);
        const start = kind === flock ? 0 : random.below(BYTES);
        const last = kind === flock || random.chance(0.2) ? BYTES - 1 : start + random.below(BYTES - start);
        // The last byte stands for all that follow.
        const end = last === BYTES - 1 ? LOCK_END : last;
        const type = random.pick(["read", "write", "unlock"] as const);
        const asked = request(mount, type, start, end, { kind, owner: random.pick(OWNERS) });
        const wait = random.chance(0.5) && isFree(model, asked);
        const expected = model.lock(ino, asked, wait);
        t.is(table.lock(ino, asked, wait).outcome, expected, at);
        counts.set(expected, (counts.get(expected) ?? 0) + 1);
      }
      t.deepEqual([...granted].sort(), [...model.granted].sort(), at);
      for (let byte = 0; byte < BYTES; byte++) {
        const other = request(9, random.pick(["read", "write"] as const), byte, byte);
        t.is(table.test(ino, other) === undefined, model.blockers(ino, other).size === 0, `${at} byte=${byte}`);
      }
      table.checkInvariants();
    }
    for (const outcome of ["granted", "waiting", "conflict", "deadlock"]) t.true((counts.get(outcome) ?? 0) > 5, outcome);
  });
}

/** A process waits for one lock at a time. */
function isFree(model: LockModel, asked: LockRequest): boolean {
  return !model.waiting.some(({ request: waiter }) => waiter.mount === asked.mount && waiter.owner === asked.owner);
}

function heldOf(model: LockModel, mount: number, ino: number): LockRow[] {
  const rows: LockRow[] = [];
  for (const kind of [fcntl, flock])
    for (const owner of OWNERS)
      for (let byte = 0; byte < BYTES; byte++) {
        const type = model.at(ino, kind, byte).get(`${mount}/${owner}`);
        const end = byte === BYTES - 1 ? LOCK_END : byte;
        if (type !== undefined) rows.push({ kind, owner, start: byte, end, write: type === "write", pid: mount });
      }
  return rows;
}
