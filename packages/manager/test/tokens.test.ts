import { AssertionError, CLOCK_DRIFT, deferred, LIMITS, overlaps, type RegionRange, type RpcPeer, WHOLE_FILE } from "@dazzle/core";
import { SeededRandom, World } from "@dazzle/sim";
import test from "ava";
import { TokenTable } from "../src/tokens/token-table.ts";
import { Cluster, MEMBER, type TestMount } from "./support/cluster.ts";
import { ino, inodeOf } from "./support/transactions.ts";

test("a token is exclusive while nobody else holds one, and shared after", (t) => {
  const table = new TokenTable();
  t.deepEqual(table.conflicts(1, 100, false), []);
  t.true(table.grant(1, 100, false));
  t.deepEqual(table.conflicts(2, 100, false), [{ mount: 1, keepShared: true, wanted: WHOLE_FILE }]);
  table.revoked(100, table.conflicts(2, 100, false));
  t.false(table.grant(2, 100, false));
  t.is(table.held(1, 100), "shared");
  t.deepEqual(table.conflicts(1, 100, true), [{ mount: 2, keepShared: false, wanted: WHOLE_FILE }]);
  table.revoked(100, table.conflicts(1, 100, true));
  t.true(table.grant(1, 100, true));
  t.is(table.held(2, 100), undefined);
  table.release(1, 100);
  t.is(table.size, 0);
});

test("a leased number is its mount's alone until the table knows better, then never by the lease again", (t) => {
  const table = new TokenTable();
  table.lease(1, 128, 10);
  t.is(table.held(1, 128 + 64 * 9), "exclusive");
  t.is(table.held(1, 128 + 64 * 10), undefined);
  t.is(table.held(1, 129), undefined);
  t.deepEqual(table.conflicts(2, 192, true), [{ mount: 1, keepShared: false, wanted: WHOLE_FILE }]);
  table.revoked(192, table.conflicts(2, 192, true));
  t.true(table.grant(2, 192, true));
  table.release(2, 192);
  t.deepEqual(table.conflicts(2, 192, true), []);
  table.release(1, 256);
  t.deepEqual(table.conflicts(2, 256, true), []);
  table.dropMount(1);
  t.deepEqual(table.conflicts(2, 128, true), []);
  table.checkInvariants();
});

test("what mounts claim of another manager's time is theirs, and a claim that begins anew takes the place of the one before", (t) => {
  const table = new TokenTable();
  table.claim(1, 100, true);
  table.claim(2, 164, false);
  table.claim(3, 164, false);
  table.lease(1, 1252, 5);
  // Claims come in any order.
  table.lease(2, 228, 10);
  t.deepEqual(table.conflicts(2, 100, false), [{ mount: 1, keepShared: true, wanted: WHOLE_FILE }]);
  t.deepEqual(table.conflicts(2, 164, true), [{ mount: 3, keepShared: false, wanted: WHOLE_FILE }]);
  t.deepEqual(table.conflicts(1, 228 + 64 * 9, true), [{ mount: 2, keepShared: false, wanted: WHOLE_FILE }]);
  t.throws(() => table.claim(2, 100, true), { instanceOf: AssertionError });
  table.openers.add(2, 292);
  table.dropClaims(2, 36);
  t.deepEqual(table.conflicts(1, 164, true), [{ mount: 3, keepShared: false, wanted: WHOLE_FILE }]);
  t.deepEqual(
    [table.held(3, 164), table.held(2, 164), table.held(2, 228), table.held(1, 1252)],
    ["shared", undefined, undefined, "exclusive"],
  );
  t.false(table.openers.has(292));
  table.lease(2, 292, 9);
  table.checkInvariants();
});

test("writers of different parts of a file hold a range each, as wide as nobody else has any of it", (t) => {
  const table = new TokenTable();
  const ranges = () => [...(table.split(100) ?? [])].map(([mount, { from, to }]) => [mount, from, to]);
  const END = WHOLE_FILE.to;
  const wanted = { from: 10, to: 11 };
  t.deepEqual(table.grantRange(1, 100, wanted), WHOLE_FILE);
  t.is(table.held(1, 100), "exclusive");
  // The other one writes above, and keeps what lies there.
  t.deepEqual(table.conflicts(2, 100, true, { from: 0, to: 2 }), [{ mount: 1, keepShared: false, wanted: { from: 0, to: 2 } }]);
  table.revoked(100, table.conflicts(2, 100, true, { from: 0, to: 2 }), [{ from: 10, to: END }]);
  t.deepEqual(table.grantRange(2, 100, { from: 0, to: 2 }), { from: 0, to: 10 });
  t.deepEqual([table.held(1, 100), table.held(2, 100), table.held(3, 100)], ["range", "range", undefined]);
  // A third one between them takes from one of them.
  t.deepEqual(table.conflicts(3, 100, true, { from: 5, to: 6 }), [{ mount: 2, keepShared: false, wanted: { from: 5, to: 6 } }]);
  table.revoked(100, table.conflicts(3, 100, true, { from: 5, to: 6 }), [{ from: 0, to: 5 }]);
  t.deepEqual(table.grantRange(3, 100, { from: 5, to: 6 }), { from: 5, to: 10 });
  t.deepEqual(ranges(), [
    [1, 10, END],
    [2, 0, 5],
    [3, 5, 10],
  ]);
  table.checkInvariants();
  // Who has one, and wants anything else, gives it back first.
  t.deepEqual(table.conflicts(2, 100, true, { from: 7, to: 8 }), [
    { mount: 2, keepShared: false, wanted: WHOLE_FILE },
    { mount: 3, keepShared: false, wanted: { from: 7, to: 8 } },
  ]);
  // A look at all of it ends the parts.
  const all = [1, 2, 3].map((mount) => ({ mount, keepShared: false, wanted: WHOLE_FILE }));
  t.deepEqual(table.conflicts(2, 100, false), all);
  table.revoked(100, table.conflicts(4, 100, false));
  t.true(table.grant(4, 100, false));
  t.is(table.split(100), undefined);
});

test("a mount that keeps what another one wanted is refused", (t) => {
  const table = new TokenTable();
  table.grant(1, 100, true);
  const wanted = { from: 3, to: 4 };
  t.throws(() => table.revoked(100, table.conflicts(2, 100, true, wanted), [{ from: 3, to: 9 }]), { instanceOf: AssertionError });
});

test("claimed ranges are apart, and go with their mount", (t) => {
  const table = new TokenTable();
  table.claimRange(1, 100, { from: 0, to: 4 });
  table.claimRange(2, 100, { from: 4, to: 9 });
  t.throws(() => table.claimRange(3, 100, { from: 8, to: 10 }), { instanceOf: AssertionError });
  t.throws(() => table.claim(3, 100, false), { instanceOf: AssertionError });
  table.dropClaims(1, 36);
  t.deepEqual(table.conflicts(3, 100, true, { from: 0, to: 1 }), []);
  t.deepEqual(table.grantRange(3, 100, { from: 0, to: 1 }), { from: 0, to: 4 });
  table.dropMount(2);
  table.release(3, 100);
  t.false(table.isHeld(100));
  table.checkInvariants();
});

test("a grant over a conflict is refused", (t) => {
  const table = new TokenTable();
  table.grant(1, 100, true);
  t.throws(() => table.grant(2, 100, false), { instanceOf: AssertionError });
});

test("random acquiring and releasing never leaves an exclusive token beside another", (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = new SeededRandom(`tokens ${seed}`);
    const table = new TokenTable();
    table.lease(1, 64, 20);
    for (let step = 0; step < 500; step++) {
      const mount = 1 + random.below(4);
      const number = 64 * (1 + random.below(24));
      switch (random.below(6)) {
        case 2:
        case 3: {
          const from = random.below(8);
          const wanted = { from, to: from + 1 + random.below(3) };
          // Each keeps what lies above.
          const conflicts = table.conflicts(mount, number, true, wanted);
          const had = (other: number): RegionRange => table.split(number)?.get(other) ?? WHOLE_FILE;
          const kept = conflicts.map((conflict) => ({ from: conflict.wanted.to, to: had(conflict.mount).to }));
          table.revoked(number, conflicts, kept);
          const range = table.grantRange(mount, number, wanted);
          t.true(range.from <= wanted.from && wanted.to <= range.to, `seed ${seed} step ${step}`);
          for (const [other, theirs] of table.split(number) ?? []) t.true(other === mount || !overlaps(theirs, range));
          break;
        }
        case 0:
          table.release(mount, number);
          break;
        case 1:
          if (random.below(20) === 0) table.dropMount(mount);
          break;
        default: {
          const exclusive = random.below(2) === 0;
          table.revoked(number, table.conflicts(mount, number, exclusive));
          table.grant(mount, number, exclusive);
          const held = [1, 2, 3, 4].map((other) => table.held(other, number)).filter((kind) => kind !== undefined);
          t.true(!held.includes("exclusive") || held.length === 1, `seed ${seed} step ${step}`);
        }
      }
      table.checkInvariants();
    }
  }
});

test("what a mount did under a token is applied and stable before another one gets it", async (t) => {
  const world = new World(2);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const writer = await world.run(cluster.mount("writer"));
  const reader = await world.run(cluster.mount("reader"));
  const { reply } = await world.run(writer.call("numbers", { slot: 5, count: 1 }));
  const file = reply.first;
  await world.run(writer.change([{ kind: "putInode", ino: ino(file), inode: inodeOf(file, { size: 1 }) }]));
  // Logged by the writer, and not shipped: it ships when it is asked for the token.
  await world.run(writer.write([{ kind: "putInode", ino: ino(file), inode: inodeOf(file, { size: 2 }) }]));
  writer.onRevoke = () => writer.ship();
  const { reply: granted, tail } = await world.run(reader.call("acquire", { ino: file, exclusive: false }));
  t.false(granted.exclusive);
  t.is(Buffer.concat(tail).readUInt32LE(32), 2);
  t.deepEqual(writer.revoked, [{ ino: file, keepShared: true }]);
  const progress = cluster.manager.parts?.host.progress(writer.log);
  t.is(progress?.stable, writer.lastShipped);
  // A token given back with changes that are not stable: the next one waits for them.
  await world.run(writer.call("acquire", { ino: file, exclusive: true }));
  await world.run(writer.change([{ kind: "putInode", ino: ino(file), inode: inodeOf(file, { size: 3 }) }]));
  t.true((progress?.stable as number) < writer.lastShipped);
  await world.run(writer.call("release", { inos: [file] }));
  t.true(await world.run(reader.acquire(file, true)));
  t.is(progress?.stable, writer.lastShipped);
});

/** Two mounts, of which one holds a file. */
async function fileOfWriter(seed: number) {
  const world = new World(seed);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const writer = await world.run(cluster.mount("writer"));
  const reader = await world.run(cluster.mount("reader"));
  const { reply } = await world.run(writer.call("numbers", { slot: 5, count: 1 }));
  await world.run(writer.change([{ kind: "putInode", ino: ino(reply.first), inode: inodeOf(reply.first) }]));
  return { world, cluster, writer, reader, file: reply.first };
}

test("who asks for a token and does not wait until its holder gives it back is passed over", async (t) => {
  const { world, cluster, writer, reader, file } = await fileOfWriter(12);
  const third = await world.run(cluster.mount("third"));
  const released = deferred();
  writer.onRevoke = () => released.promise;
  const ending = new AbortController();
  const asked = { mount: reader.log, ino: file, exclusive: true };
  const left = reader.peers.call(MEMBER, "acquire", asked, { signal: ending.signal });
  await world.run(() => writer.revoked.length === 1);
  const acquired = third.acquire(file, true);
  await world.advance(100);
  ending.abort();
  await t.throwsAsync(world.run(left), { code: "cancelled" });
  await world.run(() => writer.revoked.length === 2);
  released.resolve();
  t.true(await world.run(acquired));
  t.deepEqual(reader.revoked, []);
  t.deepEqual(
    [writer, reader, third].map(({ log }) => cluster.manager.parts.tokens.held(log, file)),
    [undefined, undefined, "exclusive"],
  );
  await world.run(cluster.checkInvariants());
});

test("a manager that starts anew asks the mounts of before before it grants to others", async (t) => {
  const { world, cluster, writer, reader, file } = await fileOfWriter(3);
  await world.run(cluster.restart());
  await world.run(Promise.all([writer.open(), reader.open()]));
  await world.run(writer.ship());
  await world.run(cluster.manager.opened);
  await world.run(reader.acquire(file));
  t.deepEqual(writer.revoked, [{ ino: file, keepShared: true }]);
});

test("an opening that comes late, on a connection that has ended, costs a mount that renews no revoke", async (t) => {
  const { world, cluster, writer, reader, file } = await fileOfWriter(11);
  const ended = { closed: true, onClose: () => {} } as unknown as RpcPeer;
  await world.run(cluster.manager.parts.mounts.open(writer.log, ended));
  await world.run(writer.call("renew", { trimmedTo: 0, settle: false }));
  await world.run(reader.acquire(file));
  t.deepEqual(writer.revoked, [{ ino: file, keepShared: true }]);
});

/** The mount's lease is renewed every two seconds. */
function setRenewing(world: World, mount: TestMount): { stop(): void } {
  let on = true;
  const renew = () => {
    if (!on) return;
    mount.call("renew", { trimmedTo: 0, settle: false }).catch(() => {});
    world.after(2_000, renew);
  };
  renew();
  return {
    stop: () => {
      on = false;
    },
  };
}

test("a silent mount that somebody waits for is expelled; its tokens are free when its lease has ended, its stable changes are kept", async (t) => {
  const world = new World(4);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const silent = await world.run(cluster.mount("silent"));
  const other = await world.run(cluster.mount("other"));
  const { reply } = await world.run(silent.call("numbers", { slot: 5, count: 1 }));
  await world.run(silent.change([{ kind: "putInode", ino: ino(reply.first), inode: inodeOf(reply.first, { size: 1 }) }]));
  await world.run(silent.write([{ kind: "putInode", ino: ino(reply.first), inode: inodeOf(reply.first, { size: 2 }) }]));
  silent.onRevoke = () => new Promise(() => {});
  await world.run(silent.call("renew", { trimmedTo: 0, settle: false }));
  const renewedMs = world.nowMs;
  const acquiring = other.call("acquire", { ino: reply.first, exclusive: true });
  const renewing = setRenewing(world, other);
  await world.run(() => silent.state === "ended", LIMITS.mountLeaseMs);
  const { tail } = await world.run(acquiring);
  renewing.stop();
  t.is(Buffer.concat(tail).readUInt32LE(32), 2);
  await world.run(() => silent.state === "closed", 5_000);
  // What the network took is not known here.
  t.true(world.nowMs - renewedMs > LIMITS.mountLeaseMs * (1 + CLOCK_DRIFT) - 10);
  await t.throwsAsync(world.run(silent.call("acquire", { ino: reply.first, exclusive: false })), { code: "expelled" });
  await t.throwsAsync(world.run(silent.shipOne(9, new Map([[5, 0]]), Buffer.alloc(0))), { code: "expelled" });
});

test("a silent mount that nobody waits for stays three times as long", async (t) => {
  const world = new World(7);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const silent = await world.run(cluster.mount("silent"));
  await world.run(silent.acquire(1, true));
  await world.advance(2 * LIMITS.mountLeaseMs);
  t.is(silent.state, "live");
  await world.run(silent.call("renew", { trimmedTo: 0, settle: false }));
  t.true(await world.run(silent.acquire(1, true)));
  await world.advance(LIMITS.mountAbandonedMs + 2 * LIMITS.mountLeaseMs);
  // A closed log without segments leaves the map.
  t.is(silent.state ?? "closed", "closed");
});

test("a mount whose process is gone frees its tokens at once", async (t) => {
  const world = new World(5);
  const cluster = new Cluster(world);
  await world.run(cluster.start());
  const killed = await world.run(cluster.mount("killed"));
  const other = await world.run(cluster.mount("other"));
  await world.run(killed.acquire(1, true));
  killed.kill();
  const started = world.nowMs;
  t.true(await world.run(other.acquire(1, true)));
  t.true(world.nowMs - started < 2_000);
});
