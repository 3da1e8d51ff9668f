import { DazzleError, isDazzleError, type LockRange } from "@dazzle/core";
import test from "ava";
import { LockTable } from "../src/locks.ts";

const caller = { uid: 0, gid: 0, pid: 1 };

function range(start: number, end: number, type: LockRange["type"]): LockRange {
  return { start, end, type, pid: 1 };
}

test("a write lock excludes others, read locks share", (t) => {
  const locks = new LockTable();
  locks.set(caller, 5, 1n, range(0, 9, "read"), false);
  locks.set(caller, 5, 2n, range(5, 20, "read"), false);
  t.deepEqual(locks.conflict(5, 3n, range(0, 3, "write")), range(0, 9, "read"));
  t.is(locks.conflict(5, 3n, range(21, 30, "write")), undefined);
  t.throws(() => locks.set(caller, 5, 1n, range(0, 20, "write"), false), { instanceOf: DazzleError, message: /lockConflict/ });
});

test("unlocking the middle leaves both sides held", (t) => {
  const locks = new LockTable();
  locks.set(caller, 5, 1n, range(0, 99, "write"), false);
  locks.set(caller, 5, 1n, range(40, 59, "unlock"), false);
  t.is(locks.conflict(5, 2n, range(40, 59, "write")), undefined);
  t.deepEqual(locks.conflict(5, 2n, range(30, 45, "read")), range(0, 39, "write"));
  t.deepEqual(locks.conflict(5, 2n, range(59, 60, "read")), range(60, 99, "write"));
});

test("a waiter gets the lock when it is free, an interrupted one does not", async (t) => {
  const locks = new LockTable();
  locks.set(caller, 5, 1n, range(0, 9, "write"), false);
  const interrupt = new AbortController();
  const interrupted = locks.set({ ...caller, signal: interrupt.signal }, 5, 2n, range(0, 9, "write"), true);
  const patient = locks.set(caller, 5, 3n, range(0, 9, "write"), true);
  interrupt.abort();
  t.true(isDazzleError(await t.throwsAsync(async () => interrupted), "cancelled"));
  locks.drop(5, 1n);
  await patient;
  t.deepEqual(locks.conflict(5, 1n, range(0, 0, "read")), range(0, 9, "write"));
});

test("a wait that would never end is refused", (t) => {
  const locks = new LockTable();
  locks.set(caller, 5, 1n, range(0, 0, "write"), false);
  locks.set(caller, 6, 2n, range(0, 0, "write"), false);
  void locks.set(caller, 6, 1n, range(0, 0, "write"), true);
  t.true(
    isDazzleError(
      t.throws(() => locks.set(caller, 5, 2n, range(0, 0, "write"), true)),
      "deadlock",
    ),
  );
});
