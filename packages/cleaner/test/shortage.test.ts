import type { Request } from "@dazzle/core";
import test from "ava";
import { Shortage } from "../src/shortage.ts";
import { oneMember } from "./support/one-member.ts";

const NOTHING_CLEANED = { segments: 0, skipped: 0, bytesRead: 0, bytesWritten: 0, bytesWon: 0, stored: 0, storedBytes: 0, liveBytes: 0 };

test("leaders are told that a server's space is short, once a second, and when nobody has found it so for a while", async (t) => {
  const told: boolean[] = [];
  const clean = ({ stop }: Request<"clean">) => {
    told.push(stop);
    return { reply: { ...NOTHING_CLEANED, done: false } };
  };
  const { world, ...options } = oneMember({ clean });
  const shortage = new Shortage(options);
  for (let times = 0; times < 5; times++) {
    shortage.found();
    await world.advance(300);
  }
  t.deepEqual(told, [false, false]);
  await world.advance(10_000);
  t.deepEqual(told, [false, false, true]);
  shortage.stop();
  shortage.found();
  await world.advance(10_000);
  t.deepEqual(told, [false, false, true]);
});
