import { spawn } from "node:child_process";
import { once } from "node:events";
import test from "ava";
import { lineLogger, pidOf, processIdentity, realClock, realProcesses, useNative } from "../src/index.ts";

test("a process is gone when it has ended, and not while it runs", async (t) => {
  t.false(realProcesses.isGone(realProcesses.self));
  t.is(pidOf(realProcesses.self), process.pid);
  const child = spawn("sleep", ["60"]);
  const identity = processIdentity(child.pid as number) as string;
  t.false(realProcesses.isGone(identity));
  child.kill("SIGKILL");
  await once(child, "exit");
  t.true(realProcesses.isGone(identity));
});

test("an earlier boot's process and a reused number are gone; what can't be read is not certain", (t) => {
  const [boot, pid, started] = realProcesses.self.split(":");
  t.true(realProcesses.isGone(`${boot?.replace(/./, (digit) => (digit === "0" ? "1" : "0"))}:${pid}:${started}`));
  t.true(realProcesses.isGone(`${boot}:${pid}:${Number(started) - 1}`));
  t.false(realProcesses.isGone("nonsense"));
  t.false(realProcesses.isGone(""));
});

test("wall time grows with every call and stays beside Date.now", (t) => {
  let last = 0n;
  for (let call = 0; call < 10_000; call++) {
    const now = realClock.wallTimeNs();
    t.true(now > last);
    last = now;
  }
  t.true(Math.abs(Number(last / 1_000_000n) - Date.now()) < 1_000);
});

test.serial("the clock is the machine's own, with the addon and without", (t) => {
  const before = realClock.nowMs();
  t.true(realClock.nowMs() >= before && before > 0);
  useNative({ clockBoottimeMs: () => 12_345, punchHole: () => true, preadNowait: () => -1 });
  t.is(realClock.nowMs(), 12_345);
});

test("a happening is one line", (t) => {
  let text = "";
  const logger = lineLogger({ write: (line: string) => (text += line) }, "warning");
  logger("info", "not this");
  logger("warning", "two\nlines", { path: "/a b", count: 3, big: 5n, list: [1n] });
  t.regex(text, /^\d{4}-[^ ]+Z warning two\\nlines path="\/a b" count=3 big=5 list=\["1"\]\n$/);
});

test("a line with a reason is not written again at once, and others are", (t) => {
  const lines: string[] = [];
  const logger = lineLogger({ write: (line: string) => void lines.push(line.slice(25)) });
  for (const reason of ["silent", "silent", "refused"]) logger("info", "not yet", { log: 7, reason });
  logger("info", "not yet", { log: 8, reason: "silent" });
  for (let time = 0; time < 2; time++) logger("info", "done", { log: 7 });
  t.deepEqual(lines, [
    "info not yet log=7 reason=silent\n",
    "info not yet log=7 reason=refused\n",
    "info not yet log=8 reason=silent\n",
    "info done log=7\n",
    "info done log=7\n",
  ]);
});
