import { type ClusterMap, DazzleError, type GroupChange, LIMITS, MapCache, type MemberId, type Peers, type StoreId } from "@dazzle/core";
import test from "ava";
import { registerStore } from "../src/admitted-store.ts";
import { groupHandlers } from "../src/group-handlers.ts";

const [LOST, OTHER] = [1 as MemberId, 2 as MemberId];
const storeOf = (id: number) => String(id).repeat(32) as StoreId;
const [STORED, NEEDED] = [3, [1, 3]];
const EMPTY_LIST = { fragments: [], more: false, stableSequence: STORED, trimmedTo: STORED, vouched: true, boot: "boot" };
const CONTEXT = {} as never;
const SILENT = () => {};

/** A mirrored group of two, of which the first stored alone before. Every process answers, and the disk of the first hangs. */
function clusterOf() {
  const members = [LOST, OTHER].map((id) => ({
    ...{ id, name: `m${id}`, addresses: [], roles: ["storage"], incarnation: 2, leaving: false, store: storeOf(id) },
  }));
  const servers = [LOST, OTHER].map((member) => ({ member, store: storeOf(member) }));
  const versions = [
    { version: 1, servers: servers.slice(0, 1), dataFragments: 1, parityFragments: 0, frozen: { 1: STORED } },
    { version: 2, servers, dataFragments: 1, parityFragments: 1, frozen: null },
  ];
  const log = { id: 1, kind: "mount", state: "live", groups: [1], end: null, member: OTHER, process: "", label: "" };
  const slots = [{ manager: OTHER, term: 1, chain: [] }];
  const group = { id: 1, name: "main", parity: 1, wanted: [LOST, OTHER], versions };
  let current = { version: 1, members, logs: [log], slots, groups: [group] } as unknown as ClusterMap;
  const compareAndSwap = async (_expected: number, next: ClusterMap) => {
    current = next;
  };
  const map = new MapCache({ read: async () => current, compareAndSwap }, current);
  const answers: Record<string, (member: MemberId) => unknown> = {
    reaches: () => ({ reached: false }),
    stat: (member) => ({ store: storeOf(member) }),
    list: () => EMPTY_LIST,
    liveAmong: () => ({ live: NEEDED, trimmedTo: STORED, slots: [0], terms: [1] }),
  };
  const call = async (member: MemberId, message: string) => {
    const answer = answers[message];
    if (answer === undefined) throw new DazzleError("unreachable", `${message} to m${member}`);
    return { reply: answer(member) };
  };
  const peers = { self: OTHER, call } as unknown as Peers;
  const handlers = groupHandlers({ map, peers, ports: { clock: {} as never, logger: SILENT }, limits: LIMITS });
  const listed = () => current.members.find(({ id }) => id === LOST)?.store;
  const declareLost = (force = true) => handlers.declareLost?.({ server: "m1", force }, CONTEXT);
  const change = (asked: Pick<GroupChange, "change" | "servers" | "force">) =>
    handlers.changeGroup?.({ group: "main", parity: 1, ...asked }, CONTEXT);
  const add = () => change({ change: "add", servers: ["m1"], force: false });
  const replace = (force = true) => change({ change: "replace", servers: ["m1", "m1"], force });
  return { map, answers, listed, declareLost, add, replace };
}

/** What follows of it at once has happened. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

test("a store that is declared lost while its process lives stays so until no version lists it, and its disk does what it is asked", async (t) => {
  const { map, listed, declareLost, add } = clusterOf();
  let isWell = false;
  await registerStore(map, LOST, storeOf(LOST), SILENT, () => isWell);
  const changed = async (change: (now: ClusterMap) => ClusterMap) => {
    await map.change(change);
    await settled();
    return listed();
  };
  await declareLost();
  await settled();
  t.is(listed(), null);
  await t.throwsAsync(async () => add(), { code: "notReady", message: /m1 has no store: start dazzle node there, anew/ });
  isWell = true;
  t.is(await changed((now) => ({ ...now })), null);
  isWell = false;
  const moved = (now: ClusterMap) => ({ ...now, groups: now.groups.map((group) => ({ ...group, versions: group.versions.slice(-1) })) });
  t.is(await changed(moved), null);
  isWell = true;
  t.is(await changed((now) => ({ ...now })), storeOf(LOST));
  await add();
  t.deepEqual(map.current.groups[0]?.wanted, [OTHER, LOST]);
});

test("a store that was declared lost is registered when its process starts", async (t) => {
  const { map, listed, declareLost, add } = clusterOf();
  await declareLost();
  await registerStore(map, LOST, storeOf(LOST), SILENT, () => true);
  t.is(listed(), storeOf(LOST));
  await add();
  t.deepEqual(map.current.groups[0]?.wanted, [OTHER, LOST]);
});

test("a directory that came in the place of a store that is declared lost is registered at once", async (t) => {
  const { map, listed, declareLost } = clusterOf();
  await registerStore(map, LOST, storeOf(9), SILENT, () => true);
  t.is(listed(), storeOf(LOST));
  await declareLost();
  await settled();
  t.is(listed(), storeOf(9));
});

test("who declares a server lost again is told as before how many segments are lost, or that nobody can tell any more", async (t) => {
  const { answers, declareLost } = clusterOf();
  await t.throwsAsync(async () => declareLost(false), { code: "invalid", message: /2 segments are lost with m1/ });
  t.like(await declareLost(), { reply: { lost: NEEDED.length } });
  t.like(await declareLost(false), { reply: { lost: NEEDED.length } });
  delete answers.liveAmong;
  t.like(await declareLost(false), { reply: { lost: -1 } });
});

test("who replaces a server by itself again is told how many segments are lost with what it had, and not what is on its new store by now", async (t) => {
  const { answers, replace } = clusterOf();
  answers.stat = (member) => ({ store: storeOf(member === LOST ? 9 : member) });
  t.like(await replace(), { reply: { version: 3, lost: NEEDED.length } });
  t.like(await replace(false), { reply: { version: 3, lost: NEEDED.length } });
  const moved = { sequence: 3, group: 1, groupVersion: 3, index: 0, dataFragments: 1, parityFragments: 1, payloadBytes: 4_096 };
  answers.list = (member) => ({ ...EMPTY_LIST, fragments: member === LOST ? [moved] : [] });
  t.like(await replace(false), { reply: { version: 3, lost: NEEDED.length - 1 } });
});
