import {
  type Clock,
  type ClusterMap,
  DazzleError,
  deferred,
  findLog,
  LIMITS,
  type LogId,
  type LogState,
  MapCache,
  type MemberId,
  type Peers,
  sleep,
} from "@dazzle/core";
import { initialMap } from "@dazzle/manager";
import { World } from "@dazzle/sim";
import test from "ava";
import type { LogAccess } from "../src/log-access.ts";
import { OtherManagers } from "../src/moving/other-managers.ts";

const ME = 1 as MemberId;
const OTHER = 2 as MemberId;
const OWN_LOG = 7;
const OTHER_LOG = 8;
const LOOK_MS = 500;

function firstMap(state: LogState = "live"): ClusterMap {
  const members = [ME, OTHER].map((id) => ({
    id,
    name: `node${id}`,
    addresses: [`unix:node${id}`],
    roles: ["manager" as const, "keeper" as const],
    incarnation: 1,
    leaving: false,
    store: null,
  }));
  const map = initialMap({ clusterId: "0123456789abcdef0123456789abcdef", members, manager: OTHER });
  const logOf = (id: number, member: MemberId) => ({
    ...{ id: id as LogId, kind: "manager" as const, member, process: `node${member}`, state: member === OTHER ? state : "live" },
    ...{ groups: [], end: null, label: "" },
  });
  return {
    ...map,
    nextLog: 9,
    logs: [logOf(OWN_LOG, ME), logOf(OTHER_LOG, OTHER)],
    slots: map.slots.map((row) => ({ ...row, manager: OTHER, term: 1, chain: [{ log: OTHER_LOG as LogId, term: 1, end: null }] })),
  };
}

/** A manager beside one that is silent, and of which keepers have not heard for long where nothing else is said. */
class Bench {
  map: ClusterMap;
  serves = true;
  keepersHeardMs = 60_000;
  answers = false;
  refuses = false;
  keepersAnswer: Promise<void> = Promise.resolve();
  readonly warnings: string[] = [];
  nowMs = 0;
  #look = () => {};
  #lookAfterMs = 0;
  readonly others: OtherManagers;

  constructor(state?: LogState) {
    this.map = firstMap(state);
    const store = {
      read: async () => this.map,
      compareAndSwap: async (_expected: number, next: ClusterMap) => {
        this.map = next;
      },
    };
    const clock = {
      nowMs: () => this.nowMs,
      after: (ms: number, look: () => void) => {
        this.#look = look;
        this.#lookAfterMs = ms;
        return { cancel: () => {} };
      },
    } as unknown as Clock;
    const peers = {
      call: async (_member: MemberId, message: string) => {
        if (message === "leaseAsked") {
          await this.keepersAnswer;
          return { reply: { agoMs: this.keepersHeardMs }, tail: [] };
        }
        if (message === "managerAlive" && this.answers) return { reply: { log: OTHER_LOG }, tail: [] };
        throw new DazzleError("unreachable", "it does not answer");
      },
      isRefused: () => this.refuses,
    } as unknown as Peers;
    this.others = new OtherManagers({
      ...{ map: new MapCache(store, this.map), member: ME, process: "node1", log: OWN_LOG, logs: {} as LogAccess, peers, clock },
      ...{
        logger: (level: string, text: string) => void (level === "warning" && this.warnings.push(text)),
        limits: LIMITS,
        isServing: () => this.serves,
      },
    });
    this.others.start();
  }

  /** So many times half a second, in which it looks as often as it wants to. */
  async look(times: number): Promise<void> {
    for (const endMs = this.nowMs + times * LOOK_MS; this.nowMs < endMs; )
      await this.#lookAfter(Math.min(this.#lookAfterMs, endMs - this.nowMs));
  }

  /** Looks later than it wants to. */
  async lookLate(times: number, afterMs: number): Promise<void> {
    for (let time = 0; time < times; time++) await this.#lookAfter(afterMs);
  }

  async #lookAfter(ms: number): Promise<void> {
    this.nowMs += ms;
    this.#look();
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
  }

  get isGivenUp(): boolean {
    return this.map.slots.every(({ manager }) => manager === ME);
  }
}

/** Until a silent manager is given up by the first in turn: four renewals that it missed, which are as far apart as looks. */
const LOOKS_OF_SILENCE = 5;

test("a manager that is silent is given up, and not before", async (t) => {
  const bench = new Bench();
  await bench.look(LOOKS_OF_SILENCE - 2);
  t.false(bench.isGivenUp);
  await bench.look(2);
  t.true(bench.isGivenUp);
  t.is(findLog(bench.map, OTHER_LOG)?.state, "expelled");
});

test("one at whose address nobody listens is given up sooner, but not while keepers hear of it", async (t) => {
  const bench = new Bench();
  bench.refuses = true;
  bench.keepersHeardMs = LOOK_MS;
  await bench.look(3 * LOOKS_OF_SILENCE);
  t.false(bench.isGivenUp);
  bench.answers = true;
  await bench.look(2);
  bench.answers = false;
  bench.keepersHeardMs = 3 * LOOK_MS;
  await bench.look(2);
  t.false(bench.isGivenUp);
  await bench.look(1);
  t.true(bench.isGivenUp);
});

test("one that stopped by itself may start again within a lease", async (t) => {
  const bench = new Bench("ended");
  bench.refuses = true;
  await bench.look(LIMITS.managerLeaseMs / LOOK_MS);
  t.false(bench.isGivenUp);
  await bench.look(1);
  t.true(bench.isGivenUp);
});

test("one that answers while keepers are asked about it stays", async (t) => {
  const bench = new Bench();
  const asked = deferred();
  bench.keepersAnswer = asked.promise;
  await bench.look(2 * LOOKS_OF_SILENCE);
  bench.answers = true;
  await bench.look(2);
  asked.resolve();
  await bench.look(1);
  t.false(bench.isGivenUp);
});

test("what a manager slept through does not count as another one's silence", async (t) => {
  const bench = new Bench();
  await bench.look(2);
  await bench.lookLate(1, 60_000);
  await bench.look(LOOKS_OF_SILENCE - 4);
  t.false(bench.isGivenUp);
  await bench.look(4);
  t.true(bench.isGivenUp);
});

test("nor does what it sleeps a little again and again, while it watches closely", async (t) => {
  const bench = new Bench();
  await bench.look(2);
  await bench.lookLate(2 * LOOKS_OF_SILENCE, 900);
  t.false(bench.isGivenUp);
  await bench.look(LOOKS_OF_SILENCE);
  t.true(bench.isGivenUp);
});

test("silence counts only while a manager holds its own lease", async (t) => {
  const bench = new Bench();
  bench.serves = false;
  await bench.look(2 * LOOKS_OF_SILENCE);
  bench.serves = true;
  await bench.look(LOOKS_OF_SILENCE - 2);
  t.false(bench.isGivenUp);
  await bench.look(3);
  t.true(bench.isGivenUp);
});

test("that a manager goes on which does not answer is told once, and again where it did answer meanwhile", async (t) => {
  const bench = new Bench();
  bench.keepersHeardMs = LOOK_MS;
  await bench.look(4 * LOOKS_OF_SILENCE);
  t.false(bench.isGivenUp);
  t.deepEqual(bench.warnings, ["a manager that does not answer goes on"]);
  bench.answers = true;
  await bench.look(2);
  bench.answers = false;
  await bench.look(2 * LOOKS_OF_SILENCE);
  t.is(bench.warnings.length, 2);
});

test("a lease that is about to end is not outwaited by the question whether its manager's process is gone", async (t) => {
  const world = new World(1);
  const { clock, logger } = world.spawn("node1").ports;
  const leftMs = 100;
  const startMs = world.nowMs;
  const peers = {
    call: async (_member: MemberId, message: string, _request: object, { deadlineMs }: { deadlineMs: number }) => {
      if (message === "leaseLeft") return { reply: { leftMs: Math.max(0, startMs + leftMs - world.nowMs) }, tail: [] };
      await sleep(clock, deadlineMs);
      throw new DazzleError("timedOut", "its machine has vanished");
    },
  } as unknown as Peers;
  const map = firstMap("expelled");
  const others = new OtherManagers({
    ...{ map: new MapCache({ read: async () => map, compareAndSwap: async () => {} }, map), member: ME, process: "node1", log: OWN_LOG },
    ...{ logs: {} as LogAccess, peers, clock, logger, limits: LIMITS, isServing: () => true },
  });
  await world.run(others.ended(OTHER_LOG));
  const tookMs = world.nowMs - startMs;
  t.true(tookMs >= leftMs && tookMs < LOOK_MS, `${tookMs} ms`);
});
