import test from "ava";
import { answer, Needs, NeedsElsewhere, NeedsToken } from "../src/needs.ts";

const INO = 7;

/** An operation that takes a token, then waits for something, then is done. Answers whether the token was pinned while it waited. */
async function pinnedDuring(need: (overcome: () => Promise<unknown>) => Needs): Promise<{ meanwhile: number; afterwards: number }> {
  let pins = 0;
  let meanwhile = -1;
  const acquirePinned = async () => {
    pins++;
    return () => void pins--;
  };
  let attempts = 0;
  await answer(() => {
    attempts++;
    if (attempts === 1) throw new NeedsToken({ acquirePinned }, INO, false);
    if (attempts === 2)
      throw need(async () => {
        meanwhile = pins;
      });
  });
  return { meanwhile, afterwards: pins };
}

test("what is asked under a token is asked while it is pinned", async (t) => {
  t.deepEqual(await pinnedDuring((overcome) => new Needs(overcome)), { meanwhile: 1, afterwards: 0 });
});

test("nothing is pinned while an operation may wait for what another mount has", async (t) => {
  t.deepEqual(await pinnedDuring((overcome) => new NeedsElsewhere(overcome)), { meanwhile: 0, afterwards: 0 });
});
