import { type Caller, isDazzleError, LOCK_END, type LockRange } from "@dazzle/core";
import type { ManagerStatus } from "@dazzle/manager";
import { SeededRandom, SimCluster, type SimMount, SMALL_LIMITS, World } from "@dazzle/sim";
import test from "ava";

const ROOT = 1;
const O_RDWR = 2;
const LIMIT_MS = 120_000;
const CALLER: Caller = { uid: 0, gid: 0, pid: 1 };
const BYTES = 10;

function range(type: LockRange["type"], start = 0, end = LOCK_END): LockRange {
  return { start, end, type, pid: 1 };
}

/** A cluster with two mounts that have one file open. */
async function started(seed: number, managers = 1, keepers = 1) {
  const world = new World(seed);
  const cluster = new SimCluster(world, { limits: SMALL_LIMITS, nodes: 3, parity: 1, managers, keepers });
  await cluster.startAll();
  const mounts = [await cluster.mount(), await cluster.mount()] as const;
  const run = <T>(action: () => T | Promise<T>) => world.run((async () => action())(), LIMIT_MS) as Promise<T>;
  const created = await run(() => mounts[0].client.fileSystem.create(CALLER, ROOT, "f", 0o644, O_RDWR));
  const { ino } = created.entry.attributes;
  await run(() => mounts[1].client.fileSystem.lookup(CALLER, ROOT, "f"));
  const handle = (await run(() => mounts[1].client.fileSystem.open(CALLER, ino, O_RDWR))).handle;
  const handles = [created.file.handle, handle];
  const set = async (mount: number, owner: bigint, wanted: LockRange, wait = false, signal?: AbortSignal) => {
    const caller = signal === undefined ? CALLER : { ...CALLER, signal };
    const { fileSystem } = (mounts[mount] as SimMount).client;
    return fileSystem.setLock(caller, ino, handles[mount] as number, owner, wanted, wait, false);
  };
  const get = (mount: number, owner: bigint, wanted: LockRange) =>
    run(() => (mounts[mount] as SimMount).client.fileSystem.getLock(CALLER, ino, owner, wanted));
  const check = () => run(() => cluster.node(1).checkInvariants());
  const recalls = () => (cluster.node(1).status().manager as ManagerStatus).counters.lockRecalls;
  return { world, cluster, mounts, ino, handles, run, set, get, check, recalls };
}

/** What an attempt comes to: its errno, or nothing. */
async function outcome(attempt: Promise<void>): Promise<string> {
  try {
    await attempt;
    return "";
  } catch (error) {
    if (!isDazzleError(error)) throw error;
    return error.errno;
  }
}

test("a lock of one mount is in the way of the other's, waits, and goes over when it is dropped", async (t) => {
  const { run, set, get, mounts, ino } = await started(1);
  await run(() => set(0, 1n, range("write", 0, 9)));
  t.is(await run(() => outcome(set(1, 1n, range("read", 9, 20)))), "EAGAIN");
  t.deepEqual(await get(1, 1n, range("write", 5, 20)), { start: 0, end: 9, type: "write", pid: 0 });
  let granted = false;
  const waiting = set(1, 1n, range("read", 9, 20), true).then(() => {
    granted = true;
  });
  await run(() => set(0, 1n, range("unlock", 0, 4)));
  t.false(granted);
  await run(() => mounts[0].client.fileSystem.flush(CALLER, ino, 1, 1n));
  await run(() => waiting);
  t.is(await run(() => outcome(set(0, 1n, range("write", 20, 20)))), "EAGAIN");
});

test("an interrupted wait leaves nothing held, also where the grant crosses the interruption", async (t) => {
  for (let seed = 0; seed < 30; seed++) {
    const { world, run, set, check } = await started(100 + seed);
    const random = new SeededRandom(seed);
    await run(() => set(0, 1n, range("write")));
    const interrupt = new AbortController();
    const waiting = outcome(set(1, 2n, range("write"), true, interrupt.signal));
    await world.advance(random.below(3));
    const unlocked = set(0, 1n, range("unlock"));
    await world.advance(random.below(3));
    interrupt.abort();
    await run(() => unlocked);
    const ended = await run(() => waiting);
    t.true(ended === "EINTR" || ended === "", ended);
    await world.advance(2_000);
    t.is(await run(() => outcome(set(0, 1n, range("write")))), ended === "" ? "EAGAIN" : "", `seed=${seed}`);
    await check();
  }
});

test("two mounts that wait for each other: the second is told", async (t) => {
  const { run, set } = await started(2);
  await run(() => set(0, 1n, range("write", 0, 0)));
  await run(() => set(1, 2n, range("write", 1, 1)));
  const first = set(0, 1n, range("write", 1, 1), true);
  await run(() => outcome(set(1, 9n, range("read", 5, 5))));
  t.is(await run(() => outcome(set(1, 2n, range("write", 0, 0), true))), "EDEADLK");
  await run(() => set(1, 2n, range("unlock")));
  await run(() => first);
  t.pass();
});

test("while one mount locks a file alone nothing is sent, until another asks", async (t) => {
  const { run, set, mounts, ino, handles, check, recalls } = await started(3);
  await run(() => set(0, 1n, range("write", 0, 0)));
  let synchronous = 0;
  for (let round = 0; round < 50; round++) {
    const wanted = range(round % 2 === 0 ? "read" : "write");
    const answer = mounts[0].client.fileSystem.setLock(CALLER, ino, handles[0] as number, 1n, wanted, false, false);
    if (answer === undefined) synchronous++;
  }
  t.is(synchronous, 50);
  t.is(await run(() => outcome(set(1, 1n, range("write", 9, 9)))), "EAGAIN");
  t.is(recalls(), 1);
  await check();
});

for (const [holder, waiter] of [
  [0, 1],
  [1, 0],
] as const) {
  test(`locks and waits outlive the manager: those held still are, those waited for come, holder=${holder}`, async (t) => {
    const { world, cluster, run, set } = await started(4 + holder);
    await run(() => set(holder, 1n, range("write", 0, 4)));
    await run(() => set(waiter, 2n, range("write", 5, 9)));
    let granted = false;
    void set(waiter, 2n, range("write", 0, 0), true).then(() => {
      granted = true;
    });
    await world.advance(100);
    cluster.kill(1);
    await world.advance(500);
    await cluster.startAll();
    t.is(await run(() => outcome(set(waiter, 3n, range("read", 4, 4)))), "EAGAIN");
    t.is(await run(() => outcome(set(holder, 3n, range("read", 5, 5)))), "EAGAIN");
    await world.advance(5_000);
    t.false(granted, "it waits for what the other mount holds");
    await run(() => set(holder, 1n, range("unlock")));
    await world.run(() => granted, LIMIT_MS);
    t.true(granted);
  });
}

test("what was delegated when the manager died is held", async (t) => {
  const { world, cluster, run, set } = await started(8);
  await run(() => set(0, 1n, range("write", 0, 4)));
  cluster.kill(1);
  await world.advance(500);
  await cluster.startAll();
  t.is(await run(() => outcome(set(1, 3n, range("read", 4, 4)))), "EAGAIN");
  t.is(await run(() => outcome(set(0, 3n, range("read", 5, 5)))), "");
});

for (const queued of [false, true]) {
  const when = queued ? "behind a request that fails" : "when its lease is over";
  test(`what its owner gives back while the manager is away is free when that one is back, ${when}`, async (t) => {
    const { world, cluster, mounts, ino, handles, run, set, check } = await started(10 + Number(queued));
    await run(() => set(0, 1n, range("write", 0, 4)));
    if (queued) await run(() => outcome(set(1, 3n, range("write", 9, 9))));
    cluster.kill(1);
    if (!queued) await world.advance(SMALL_LIMITS.mountLeaseMs);
    const asked = queued ? outcome(set(0, 2n, range("write", 5, 5))) : Promise.resolve("EIO");
    const flushed = mounts[0].client.fileSystem.flush(CALLER, ino, handles[0] as number, 1n);
    await run(() => flushed);
    t.is(await run(() => asked), "EIO");
    await cluster.startAll();
    t.is(await run(() => outcome(set(1, 2n, range("write", 0, 5)))), "");
    await check();
  });
}

test("what could not be given back while its manager was there, and answered nothing, is free soon after it answers again", async (t) => {
  const { world, cluster, run, set, check } = await started(12, 1, 3);
  await world.run(() => cluster.node(1).map.current.keepers.length === 3, LIMIT_MS);
  await run(() => set(0, 1n, range("write", 0, 4)));
  // From then on the manager decides: it asks nobody what is held.
  await run(() => outcome(set(1, 3n, range("write", 9, 9))));
  world.network.partition(["node1"], ["node2", "node3"]);
  await world.advance(SMALL_LIMITS.managerLeaseMs);
  t.is(await run(() => outcome(set(0, 1n, range("unlock")))), "EIO");
  await world.advance(40_000);
  world.network.heal();
  const free = async () => {
    while ((await outcome(set(1, 2n, range("write", 0, 5)))) !== "") await new Promise<void>((resolve) => world.after(500, resolve));
  };
  await world.run(free(), LIMIT_MS);
  await check();
  t.pass();
});

test("a mount that dies loses its locks, and whoever waits gets them", async (t) => {
  for (const delegated of [true, false]) {
    const { world, run, set, mounts } = await started(delegated ? 6 : 7);
    await run(() => set(0, 1n, range("write", 0, 4)));
    if (!delegated) await run(() => set(1, 2n, range("write", 5, 9)));
    mounts[0].instance.kill();
    await world.run(set(1, 2n, range("write", 0, 0), true), LIMIT_MS);
    t.is(await run(() => outcome(set(1, 2n, range("write")))), "");
  }
});

for (const polls of [false, true]) {
  test(`a lock is free a lease and 2 s after its holder's machine vanished, for who ${polls ? "asks again and again" : "waits"}`, async (t) => {
    const { world, cluster, mounts, run, set } = await started(9);
    await run(() => set(0, 1n, range("write", 0, 4)));
    await run(() => set(1, 2n, range("write", 9, 9)));
    const refused = outcome(set(0, 3n, range("write", 9, 9), true));
    const rest = [...cluster.numbers.map((number) => `node${number}`), mounts[1].instance.name];
    world.network.partition([mounts[0].instance.name], rest);
    const vanishedMs = world.nowMs;
    const pause = () => new Promise<void>((resolve) => world.after(200, resolve));
    const poll = async () => {
      while ((await outcome(set(1, 2n, range("write", 0, 4)))) !== "") await pause();
    };
    await world.run(polls ? poll() : set(1, 2n, range("write", 0, 4), true), LIMIT_MS);
    const tookMs = world.nowMs - vanishedMs;
    t.true(tookMs <= SMALL_LIMITS.mountLeaseMs + 2_000, `${tookMs} ms`);
    world.network.heal();
    t.is(await run(() => refused), "EIO");
  });
}

for (const seed of [21, 22, 23]) {
  test(`random locks of two mounts over a manager that dies agree with locks kept byte by byte, seed=${seed}`, async (t) => {
    const { world, cluster, run, set, check } = await started(seed);
    const random = world.random.fork("locks");
    const held = new Map<string, LockRange["type"]>();
    const owners = [1n, 2n];
    for (let step = 0; step < 150; step++) {
      if (random.chance(0.03)) {
        cluster.kill(1);
        await world.advance(random.below(300));
        await cluster.startAll();
      }
      // Runs of one mount's requests, so that the file is delegated now and then.
      const mount = Math.floor(step / 25) % 2 === 0 && random.chance(0.9) ? 0 : random.below(2);
      const owner = random.pick(owners);
      const type = random.pick(["read", "write", "unlock"] as const);
      const start = random.below(BYTES);
      const last = start + random.below(BYTES - start);
      const free = Array.from({ length: last - start + 1 }, (_, index) => start + index).every((byte) =>
        [0, 1].every((other) =>
          owners.every((theirs) => {
            const found = held.get(`${other}/${theirs}/${byte}`);
            const own = other === mount && theirs === owner;
            return own || found === undefined || type === "unlock" || (found === "read" && type === "read");
          }),
        ),
      );
      t.is(await run(() => outcome(set(mount, owner, range(type, start, last)))), free ? "" : "EAGAIN", `step=${step}`);
      for (let byte = start; free && byte <= last; byte++) {
        if (type === "unlock") held.delete(`${mount}/${owner}/${byte}`);
        else held.set(`${mount}/${owner}/${byte}`, type);
      }
      await check();
    }
  });
}

interface Holder {
  readonly mount: number;
  readonly owner: bigint;
  readonly wanted: LockRange;
}

for (const [seed, managers] of [
  [31, 1],
  [32, 1],
  [33, 1],
  [34, 3],
  [35, 3],
  [36, 3],
] as const) {
  test(`no two processes are told that they hold what excludes, whatever is interrupted and killed, seed=${seed} managers=${managers}`, async (t) => {
    const { world, cluster, mounts, run, set, check } = await started(seed, managers);
    const holders = new Set<Holder>();
    const counts = new Map<string, number>();
    const pause = (delayMs: number) => new Promise<void>((resolve) => world.after(delayMs, resolve));
    const work = async (mount: number, owner: bigint) => {
      const random = world.random.fork(`${mount}/${owner}`);
      for (let turn = 0; turn < 25; turn++) {
        const start = random.below(BYTES);
        const wanted = range(random.pick(["read", "write"] as const), start, start + random.below(3));
        const interrupt = new AbortController();
        if (random.chance(0.5)) world.after(random.below(100), () => interrupt.abort());
        const ended = await outcome(set(mount, owner, wanted, random.chance(0.8), interrupt.signal));
        counts.set(ended, (counts.get(ended) ?? 0) + 1);
        if (ended !== "") continue;
        const holder = { mount, owner, wanted };
        for (const other of holders) {
          const apart = other.wanted.end < wanted.start || wanted.end < other.wanted.start;
          t.true(apart || (other.wanted.type === "read" && wanted.type === "read"), `seed=${seed} turn=${turn} ${mount}/${owner}`);
        }
        holders.add(holder);
        await pause(random.below(40));
        holders.delete(holder);
        await set(mount, owner, range("unlock"));
      }
    };
    const workers = [0, 1].flatMap((mount) => [1n, 2n, 3n].map((owner) => work(mount, owner)));
    let over = false;
    const all = Promise.all(workers).then(() => {
      over = true;
    });
    for (let round = 0; round < 3 && !over; round++) {
      await world.advance(world.random.below(700));
      // The file's manager, wherever its slot went, now and then.
      cluster.kill(1 + world.random.below(managers));
      await world.advance(world.random.below(managers === 1 ? 300 : 10_000));
      await cluster.startAll();
    }
    await world.run(all, LIMIT_MS);
    for (const mount of mounts) mount.client.checkInvariants();
    await check();
    t.is(await run(() => outcome(set(0, 9n, range("write")))), "", [...counts].join());
    for (const ended of ["", "EINTR", "EAGAIN"]) t.true((counts.get(ended) ?? 0) > 0, [...counts].join());
  });
}
