import { deferred, SLOTS } from "@dazzle/core";
import test from "ava";
import { Asks } from "../src/asks.ts";
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

/** All of one slot. */
function removedNodes(count: number): Map<number, Node> {
  const nodes = new Map<number, Node>();
  for (let ino = SLOTS; nodes.size < count; ino += SLOTS)
    nodes.set(ino, { ino, touched: true, removed: true, revoking: null, directory: null, inode: { nlink: 0 } } as unknown as Node);
  return nodes;
}

test("removed nodes are dropped with their tokens as far as that is applied, and nobody looks at those that come behind", async (t) => {
  const nodes = removedNodes(10_000);
  const [open, known] = [...nodes.values()] as [Node, Node];
  const revoked = nodes.get(5 * SLOTS) as Node;
  const opened = new Set([open.ino]);
  const references = new Map([[known.ino, 1]]);
  revoked.revoking = Promise.resolve();
  const asks = new Asks();
  const released: number[] = [];
  let looked = 0;
  let applied = 0;
  const eviction = new Eviction({
    nodes,
    kernel: { handles: { isOpen: (ino: number) => opened.has(ino) }, references } as unknown as KernelState,
    cache: {} as KernelCache,
    asks,
    releases: {
      add: (ino: number) => released.push(ino),
      isFull: false,
      again: () => {},
      send: () => [],
    } as unknown as Releases,
    settled: ({ ino }) => {
      looked++;
      return ino <= applied;
    },
  });
  for (const node of nodes.values()) eviction.dropRemoved(node);
  looked = 0;
  eviction.dropApplied();
  t.deepEqual(released, []);
  applied = 6 * SLOTS;
  await asks.ask(async (ask) => {
    eviction.dropApplied();
    t.deepEqual(released, [3 * SLOTS, 4 * SLOTS]);
    t.true(Asks.isVoid(ask, 4 * SLOTS, 1), "an answer that is on its way does not bring it back");
    t.false(Asks.isVoid(ask, 5 * SLOTS, 1));
  });
  t.true(looked < 40, `${looked} looks`);
  opened.clear();
  references.clear();
  revoked.revoking = null;
  for (const node of [open, known]) eviction.dropRemoved(node);
  applied = 10_000 * SLOTS;
  eviction.dropApplied();
  t.is(nodes.size, 0);
  t.is(new Set(released).size, 10_000);
});

test("where there are too many nodes, those of removed files go with their tokens", async (t) => {
  const nodes = removedNodes(NODES_MAX + 2);
  const released: number[] = [];
  const eviction = new Eviction({
    nodes,
    kernel: { handles: { isOpen: () => false }, references: new Map([...nodes.keys()].map((ino) => [ino, 1])) } as unknown as KernelState,
    cache: {} as KernelCache,
    asks: new Asks(),
    releases: { add: (ino: number) => released.push(ino), isFull: false } as unknown as Releases,
    settled: () => true,
  });
  for (const node of nodes.values()) node.touched = false;
  eviction.evict();
  t.deepEqual(released, [SLOTS, 2 * SLOTS]);
  t.is(nodes.size, NODES_MAX);
});
