import test from "ava";
import { MountSession } from "../src/mounts/mount-session.ts";

const LOOK_MS = 1_000;
const AWAKE = { sleptMs: 0, hears: true, awaits: false };

/** Looks at a mount that is awaited all the time, up to then. */
function watch(session: MountSession, fromMs: number, toMs: number): void {
  for (let nowMs = fromMs; nowMs <= toMs; nowMs += LOOK_MS) {
    session.hear(nowMs);
    session.watched(nowMs, { sleptMs: 0, hears: true, awaits: true });
  }
}

test("a mount that says what it holds in one slot after the other withholds nothing, one that goes on saying nothing does", (t) => {
  const session = new MountSession(1, 0);
  watch(session, 0, 50_000);
  session.claims();
  watch(session, 51_000, 100_000);
  t.false(session.withholdsClaims(100_000));
  watch(session, 101_000, 111_000);
  t.true(session.withholdsClaims(111_000));
});

test("a mount is silent only while its manager was awake, and could hear", (t) => {
  const session = new MountSession(1, 0);
  session.opened(undefined, 1_000);
  session.watched(2_000, AWAKE);
  session.watched(62_000, { ...AWAKE, sleptMs: 59_000 });
  t.is(62_000 - session.heardMs, 2_000);
  session.watched(70_000, { ...AWAKE, hears: false });
  t.is(70_000 - session.heardMs, 0);
  session.watched(73_000, AWAKE);
  t.is(73_000 - session.heardMs, 3_000);
});
