import { deferred } from "@dazzle/core";
import test from "ava";
import type { Asks } from "../src/asks.ts";
import { Eviction } from "../src/eviction.ts";
import type { KernelState } from "../src/expulsion/kernel-state.ts";
import type { KernelCache } from "../src/kernel-cache.ts";
import type { Node } from "../src/node.ts";
import type { Releases } from "../src/releases.ts";

const NODES_MAX = 60_000;
const OPEN = 1;
const UNSETTLED = 2;
const TOUCHED = 3;
const REVOKED = 4;
const REFERRED = 5;
const STUCK = 6;
const USED = 7;

test("of nodes that nobody needs or touched those go that came first, and their tokens when the kernel has dropped what it knew", async (t) => {
  const nodes = new Map<number, Node>();
  for (let ino = 1; ino <= NODES_MAX + 4; ino++) {
    const node = { ino, touched: ino === TOUCHED, removed: false, revoking: null, directory: null, inode: { nlink: 1 } } as unknown as Node;
    nodes.set(ino, node);
  }
  (nodes.get(REVOKED) as { revoking: Promise<void> | null }).revoking = Promise.resolve();
  const released: number[] = [];
  const eviction = new Eviction({
    nodes,
    kernel: {
      handles: { isOpen: (ino: number) => ino === OPEN },
      references: new Map([REFERRED, STUCK, USED].map((ino) => [ino, 1])),
    } as unknown as KernelState,
    cache: {
      forget: async (ino: number) => {
        await new Promise((resolve) => setImmediate(resolve));
        if (ino === USED) (nodes.get(USED) as Node).touched = true;
        return ino !== STUCK;
      },
    } as unknown as KernelCache,
    asks: {} as Asks,
    releases: { add: (ino: number) => released.push(ino), isFull: false } as unknown as Releases,
    settled: ({ ino }) => ino !== UNSETTLED,
  });
  eviction.evict();
  for (const kept of [REFERRED, STUCK, USED]) t.true(nodes.has(kept), "until the kernel has dropped what it knew");
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  for (const kept of [OPEN, UNSETTLED, TOUCHED, REVOKED, STUCK, USED]) t.true(nodes.has(kept));
  for (const gone of [REFERRED, 8]) t.false(nodes.has(gone));
  t.deepEqual(
    released.sort((one, other) => one - other),
    [REFERRED, 8],
  );
  t.false(nodes.get(TOUCHED)?.touched);
  eviction.evict();
  t.is(nodes.size, NODES_MAX);
});

test("a node that is used while the kernel drops what it knew of it stays, though the hand comes by again", async (t) => {
  const nodes = new Map<number, Node>();
  for (let ino = 1; ino <= NODES_MAX + 2; ino++)
    nodes.set(ino, { ino, touched: false, removed: false, revoking: null, directory: null, inode: { nlink: 1 } } as unknown as Node);
  const used = nodes.get(REFERRED) as Node;
  const dropped = deferred<boolean>();
  let told = 0;
  const eviction = new Eviction({
    nodes,
    kernel: { handles: { isOpen: (ino: number) => ino !== REFERRED }, references: new Map([[REFERRED, 1]]) } as unknown as KernelState,
    cache: {
      forget: () => {
        told++;
        return dropped.promise;
      },
    } as unknown as KernelCache,
    asks: {} as Asks,
    releases: { add: (ino: number) => t.fail(`the token of ${ino} is given back`), isFull: false } as unknown as Releases,
    settled: () => true,
  });
  eviction.evict();
  t.is(told, 1);
  used.touched = true;
  // So often that it has gone round, whatever it looks at in a call.
  for (let calls = 0; calls < (2 * NODES_MAX) / 64 + 2; calls++) eviction.evict();
  dropped.resolve(true);
  await new Promise((resolve) => setImmediate(resolve));
  t.true(nodes.has(REFERRED));
  t.is(told, 1);
});
