import { DazzleError } from "@dazzle/core";
import test from "ava";
import { Releases } from "../src/releases.ts";
import type { SlotLink } from "../src/slot-link.ts";

function releases() {
  const sent: number[][] = [];
  const state: { failure: DazzleError | null } = { failure: null };
  const link = {
    member: 1,
    callOnce: async (_message: string, { inos }: { inos: number[] }) => {
      sent.push(inos);
      if (state.failure !== null) throw state.failure;
    },
  } as unknown as SlotLink;
  return { sent, state, releases: new Releases({ mount: 9, links: () => link, logger: () => {} }) };
}

const lost = () => new DazzleError("unreachable", "the connection ended");
const never = () => false;
const answered = () => new Promise((resolve) => setImmediate(resolve));

test("tokens of which it is not known whether the manager heard of them are given back again, but for those that are here again", async (t) => {
  const { releases: given, sent, state } = releases();
  state.failure = lost();
  for (const ino of [1, 2, 3]) given.add(ino);
  given.send(never);
  await answered();
  state.failure = null;
  given.add(4);
  t.deepEqual(given.send(never), [4], "not with a question, which may be about them");
  given.again();
  t.deepEqual(
    given.send((ino) => ino === 2),
    [1, 3],
  );
  await answered();
  given.again();
  given.send(never);
  t.deepEqual(sent, [[1, 2, 3], [4], [1, 3]]);
});

test("a manager that is away makes a mount remember no more than so many, and one that refuses none", async (t) => {
  const { releases: given, state } = releases();
  state.failure = lost();
  for (let ino = 1; ino <= 20_000; ino++) {
    given.add(ino);
    if (given.isFull) given.send(never);
  }
  await answered();
  given.again();
  t.is(given.send(never).length, 8_000);
  await answered();
  state.failure = new DazzleError("expelled", "the mount is expelled");
  given.again();
  given.send(never);
  await answered();
  given.again();
  t.is(given.send(never).length, 0);
});
