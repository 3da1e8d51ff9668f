import { DazzleError, findGroup, type MemberId } from "@dazzle/core";
import { scanGroup } from "@dazzle/log";
import test from "ava";
import { turnOf } from "../src/move-turn.ts";
import { Cluster, GROUP } from "./support/cluster.ts";
import { freeze, regroup } from "./support/moving.ts";
import { writeSegment } from "./support/segments.ts";

/** Turns after which the order begins anew. */
const period = (width: number) => width * Math.max(1, width - 1);
const upTo = (count: number) => Array.from({ length: count }, (_, index) => index);

test("each fragment has as many turns, whichever one is missing", (t) => {
  for (let width = 1; width <= 8; width++)
    for (const missing of width === 1 ? [-1] : [-1, ...upTo(width)]) {
      const held = upTo(width).filter((index) => index !== missing);
      const turns = new Map<number, number>();
      for (const turn of upTo(period(width))) {
        const index = turnOf(turn, width, held);
        turns.set(index, (turns.get(index) ?? 0) + 1);
      }
      t.deepEqual([...turns.keys()].sort(), held, `width=${width} missing=${missing}`);
      t.deepEqual(new Set(turns.values()), new Set([period(width) / held.length]), `width=${width} missing=${missing}`);
    }
});

test("who knows of fewer chooses another one only where it does not know of the first", (t) => {
  for (let width = 1; width <= 8; width++)
    for (const turn of upTo(period(width)))
      for (let bits = 1; bits < 1 << width; bits++) {
        const held = upTo(width).filter((index) => (bits & (1 << index)) !== 0);
        const chosen = turnOf(turn, width, held);
        for (const unknown of held)
          if (unknown !== chosen)
            t.true(
              turnOf(
                turn,
                width,
                held.filter((index) => index !== unknown),
              ) === chosen,
              `width=${width} turn=${turn} held=${held} without ${unknown}`,
            );
      }
});

test("of two servers that do not hear each other, while others hear both, each moves what it takes for its own, and nothing is nobody's", async (t) => {
  const cluster = await Cluster.start({ seed: 1, servers: 4 });
  const client = cluster.client();
  const writer = cluster.writer({ client });
  const count = 48;
  for (let sequence = 1; sequence <= count; sequence++) {
    writeSegment(writer, 30 * 1024);
    await cluster.run(writer.flush(sequence));
  }
  regroup(cluster, [1, 2, 3]);
  await freeze(cluster);
  await cluster.run(client.options.map.refresh());
  const group = findGroup(cluster.map, GROUP);
  for (const pair of [
    [1, 2],
    [1, 3],
    [2, 3],
    [3, 4],
  ]) {
    const found = new Set<number>();
    for (const self of [1, 2, 3, 4] as MemberId[]) {
      const unheard = pair.includes(self) ? cluster.server(pair.find((member) => member !== self) as number) : null;
      if (unheard !== null)
        unheard.intercept = () => {
          throw new DazzleError("unreachable", "it is not heard");
        };
      const move = { ...client.options, self, needed: async () => ({ live: null, trimmedTo: count }) };
      for (const { sequence } of (await cluster.run(scanGroup(move, group, false))).tasks) found.add(sequence);
      if (unheard !== null) unheard.intercept = null;
    }
    t.is(found.size, count, `${pair}`);
  }
});
