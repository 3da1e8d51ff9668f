import test from "ava";
import {
  apply,
  checkPrefix,
  GARBAGE,
  granuleBytes,
  type Operation,
  OperationStream,
  operationOf,
  type Tree,
  ZEROS,
} from "./support/operations.ts";

const SEED = 7;

function treeAfter(count: number): Tree {
  const stream = new OperationStream(SEED);
  while (stream.number < count) stream.next();
  return new Map(stream.tree);
}

/** The first operation after `from` of a type, with its number. */
function findOperation<Type extends Operation["type"]>(type: Type, from: number, fits = (_: Operation & { type: Type }) => true) {
  const stream = new OperationStream(SEED);
  for (;;) {
    const operation = stream.next();
    if (stream.number > from && operation.type === type && fits(operation as Operation & { type: Type })) {
      return { number: stream.number, operation: operation as Operation & { type: Type } };
    }
  }
}

test("the tree after every prefix that is allowed is recognised", (t) => {
  for (const count of [300, 301, 350, 400]) t.is(typeof checkPrefix(SEED, treeAfter(count), 300, 400).prefix, "number", `${count}`);
  t.is(checkPrefix(SEED, treeAfter(400), 300, 400).prefix, 400);
  t.is(checkPrefix(SEED, new Map(), 0, 10).prefix, 0);
});

test("a tree from before the last fsync is not accepted", (t) => {
  const { number } = findOperation("create", 300);
  const { prefix, complaint } = checkPrefix(SEED, treeAfter(number - 1), number, number + 50);
  t.is(prefix, undefined);
  t.regex(complaint, /is missing/);
});

test("an operation without an earlier one is not a prefix", (t) => {
  const { number, operation } = findOperation("rename", 300);
  const seen = treeAfter(number - 1);
  const stream = new OperationStream(SEED);
  while (stream.number < number) stream.next();
  const later = stream.next();
  apply(seen, later, stream.number);
  t.true(later.type !== "fsync" && later.path !== operation.path);
  t.is(checkPrefix(SEED, seen, 0, number + 20).prefix, undefined);
});

test("a file's zeros, garbage, missing end and stale content are told apart", (t) => {
  const seen = treeAfter(300);
  const [path, content] = [...seen].find(([, granules]) => granules !== null && granules.length > 4) as [string, number[]];
  const damaged = (granules: readonly number[]) => checkPrefix(SEED, new Map(seen).set(path, granules), 300, 300).complaint;
  t.regex(damaged(content.with(2, ZEROS)), /KiB 2 of \d+ it is zeros/);
  t.regex(damaged(content.with(2, GARBAGE)), /is garbage/);
  t.regex(damaged(content.slice(0, 3)), /KiB 3 of \d+ it ends/);
  t.regex(damaged([...content, 1]), /has \d+ KiB and not/);
  t.regex(damaged(content.with(0, 1)), /is of operation 1/);
});

test("the first part of the next write may be there, its last part alone may not", (t) => {
  const { number, operation } = findOperation("write", 300, ({ count }) => count > 4);
  const seen = treeAfter(number - 1);
  const old = seen.get(operation.path) as readonly number[];
  const first = old.slice();
  first[operation.granule] = number;
  first[operation.granule + 1] = number;
  t.is(checkPrefix(SEED, new Map(seen).set(operation.path, first), number - 1, number).prefix, number - 1);
  const last = Array.from({ length: Math.max(old.length, operation.granule + operation.count) }, (_, index) => old[index] ?? ZEROS);
  last[operation.granule + operation.count - 1] = number;
  t.is(checkPrefix(SEED, new Map(seen).set(operation.path, last), number - 1, number).prefix, undefined);
});

test("bytes tell the operation that wrote them, and only at their place", (t) => {
  t.is(operationOf(SEED, granuleBytes(SEED, 12, 3), 3), 12);
  t.is(operationOf(SEED, granuleBytes(SEED, 12, 3), 4), GARBAGE);
  t.is(operationOf(SEED, granuleBytes(SEED + 1, 12, 3), 3), GARBAGE);
  t.is(operationOf(SEED, granuleBytes(SEED, 12, 3).subarray(0, 100), 3), GARBAGE);
  t.is(operationOf(SEED, Buffer.alloc(1024), 3), ZEROS);
  const torn = Buffer.concat([granuleBytes(SEED, 12, 3).subarray(0, 512), Buffer.alloc(512)]);
  t.is(operationOf(SEED, torn, 3), GARBAGE);
});
