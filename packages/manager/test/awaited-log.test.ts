import type { ClusterMap, GroupVersion, MemberId, StoreId } from "@dazzle/core";
import test from "ava";
import { initialMap } from "../src/map/initial-map.ts";
import { isAwaited } from "../src/shard/awaited-log.ts";

const LOG = 7;
const storeOf = (id: number) => String(id).repeat(32) as StoreId;

/** A group whose first version has the first server alone, and whose second one both. */
function mapOf(
  frozen: Readonly<Record<string, number>> | null,
  changes: { readonly first?: readonly number[]; readonly leaving?: boolean } = {},
) {
  const member = { addresses: [], roles: ["storage" as const, "keeper" as const], incarnation: 1, leaving: changes.leaving ?? false };
  const members = [1, 2].map((id) => ({ ...member, id: id as MemberId, name: `m${id}`, store: storeOf(id) }));
  const version = (number: number, ids: readonly number[]) => ({
    version: number as GroupVersion,
    servers: ids.map((id) => ({ member: id as MemberId, store: storeOf(id) })),
    dataFragments: 1,
    parityFragments: ids.length - 1,
    frozen: number === 1 ? frozen : null,
  });
  const wanted = [1, 2] as MemberId[];
  const group = { id: 1, name: "main", parity: 1, wanted, versions: [version(1, changes.first ?? [1]), version(2, [1, 2])] };
  return {
    ...initialMap({ clusterId: "0123456789abcdef0123456789abcdef", members, manager: 1 as MemberId }),
    groups: [group],
  } as ClusterMap;
}

test("a manager's log is waited for while an outdated version has what it is not trimmed to, and while a member leaves", (t) => {
  const log = { log: LOG, trimmedTo: 4 };
  t.true(isAwaited(mapOf({ [LOG]: 5 }), log));
  t.false(isAwaited(mapOf({ [LOG]: 4 }), log));
  t.false(isAwaited(mapOf({ [LOG + 1]: 5 }), log));
  t.false(isAwaited(mapOf(null), log), "nothing is moved before it is frozen");
  t.false(isAwaited(mapOf({ [LOG]: 5 }, { first: [1, 2] }), log), "that version stays");
  t.true(isAwaited(mapOf(null, { leaving: true }), log));
});
