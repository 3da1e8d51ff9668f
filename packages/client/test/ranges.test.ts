import { NO_REGIONS, type RegionRange, WHOLE_FILE } from "@dazzle/core";
import test from "ava";
import { Node, S_IFREG } from "../src/node.ts";
import { keptBeside } from "../src/ranges.ts";

const NOW_MS = 50_000;
const END = WHOLE_FILE.to;

function node(written: number | null, range: RegionRange = WHOLE_FILE): Node {
  const inode = {
    ino: 65,
    mode: S_IFREG | 0o644,
    nlink: 1,
    uid: 0,
    gid: 0,
    rdev: 0,
    size: 0,
    allocatedBlocks: 0,
    parent: 1,
    truncateEpoch: 0,
    atimeNs: 0n,
    mtimeNs: 0n,
    ctimeNs: 0n,
    birthNs: 0n,
    target: "",
  };
  const made = new Node(inode, range === WHOLE_FILE ? "exclusive" : "range", false);
  made.range = range;
  if (written !== null) made.written = { region: written, atMs: NOW_MS - 100 };
  return made;
}

test("who writes below what another one wants keeps all before that, who writes above keeps from its place on", (t) => {
  t.deepEqual(keptBeside(node(3), { from: 10, to: 11 }, NOW_MS), { from: 0, to: 10 });
  t.deepEqual(keptBeside(node(3), { from: 0, to: 2 }, NOW_MS), { from: 3, to: END });
  t.deepEqual(keptBeside(node(3), { from: 0, to: 3 }, NOW_MS), { from: 3, to: END });
  t.deepEqual(keptBeside(node(5, { from: 4, to: 9 }), { from: 8, to: 20 }, NOW_MS), { from: 4, to: 8 });
  t.deepEqual(keptBeside(node(5, { from: 4, to: 9 }), { from: 0, to: 5 }, NOW_MS), { from: 5, to: 9 });
});

test("who writes where another one wants to, has not written lately, or wants all of it, keeps nothing", (t) => {
  t.deepEqual(keptBeside(node(3), { from: 3, to: 4 }, NOW_MS), NO_REGIONS);
  t.deepEqual(keptBeside(node(3), { from: 0, to: 9 }, NOW_MS), NO_REGIONS);
  t.deepEqual(keptBeside(node(3), WHOLE_FILE, NOW_MS), NO_REGIONS);
  t.deepEqual(keptBeside(node(null), { from: 3, to: 4 }, NOW_MS), NO_REGIONS);
  t.deepEqual(keptBeside(node(3), { from: 10, to: 11 }, NOW_MS + 5_000), NO_REGIONS);
  // Written before it was narrowed.
  t.deepEqual(keptBeside(node(3, { from: 20, to: 30 }), { from: 25, to: 26 }, NOW_MS), NO_REGIONS);
});

test("a node that is here in part is asserted to be written in that part, and nothing else of it changed", (t) => {
  const part = node(5, { from: 4, to: 9 });
  part.inodeDirty = true;
  [part.openFrom, part.openTo] = [4 * 256, 9 * 256];
  t.notThrows(() => part.checkInvariants());
  part.openTo++;
  t.throws(() => part.checkInvariants(), { message: /within its range 4-9/ });
  part.openTo--;
  part.cuts = { truncateFrom: 0, punched: [] };
  t.throws(() => part.checkInvariants(), { message: /only written/ });
});
