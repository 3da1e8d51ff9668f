import { DazzleError, deferred, type Request, type RpcPeer } from "@dazzle/core";
import { World } from "@dazzle/sim";
import test from "ava";
import { type Ask, Asks } from "../src/asks.ts";
import { type ClaimPorts, Claims, type Holdings } from "../src/claims.ts";
import { IndexNumbers } from "../src/index-numbers.ts";
import { SlotQueue } from "../src/slot-queue.ts";

const SLOT = 3;
const INO = SLOT + 64;

/** A manager that takes claims, or refuses them. */
class Manager {
  readonly pages: Request<"claims">[] = [];
  failures = 0;

  get peer(): RpcPeer {
    const call = async (_name: string, claims: Request<"claims">) => {
      if (this.failures > 0) {
        this.failures--;
        throw new DazzleError("unreachable", "cut");
      }
      this.pages.push(claims);
      return { reply: {}, tail: [] };
    };
    return { call } as unknown as RpcPeer;
  }
}

function bench(held: () => Partial<Holdings>, changes: Partial<ClaimPorts> = {}) {
  const world = new World(1);
  const { clock, logger } = world.spawn("mount").ports;
  const manager = new Manager();
  const steps: string[] = [];
  const ports: ClaimPorts = {
    holdings: (slots) => {
      steps.push("held");
      return new Map([...slots].map((slot) => [slot, { exclusive: [], shared: [], ranges: [], opens: [], numbers: [], ...held() }]));
    },
    declareLocks: async () => void steps.push("locks"),
    attached: async () => manager.peer,
    whenFreedApplied: async () => void steps.push("applied"),
    ...changes,
  };
  const slots = Array.from({ length: 64 }, (_, slot) => new SlotQueue(slot));
  return { world, manager, steps, claims: new Claims({ mount: 9, slots, clock, logger, ports }) };
}

test("a claim ends when the locks are declared and what was done under tokens that went is applied, and a claim that failed is made up anew", async (t) => {
  const applied = deferred();
  let exclusive = [INO];
  const { world, manager, steps, claims } = bench(() => ({ exclusive, numbers: [SLOT + 128, 5] }), {
    whenFreedApplied: () => applied.promise,
  });
  manager.failures = 1;
  claims.claim(SLOT, 7);
  await world.run(() => manager.failures === 0);
  exclusive = [];
  await world.run(() => steps.includes("locks"));
  await world.advance(5_000);
  t.deepEqual(steps, ["held", "held", "locks"]);
  t.like(manager.pages, { length: 1, 0: { mount: 9, slot: SLOT, term: 7, page: 0, more: true, exclusive: [], numbers: [SLOT + 128, 5] } });
  applied.resolve();
  await world.run(() => claims.made === 1);
  t.like(manager.pages[1], { page: 1, more: false });
});

test("a large claim goes in pages", async (t) => {
  const exclusive = Array.from({ length: 25_000 }, (_, index) => SLOT + 64 * index);
  const { world, manager, claims } = bench(() => ({ exclusive }));
  claims.claim(SLOT, 7);
  await world.run(() => claims.made === 1);
  t.deepEqual(
    manager.pages.map(({ page, more }) => [page, more]),
    [
      [0, true],
      [1, true],
      [2, true],
      [3, false],
    ],
  );
  t.deepEqual(
    manager.pages.flatMap((page) => page.exclusive),
    exclusive,
  );
});

test("where another manager follows at once, only that one is told", async (t) => {
  const { world, manager, claims } = bench(() => ({}), {
    attached: async (_slot, term) => {
      if (term === 7) claims.claim(SLOT, 8);
      return term === 7 ? undefined : manager.peer;
    },
  });
  claims.claim(SLOT, 7);
  claims.claim(SLOT, 6);
  await world.run(() => claims.made === 1);
  t.deepEqual([...new Set(manager.pages.map(({ term }) => term))], [8]);
});

test("a token that the manager before granted, and whose answer comes after the claim, is none", async (t) => {
  const asks = new Asks();
  const answered = deferred();
  let asked: Ask | undefined;
  const asking = asks.ask(async (ask) => {
    asked = ask;
    await answered.promise;
    return [Asks.isVoid(ask, INO, 1), Asks.isVoid(ask, INO + 1, 1)];
  });
  t.false(Asks.isVoid(asked as Ask, INO, 1));
  asks.moved([SLOT]);
  answered.resolve();
  t.deepEqual(await asking, [true, false]);
  t.false(await asks.ask(async (ask) => Asks.isVoid(ask, INO, 1)));
});

test("index numbers that the manager before leased, and whose answer comes after the claim, are used by nobody", async (t) => {
  const answers = [deferred<{ first: number; count: number }>(), deferred<{ first: number; count: number }>()];
  let asked = 0;
  const numbers = new IndexNumbers(() => (answers[asked++] as (typeof answers)[number]).promise);
  const leasing = numbers.lease(SLOT);
  t.deepEqual(numbers.claimed(SLOT), []);
  answers[0]?.resolve({ first: INO, count: 5 });
  await leasing;
  t.is(numbers.take(SLOT), undefined);
  const again = numbers.lease(SLOT);
  answers[1]?.resolve({ first: INO + 640, count: 5 });
  await again;
  t.is(numbers.take(SLOT), INO + 640);
  t.deepEqual(numbers.claimed(SLOT), [INO + 640 + 64, 4]);
});
