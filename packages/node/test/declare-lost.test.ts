import { type ClusterMap, DazzleError, LIMITS, MapCache, type MemberId, type Peers, type StoreId } from "@dazzle/core";
import test from "ava";
import { registerStore } from "../src/admitted-store.ts";
import { groupHandlers } from "../src/group-handlers.ts";

const [LOST, OTHER, SPARE] = [1 as MemberId, 2 as MemberId, 3 as MemberId];
const storeOf = (id: number) => String(id).repeat(32) as StoreId;
const CONTEXT = {} as never;
const SILENT = () => {};

/** A mirrored group of two, and one server in none. Every process answers, and the disk of the first hangs. */
function clusterOf() {
  const members = [LOST, OTHER, SPARE].map((id) => ({
    ...{ id, name: `m${id}`, addresses: [], roles: ["storage"], incarnation: 2, leaving: false, store: storeOf(id) },
  }));
  const servers = [LOST, OTHER].map((member) => ({ member, store: storeOf(member) }));
  const version = { version: 1, servers, dataFragments: 1, parityFragments: 1, frozen: null };
  const group = { id: 1, name: "main", parity: 1, wanted: [LOST, OTHER], versions: [version] };
  let current = { version: 1, members, logs: [], slots: [], groups: [group] } as unknown as ClusterMap;
  const compareAndSwap = async (_expected: number, next: ClusterMap) => {
    current = next;
  };
  const map = new MapCache({ read: async () => current, compareAndSwap }, current);
  const answers: Record<string, (member: MemberId) => unknown> = {
    reaches: () => ({ reached: false }),
    stat: (member) => ({ store: storeOf(member) }),
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
  const add = () => handlers.changeGroup?.({ group: "main", change: "add", servers: ["m1"], parity: 1, force: false }, CONTEXT);
  return { map, listed, declareLost, add };
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
