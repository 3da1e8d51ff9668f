import { ALL_SLOTS, type Clock, type Deferred, deferred, LIMITS } from "@dazzle/core";
import test from "ava";
import type { Journal } from "../src/journal.ts";
import type { Shard } from "../src/shard/shard.ts";
import { ShardHost } from "../src/shard/shard-host.ts";

const MOUNT = 9;

/** A log that becomes stable when it is told to. */
class SlowJournal {
  appendedSequence = 0;
  stableSequence = 0;
  readonly log = 7;
  #settling: Deferred<void>[] = [];
  #stable = () => {};

  async append(): Promise<void> {
    this.appendedSequence++;
  }

  settle(): Promise<void> {
    const settling = deferred();
    this.#settling.push(settling);
    return settling.promise;
  }

  becomeStable(): void {
    this.stableSequence = this.appendedSequence;
    this.#stable();
    for (const { resolve } of this.#settling) resolve();
    this.#settling = [];
  }

  onStable(listener: () => void): void {
    this.#stable = listener;
  }
}

function hostWith(...holds: readonly number[]) {
  const journal = new SlowJournal();
  const host = new ShardHost({
    ...{ journal: journal as unknown as Journal, clock: { nowMs: () => 0 } as Clock, logger: () => {}, limits: LIMITS },
    events: { full: () => {}, room: () => undefined, failed: () => {} },
  });
  host.add({ slot: 3, term: 5, holds: new Set(holds), applied: new Map(), condemned: new Set() } as unknown as Shard);
  return { journal, host };
}

/** Whether it has resolved, as far as nothing else comes. */
async function isOver(promise: Promise<void>): Promise<boolean> {
  let over = false;
  void promise.then(() => {
    over = true;
  });
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  return over;
}

test("that a mount may hold something is stable before it may, whoever asks", async (t) => {
  const { journal, host } = hostWith();
  const first = host.hold(MOUNT);
  t.false(await isOver(first));
  const second = host.hold(MOUNT);
  t.false(await isOver(second));
  t.is(journal.appendedSequence, 1);
  journal.becomeStable();
  await Promise.all([first, second]);
});

test("a mount of which a slot's log tells it already waits for nothing", async (t) => {
  const { journal, host } = hostWith(MOUNT);
  await journal.append();
  const busy = deferred();
  const task = host.between(() => busy.promise);
  t.true(await isOver(host.hold(MOUNT)));
  t.false(await isOver(host.hold(MOUNT + 1)));
  busy.resolve();
  await task;
});

test("a slot that was about to leave, and stays, tells of nothing as stable that is not", async (t) => {
  const { journal, host } = hostWith();
  const shard = host.shard(3);
  const progress = host.progress(MOUNT);
  await journal.append();
  progress.wasLogged(3, 0, 1, journal.appendedSequence);
  progress.wasApplied(1, ALL_SLOTS);
  shard.applied.set(MOUNT, 1);
  await host.between(() => host.remove(3));
  t.true(progress.unstable);
  t.deepEqual(progress.trim(1), []);
  await host.between(() => host.add(shard));
  t.is(host.stableIn(shard, MOUNT), 0);
  journal.becomeStable();
  t.is(host.stableIn(shard, MOUNT), 1);
  t.false(progress.unstable);
});
