import type { RpcPeer } from "@dazzle/core";
import { NO_SLOTS } from "@dazzle/core";
import test from "ava";
import { SlotQueue } from "../src/slot-queue.ts";

function queueOf(...sequences: number[]): SlotQueue {
  const queue = new SlotQueue(3);
  for (const sequence of sequences) {
    const shipment = { sequence, group: 1, groupVersion: 1, touched: NO_SLOTS, transaction: Buffer.alloc(0) };
    queue.push(shipment, 0, 0);
  }
  return queue;
}

const [first, second] = [{ closed: false }, { closed: false }] as unknown as [RpcPeer, RpcPeer];

test("what one manager had applied the next one must have, too, before it may do without this mount's tokens; what comes behind need not be there", (t) => {
  const queue = queueOf(1, 2, 3, 4);
  queue.attach(first, 1, 0, 0);
  t.is(queue.freedTo, 0);
  queue.learn(3, 1);
  queue.attach(second, 2, 1, 1);
  t.is(queue.freedTo, 3);
  t.not(queue.whenApplied(queue.freedTo), undefined);
  queue.learn(3, 1);
  t.is(queue.whenApplied(queue.freedTo), undefined);
});

test("while a slot's manager must be asked how far the slot is, no more than what was stable counts as applied", async (t) => {
  const queue = queueOf(1, 2, 3, 4);
  queue.attach(first, 1, 4, 1);
  queue.detach();
  t.is(queue.applied, 1);
  const waiting = queue.whenApplied(4);
  queue.attach(second, 2, 2, 2);
  let over = false;
  const waited = waiting?.then(() => {
    over = true;
  });
  await Promise.resolve();
  t.false(over);
  queue.learn(4, 2);
  await waited;
  t.true(over);
});
