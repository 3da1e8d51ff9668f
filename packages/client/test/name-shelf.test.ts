import test from "ava";
import { NameShelf } from "../src/name-shelf.ts";
import { DirectoryState } from "../src/node.ts";

const child = (ino: number) => ({ ino, type: 8 });
const shelvedNames = (...names: string[]) => ({ names: new Map(names.map((name) => [name, child(1)])), knownTo: "z", since: 1 });

test("names are kept by directory, the last ones put, and taken once", (t) => {
  const shelf = new NameShelf({ directories: 2, names: 100 });
  shelf.put(1, shelvedNames("a"));
  const second = shelvedNames("b");
  shelf.put(2, second);
  shelf.put(3, shelvedNames("c"));
  t.is(shelf.take(1), null);
  t.is(shelf.take(2), second);
  t.is(shelf.take(2), null);
});

test("so many names are kept that what came last fits, and a directory that never fits takes no place", (t) => {
  const shelf = new NameShelf({ directories: 10, names: 4 });
  shelf.put(1, shelvedNames("a", "b"));
  shelf.put(1, shelvedNames("a", "b", "c"));
  shelf.put(2, shelvedNames("d"));
  shelf.put(3, shelvedNames("a", "b", "c", "d", "e"));
  t.is(shelf.take(3), null);
  shelf.put(4, shelvedNames("d", "e"));
  t.is(shelf.take(1), null);
  t.truthy(shelf.take(2));
  t.truthy(shelf.take(4));
});

/** All of "a" and "c" up to "m", and "x" by name. */
function partial(): DirectoryState {
  const state = new DirectoryState(false);
  state.learn("a", child(1));
  state.learn("c", child(2));
  state.learnedTo("m");
  state.learn("x", child(3));
  state.noteAbsent("y");
  return state;
}

const known = (state: DirectoryState, ...names: string[]) => names.map((name) => state.find(name)?.ino ?? state.find(name));

test("up to a name all are known, behind it those that were asked for", (t) => {
  const state = partial();
  t.deepEqual(known(state, "a", "b", "m", "n", "x", "y"), [1, null, null, undefined, 3, null]);
  state.remove("a");
  state.remove("x");
  t.deepEqual(known(state, "a", "n", "x"), [null, undefined, null]);
  state.learnedTo();
  t.true(state.complete);
  t.deepEqual(known(state, "n", "x", "ÿ".repeat(255)), [null, null, null]);
});

test("what was known before is known again with what has changed since, and absent names behind it are not", (t) => {
  const before = partial();
  const shelved = before.shelve(7);
  t.is(shelved?.since, 7);
  const state = new DirectoryState(false);
  if (shelved === null) return t.fail();
  state.recall(shelved, [
    ["a", null],
    ["b", child(4)],
    ["c", child(5)],
    ["x", null],
  ]);
  t.deepEqual(known(state, "a", "b", "c", "d", "x", "y"), [null, 4, 5, null, undefined, undefined]);
});

test("an answer that comes when the names are on the shelf changes nothing there", (t) => {
  const before = partial();
  const shelved = before.shelve(7);
  before.learn("b", child(9));
  before.learnedTo();
  t.false(shelved?.names.has("b"));
  t.is(shelved?.knownTo, "m");
});

test("what was on the shelf and not asked for goes back as it was; little is not kept", (t) => {
  const shelved = shelvedNames("a");
  const state = new DirectoryState(false);
  state.shelved = shelved;
  t.is(state.shelve(9), shelved);
  const other = new DirectoryState(false);
  other.learn("a", child(1));
  t.is(other.shelve(9), null);
});
