import { isDazzleError } from "@dazzle/core";
import test from "ava";
import { cutFrame, joinFrame } from "../src/frames.ts";
import { pattern } from "./helpers.ts";

test("a frame is read from any cut of its bytes", (t) => {
  const header = pattern(9, 1);
  const tail = [pattern(7, 2), pattern(5, 3)];
  const bytes = Buffer.concat(cutFrame({ header, tail }));
  for (let first = 0; first <= bytes.length; first++)
    for (let second = first; second <= bytes.length; second++) {
      const frame = joinFrame([bytes.subarray(0, first), bytes.subarray(first, second), bytes.subarray(second)]);
      t.deepEqual(Buffer.from(frame.header), Buffer.from(header));
      t.deepEqual(Buffer.concat(frame.tail), Buffer.concat(tail));
    }
});

test("a large tail is sent by reference, a small one in one piece with its header", (t) => {
  const large = pattern(100_000, 1);
  t.is(cutFrame({ header: pattern(5, 1), tail: [large] })[1]?.buffer, large.buffer);
  t.is(cutFrame({ header: pattern(5, 1), tail: [pattern(4096, 1), pattern(12, 1)] }).length, 1);
});

test("what is shorter than its header is refused", (t) => {
  for (const pieces of [[], [Buffer.alloc(3)], [Buffer.from([9, 0, 0, 0, 1])]])
    t.true(
      isDazzleError(
        t.throws(() => joinFrame(pieces)),
        "badMessage",
      ),
    );
});
